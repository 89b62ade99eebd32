"""The stages of the cascade's training: their order, what tells that one is worse than none, what they learn."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from accelerate import Accelerator
from PIL import Image
from safetensors.torch import load_file
from torchvision.transforms.v2.functional import pil_to_tensor

from baselines.cascade import Cascade
from benchmark.running.cascade import CascadeTraining, train, untrained
from benchmark.running.generate import training_options
from sc_imagenet.core.errors import InputError
from sc_imagenet.data.batches import load_batches
from sc_imagenet.data.load import load_dataset
from sc_imagenet.data.pairs import PairDataset
from sc_imagenet.data.roots import open_source
from sc_imagenet.generation.cascade.alarm import TEMPERATURES, closing_of, loop_offsets
from sc_imagenet.generation.cascade.network import CascadeNetwork, load_network
from sc_imagenet.generation.cascade.options import STAGES, NetworkOptions, TrainingOptions, paper_options, small_options
from sc_imagenet.generation.cascade.training_pairs import Draws
from sc_imagenet.generation.cascade.view_features import Step, Views
from sc_imagenet.generation.cascade.view_sources import WindowReader
from sc_imagenet.generation.cascade.views import View
from sc_imagenet.generation.features import Features
from sc_imagenet.generation.photographs import scan_kept
from sc_imagenet.geometry.resize import normalised_image
from tests.benchmark.running.cascade_trainings import SMALL, discs_and_crosses, losses_of, options

PHOTOGRAPHS, TOY_STEPS = 20, 60  # of each class of toy; a minute of one core


@pytest.fixture(scope="module")
def photographs(tmp_path_factory):
    return discs_and_crosses(tmp_path_factory.mktemp("photographs"))


@pytest.fixture(scope="module")
def many(tmp_path_factory):
    """So many of each class that three can be spared for the loops that tell a stage's worth."""
    return discs_and_crosses(tmp_path_factory.mktemp("many"), 12)


def test_stages_are_trained_one_after_the_other_each_beginning_as_the_one_before_it(many, tmp_path):
    """Of 20 steps the image stage has 5, the region stage 3."""
    given = options(lr=3e-3)
    folder = train(given, many, tmp_path, max_steps=20, keep_every=4)
    assert [set(line) & set(STAGES) for line in losses_of(tmp_path)] == [{"pixel"}, {"pixel"}]
    told = json.loads((folder / "trained_on.json").read_text())["stages"]
    assert list(told) == list(STAGES)
    kept = {int(path.name): Cascade.from_pretrained(path).network.state_dict() for path in tmp_path.glob("steps/*")}
    assert sorted(kept) == [0, 4, 8, 12, 16]
    moved = [
        {
            stage
            for stage in STAGES
            for name in kept[0]
            if stage in name and not torch.equal(kept[a][name], kept[b][name])
        }
        for a, b in zip(sorted(kept), sorted(kept)[1:])
    ]
    assert moved[0] == {"image"}
    assert "region" in moved[1]
    assert "pixel" not in moved[1]
    assert moved[3] == {"pixel"}
    trained = Cascade.from_pretrained(folder).network
    assert trained.options.temperatures == tuple(told[stage]["temperature"] for stage in STAGES)
    assert load_network(folder)[1].options == trained.options


class OneScene:
    """Photographs of two classes that all show one scene, each cell of it another."""

    classes = (0,) * 9 + (1,) * 9

    def __init__(self, channels: int) -> None:
        tokens = F.normalize(torch.randn(1, channels, 8, 8, generator=torch.Generator().manual_seed(0)), dim=1)
        self.features = Features(tokens, tokens.mean((2, 3)))

    def steps(self, draws: Draws, start: int, stop: int, device: torch.device) -> Iterator[Step]:
        for number in range(start, stop):
            count = len(draws.at(number).source)
            placements = torch.tensor(View().placement()).expand(count, -1)
            yield Step(*[Views(self.features[[0] * count], torch.ones(count, 64), placements)] * 5)


