"""The cascade as a model of the suite: its masks, and its training on pairs whose points it does not look at."""

from __future__ import annotations

import importlib.util
import json

import pytest
import torch
from accelerate import Accelerator

from baselines.cascade import Cascade
from baselines.checkpoints import load_checkpoint
from benchmark.running.arguments import RunOptions
from benchmark.running.run import Run
from sc_imagenet.core.errors import InputError
from sc_imagenet.data.load import load_dataset
from sc_imagenet.data.pairs import PairDataset
from sc_imagenet.generation.cascade.network import load_network
from sc_imagenet.generation.cascade.options import STAGES, read_as_then
from tests.fuzz.parsers.onnx_models import model as onnx_model

SMALL = {"fold": 2, "window": 3, "volume_width": 8, "attention_width": 16}


@pytest.fixture(scope="module")
def batch():
    """Four pairs of toy, each of another class than the next."""
    rows = load_dataset("toy", split="train")
    numbers, seen = [], None
    for number, category in enumerate(rows["category"]):
        if category != seen:
            numbers.append(number)
            seen = category
    cascade = Cascade(size=96, network=SMALL)
    pairs = PairDataset(rows, cascade.size, cascade.mean, cascade.std, seed=0)
    items = [pairs[number] for number in numbers[:4]]
    return {side: torch.stack([item[side] for item in items]) for side in ("source", "target")}


def test_training_on_pairs_moves_every_stage_and_lowers_its_losses(batch):
    torch.manual_seed(0)
    cascade = Cascade(size=96, network=SMALL)
    start = {name: value.clone() for name, value in cascade.network.state_dict().items()}
    optimiser = torch.optim.AdamW([each for each in cascade.parameters() if each.requires_grad], lr=3e-3)
    losses = []
    for _ in range(15):
        optimiser.zero_grad()
        loss = cascade.training_loss(batch, 0)
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    assert losses[-1] < losses[0] - 0.3
    moved = {name for name, value in cascade.network.state_dict().items() if not torch.equal(value, start[name])}
    assert {stage for stage in STAGES if any(f"stages.{stage}." in name for name in moved)} == set(STAGES)
    assert [name for name in moved if "stages.image." in name] == ["stages.image.attention.layers.0.projection.weight"]


def test_options_of_the_training_reach_it(batch):
    torch.manual_seed(0)
    cascade = Cascade(size=96, network=SMALL)
    before = cascade.training_loss(batch, 0).item()
    cascade.set_training_arguments({"training_options": {"image_trains": "all", "class_loss": "literal"}})
    assert cascade.training_loss(batch, 0).item() != before
    assert all(each.requires_grad for each in cascade.network.stages["image"].parameters())
    assert cascade.arguments["training_options"]["class_loss"] == "literal"
    with pytest.raises(InputError, match="unknown option 'clas_loss'"):
        Cascade(size=96, network=SMALL, training_options={"clas_loss": "literal"})
    with pytest.raises(InputError, match="network is none of the training_options"):
        Cascade(size=96, network=SMALL, training_options={"network": {}})


def test_masks_of_a_folder_are_refused_where_photographs_have_no_names(tmp_path):
    with pytest.raises(InputError, match="pairs come without"):
        Cascade(size=96, network=SMALL, saliency=str(tmp_path))


@pytest.mark.skipif(importlib.util.find_spec("onnxruntime") is None, reason="onnxruntime is not installed")
def test_a_saliency_model_says_whose_votes_count(batch, tmp_path):
    (tmp_path / "mask.onnx").write_bytes(onnx_model(96, 96))
    scores, masks = [], []
    for saliency in ("features", str(tmp_path / "mask.onnx")):
        torch.manual_seed(0)
        cascade = Cascade(size=96, network=SMALL, saliency=saliency).eval()
        with torch.no_grad():
            masks.append(cascade._masks(batch["source"], cascade.backbone(batch["source"])))
            scores.append(cascade(batch["source"], batch["target"]).volume)
    assert masks[0].shape == masks[1].shape == (4, 36)
    assert ((masks[1] >= 0) & (masks[1] <= 1)).all()
    assert not torch.allclose(masks[0], masks[1], atol=0.1)
    assert not torch.allclose(scores[0], scores[1], atol=1e-3)