def test_a_stage_that_loops_show_to_be_worse_is_undone_and_named(tmp_path, caplog):
    given = options(views=1, network={**SMALL, "stages": "image"})
    cascade = untrained(given)
    views = OneScene(cascade.backbone.channels)
    training = CascadeTraining(given, views, cascade, tmp_path, Accelerator(cpu=True), {}, max_steps=4)
    weight = cascade.network.stages["image"].attention.layers[0].projection.weight
    training._check(("image",))
    assert not training.checked["image"]["reset"]
    assert training.checked["image"]["offset"] < 0.1
    assert not caplog.records
    with torch.no_grad():
        weight.fill_(100.0)  # all tokens become alike, as the literal class loss has them
    training._check(("image",))
    assert training.checked["image"]["reset"]
    assert training.checked["image"]["offset"] < 0.1
    assert not weight.any()
    (line,) = [record.getMessage() for record in caplog.records]
    assert "by the image stage" in line
    assert "its training is undone" in line


@pytest.mark.parametrize("better", ["pixel", "image"])
def test_labels_are_refreshed_where_loops_close_better_by_the_pixel_stage(tmp_path, better):
    given = options(views=1, refreshes=1)
    cascade = untrained(given)
    training = CascadeTraining(
        given, OneScene(cascade.backbone.channels), cascade, tmp_path, Accelerator(cpu=True), {}, max_steps=20
    )
    weights = {
        stage: cascade.network.stages[stage].attention.layers[0].projection.weight for stage in ("image", "pixel")
    }
    training._check(("image",))
    worse = "image" if better == "pixel" else "pixel"
    with torch.no_grad():
        weights[better].fill_(1e-4)
        weights[worse].fill_(100.0)  # all tokens become alike
    before = weights["image"].clone()
    training.begin(13)
    assert torch.equal(weights["image"], before)  # the time has not come: the pixel stage has 12 steps, from the 8th
    training.begin(14)
    assert weights["image"].eq(1e-4).all()


def test_regions_are_read_as_images_of_their_own(photographs, tmp_path):
    """A window of all cells is the image itself; training on windows that are images gives other losses."""
    given = options(region_features="crop", order="jointly")
    cascade = untrained(given)
    (scan, _) = scan_kept(photographs, tmp_path / "seen.jsonl", fewest=2)
    reader = WindowReader(scan, cascade.backbone)
    boxes = torch.tensor([[[0.0, 0.0, 1.0, 1.0], [0.5, 0.0, 1.0, 0.5]]]).expand(2, -1, -1)
    grid = cascade.backbone(torch.zeros(1, 3, 96, 96)).grid[0]
    read = reader([0, 7], boxes, grid)
    image = Image.open(reader.paths[7]).convert("RGB").resize((96, 96), Image.Resampling.BILINEAR)
    pixels = normalised_image(pil_to_tensor(image).float() / 255, cascade.mean, cascade.std)
    torch.testing.assert_close(read.tokens[2], cascade.backbone(pixels[None]).tokens[0])
    assert not torch.allclose(read.tokens[3], read.tokens[2], atol=0.01)
    losses = []
    for features in ("map", "crop"):
        out = tmp_path / features
        train(replace(given, region_features=features), photographs, out, max_steps=1)
        losses.append(losses_of(out)[0])
    assert losses[0]["image"] == losses[1]["image"]
    assert losses[0]["region"] != losses[1]["region"]


def test_presets_are_changed_by_what_is_given_and_the_papers_asks_for_its_weights(tmp_path):
    small = training_options("small", {"size": 128, "backbone": None}, ["network.fold=2", "lr=0.01"])
    assert (small.size, small.backbone, small.network.fold, small.lr) == (128, "tf_efficientnet_lite0", 2, 0.01)
    assert small == replace(small_options(), size=128, lr=0.01, network=replace(small_options().network, fold=2))
    assert training_options(None, {}, []) == TrainingOptions()
    paper = training_options("paper", {"pretrained": "ibot.pth"}, [])
    assert paper == replace(paper_options(), pretrained="ibot.pth")
    assert training_options("paper", {"pretrained": "ibot.pth"}, ["network.hough_length=3"]).network.hough_length == 3
    with pytest.raises(InputError, match="Give the released teacher: --weights FILE"):
        training_options("paper", {"pretrained": None}, [])
    with pytest.raises(InputError, match="unknown preset 'smal'"):
        training_options("smal", {}, [])


def test_the_papers_losses_and_optimiser_move_every_stage(photographs, tmp_path):
    """With a small backbone in the place of its own."""
    small = ["batch=4", "candidates=6", "pairs=4"]
    given = training_options("paper", {"backbone": "resnet10t", "size": 96, "pretrained": False}, small)
    given = replace(given, network=replace(given.network, **SMALL))
    trained = load_file(train(given, photographs, tmp_path, max_steps=3) / "model.safetensors")
    torch.manual_seed(given.seed)
    start = untrained(given).network.state_dict()
    moved = {name.split(".")[1] for name, value in start.items() if not torch.equal(value, trained[f"network.{name}"])}
    assert moved == set(STAGES)
    assert not list(tmp_path.glob("steps/*"))


def test_a_fixed_pattern_closes_loops_of_whole_images_but_not_those_that_begin_in_a_crop():
    """Every cell matched to the cell in its own place, whatever the images show."""
    placement = torch.tensor([View(left=0.5, top=0.5).placement()])
    whole = torch.tensor([View().placement()])
    features = Features(torch.ones(1, 4, 8, 8), torch.ones(1, 4))
    crop, other = (Views(features, torch.ones(1, 64), each) for each in (placement, whole))
    step = Step(other, other, other, crop, other)
    pattern = [torch.eye(64)[None]] * 3
    assert loop_offsets(pattern, step).median() > 2
    assert loop_offsets(pattern, replace(step, source_views=other)).max() < 0.5


@torch.no_grad()
def test_the_image_stage_is_read_at_the_temperature_that_closes_loops_best_the_pixel_stage_at_that_of_its_loss():
    draw = torch.Generator().manual_seed(0)
    tokens = F.normalize(torch.randn(4, 2, 16, 8, 8, generator=draw) + torch.randn(16, 8, 8, generator=draw), dim=2)
    places = (View(left=0.2, top=0.2), View(), View(), View())
    crop, source, target, between = (
        Views(Features(each, each.mean((2, 3))), torch.ones(2, 64), torch.tensor(view.placement()).expand(2, -1))
        for each, view in zip(tokens, places)
    )
    step = Step(source, target, between, crop, target)
    network = CascadeNetwork(16, NetworkOptions(fold=2, saliency=False))
    closed = {}
    for temperature in TEMPERATURES:
        network.options = replace(network.options, temperature=temperature)
        legs = (crop, target), (target, between), (between, source)
        off = loop_offsets([network.scores(a.features, b.features) for a, b in legs], step)
        closed[temperature] = float(off.median())
    network.options = replace(network.options, temperature=0.1)
    found = closing_of(network, "image", [step])
    assert found.offset == pytest.approx(min(closed.values()))
    assert closed[found.temperature] == pytest.approx(found.offset) != pytest.approx(max(closed.values()))
    assert closing_of(network, "pixel", [step]).temperature == 0.1


def test_a_minute_of_training_on_toy_beats_the_frozen_features(tmp_path):
    """The image stage, by nearest neighbours on pairs no training saw: the gain is three standard errors and more."""
    root, categories = open_source("toy").photographs()
    for name in categories:
        (tmp_path / "photographs" / name).mkdir(parents=True)
        for file in sorted((root / name).iterdir())[:PHOTOGRAPHS]:
            (tmp_path / "photographs" / name / file.name).symlink_to(file)
    given = TrainingOptions.from_dict(
        {"size": 160, "pooling": 1.0, "batch": 8, "views": 1, "network": {"stages": "image", "fold": 2}}
    )
    told = train(given, tmp_path / "photographs", tmp_path / "out", max_steps=TOY_STEPS).parent
    trained, frozen = Cascade.from_pretrained(told / "model"), untrained(given).eval()
    rows = load_dataset("toy", split="test")
    pairs = PairDataset(rows, trained.size, trained.mean, trained.std, seed=0)
    batches = list(load_batches(pairs, 0, batch_size=25))
    gain = right_of(trained, batches) - right_of(frozen, batches)
    assert gain.mean() > 3 * gain.std() / len(gain) ** 0.5


@torch.inference_mode()
def right_of(cascade: Cascade, batches: list[dict[str, torch.Tensor]]) -> torch.Tensor:
    """Of each pair the share of points whose nearest neighbour by the volume is right (PCK@0.1, bounding box)."""
    cascade.network.options = replace(cascade.network.options, hough=False, reading="similarity")
    shares = []
    for batch in batches:
        found = cascade.transfer(cascade(batch["source"], batch["target"]), batch["source_points"])
        sides = batch["target_bbox"][:, 2:] - batch["target_bbox"][:, :2]
        right = (found - batch["target_points"]).norm(dim=-1) <= 0.1 * sides.amax(1, keepdim=True)
        shares.append((right & batch["valid"]).sum(1) / batch["valid"].sum(1))
    return torch.cat(shares)