def test_what_is_typed_holds_for_a_trained_network_too(tmp_path):
    """Read by another stage and without Hough scores, as the generator's page shows; all else is as it was trained."""
    Cascade(size=96, network=SMALL, pretrained=False).save_pretrained(tmp_path / "model")
    typed = {"recipe.model.stage": "image", "recipe.model.network": '{"hough": false}'}
    options = RunOptions(model="cascade", evaluate=("toy",), checkpoint=str(tmp_path / "model"), settings=typed)
    arguments = Run(options, Accelerator(cpu=True)).config.arguments
    assert arguments == {"stage": "image", "network": {"hough": False}}
    read, _ = load_checkpoint("cascade", tmp_path / "model", arguments)
    assert read.stage == "image"
    assert not read.network.options.hough
    assert read.network.options.fold == SMALL["fold"]


def test_a_network_of_an_earlier_version_is_read_as_it_was(tmp_path):
    """Before features were standardised and pooled, scores balanced, stages joined: its config.json tells of none."""
    then = {"layers": (5, 7), "pooling": 1.0, "standardise": False}
    network = {**SMALL, "balanced": False, "joined": False}
    cascade = Cascade(size=96, pretrained=False, network=network, **then).eval()
    with torch.no_grad():
        cascade.network.stage("pixel").attention.layers[0].projection.weight.normal_()
    cascade.save_pretrained(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    del config["pooling"], config["standardise"], config["network"]["balanced"], config["network"]["joined"]
    (tmp_path / "config.json").write_text(json.dumps({**config, "layers": None}))
    images = torch.randn(2, 3, 96, 96, generator=torch.Generator().manual_seed(0))
    loaded = (Cascade.from_pretrained(tmp_path), load_checkpoint("cascade", tmp_path)[0])
    with torch.no_grad():
        wanted = cascade(images[:1], images[1:]).volume
        for read in loaded:
            torch.testing.assert_close(read(images[:1], images[1:]).volume, wanted)
    reader, network = load_network(tmp_path)
    torch.testing.assert_close(reader(images).tokens, cascade.backbone(images).tokens)
    assert not network.options.balanced
    assert not network.options.joined


def test_stages_that_share_their_attention_are_saved_and_read(tmp_path):
    cascade = Cascade(size=96, pretrained=False, network={**SMALL, "shared_attention": True}).eval()
    with torch.no_grad():
        cascade.network.stage("image").attention.layers[0].projection.weight.normal_()
    cascade.save_pretrained(tmp_path)
    images = torch.randn(2, 3, 96, 96, generator=torch.Generator().manual_seed(0))
    read = Cascade.from_pretrained(tmp_path)
    assert read.network.stage("pixel").attention is read.network.stage("image").attention
    with torch.no_grad():
        wanted = cascade(images[:1], images[1:]).volume
        torch.testing.assert_close(read(images[:1], images[1:]).volume, wanted)


def test_a_tag_behind_the_backbones_name_changes_nothing_and_no_network_is_one_line(tmp_path):
    then = {"backbone": "tf_efficientnet_lite0.in1k", "network": {"fold": 2}}
    assert read_as_then(then)["layers"] == [5, 7]
    assert read_as_then({"backbone": "resnet10t"})["layers"] is None
    assert read_as_then({**then, "layers": [3]})["layers"] == [3]
    Cascade(size=96, network=SMALL, pretrained=False).save_pretrained(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    del config["pooling"]
    for network in ([1], "small", 3):
        (tmp_path / "config.json").write_text(json.dumps({**config, "network": network}))
        with pytest.raises(InputError):
            load_checkpoint("cascade", tmp_path)
        with pytest.raises(InputError):
            load_network(tmp_path)


@pytest.mark.parametrize(("stage", "holds"), [("recipe", True), ("finetune", True), ("pretrain", False)])
def test_what_is_typed_for_an_earlier_stage_does_not_change_how_a_checkpoint_is_built(tmp_path, stage, holds):
    Cascade(size=96, network=SMALL, pretrained=False).save_pretrained(tmp_path / "model")
    options = RunOptions(
        model="cascade",
        preset="tiny",
        pretrain="toy",
        finetune="toy",
        checkpoint=str(tmp_path / "model"),
        settings={f"{stage}.model.size": "128"},
    )
    arguments = Run(options, Accelerator(cpu=True)).config.arguments
    assert arguments.get("size") == (128 if holds else None)
