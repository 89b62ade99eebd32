"""Training the cascade from class names: pairs, views, losses, and going on where it was left."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image
from safetensors.torch import load_file

import sc_imagenet
from sc_imagenet.backbones.pretrained import weights_kind
from sc_imagenet.core.errors import InputError
from sc_imagenet.core.processes import Terminated
from sc_imagenet.generation.cascade.losses import (
    TrainingPairs,
    carry_matches,
    cascade_losses,
    pixel_loss,
    pooled_score,
    select_candidates,
)
from sc_imagenet.generation.cascade.network import CascadeNetwork, Generator
from sc_imagenet.generation.cascade.options import STAGES, TrainingOptions, paper_options
from sc_imagenet.generation.cascade.pmps import Matches, PlaceMatches
from sc_imagenet.generation.cascade.train import train
from sc_imagenet.generation.cascade.training_pairs import PairSampler, StepDraws, draw_numbers
from sc_imagenet.generation.cascade.view_features import Views
from sc_imagenet.generation.cascade.view_sources import kept_bytes
from sc_imagenet.generation.cascade.views import View, draw_view
from sc_imagenet.generation.classes import FILTERED_IMAGENET, imagenet_classes, name_of_photographs
from sc_imagenet.generation.features import Features
from tests import PATIENCE
from tests.fuzz.parsers.resuming import DrawnViews, _cascade_training
from tests.ports import free_port

SMALL = {"attention_width": 16, "volume_width": 8, "fold": 2}


def options(**changes) -> TrainingOptions:
    values = {"backbone": "resnet10t", "pretrained": False, "size": 96, "batch": 4, "warmup": 1, "views": 3}
    return TrainingOptions.from_dict({**values, "candidates": 6, "pairs": 4, "network": SMALL, **changes})


@pytest.fixture(scope="module")
def photographs(tmp_path_factory):
    """Two classes of noisy photographs: a bright disc on dark stripes, a dark cross on a bright plain."""
    root = tmp_path_factory.mktemp("photographs")
    draw = np.random.default_rng(0)
    y, x = np.mgrid[:80, :80]
    for number in range(6):
        cx, cy = draw.uniform(30, 50, 2)
        disc = np.where((x - cx) ** 2 + (y - cy) ** 2 < 350, 220, 40 + 30 * (x // 6 % 2))
        cross = np.where((abs(x - cx) < 7) | (abs(y - cy) < 7), 30, 180)
        for name, picture in (("disc", disc), ("cross", cross)):
            pixels = picture[..., None] + draw.normal(0, 12, (80, 80, 3))
            (root / name).mkdir(exist_ok=True)
            Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(root / name / f"{number}.png")
    return root


@pytest.mark.parametrize("counts", [(10, 10), (9, 7, 5, 3), (30, 4, 4), (2, 2), (3, 2)])
def test_each_image_is_used_at_most_once_and_shifted_partners_are_of_other_classes(counts):
    classes = [number for number, count in enumerate(counts) for _ in range(count)]
    sampler = PairSampler(classes, batch=6, seed=1)
    batches = sampler.epoch(3)
    used = np.concatenate(batches).flatten().tolist()
    assert max(Counter(used).values()) == 1
    for batch in batches:
        of = np.array(classes)[batch]
        assert (of[:, 0] == of[:, 1]).all()
        assert (of[:, 0] != np.roll(of[:, 1], -1)).all()
    evenly = max(counts) // 2 <= sum(count // 2 for count in counts) / 2
    if evenly:
        assert len(used) >= len(classes) * 0.6
    assert all(np.array_equal(a, b) for a, b in zip(batches, sampler.epoch(3)))
    assert len(batches) == 1 or not all(np.array_equal(a, b) for a, b in zip(batches, sampler.epoch(4)))


def test_negatives_need_two_classes():
    with pytest.raises(InputError, match="training needs two"):
        PairSampler([0, 0, 0, 1], batch=4, seed=0)


def test_both_views_of_a_pair_are_mirrored_or_neither():
    numbers = draw_numbers(np.random.default_rng(0), 500, 5)
    assert ((numbers % 2)[:, 0] == (numbers % 2)[:, 1]).all()
    assert set(numbers.flatten().tolist()) == {0, 1, 2, 3, 4}
    assert (draw_numbers(np.random.default_rng(0), 9, 1) == 0).all()


def views_of(features: Features, view: View) -> Views:
    """The features of whole images, said to be of a view."""
    placements = torch.tensor(view.placement()).expand(len(features.tokens), -1)
    return Views(features, torch.ones(len(features.tokens), features.tokens[0, 0].numel()), placements)


def test_labels_are_carried_into_views_exactly():
    """Two cells of whole images, one in each half; the source's view shows the right half, the target's is mirrored."""
    read = Features(torch.ones(1, 2, 4, 4), torch.ones(1, 2))
    whole, right, mirrored = (views_of(read, view) for view in (View(), View(left=0.5), View(mirrored=True)))
    cells = torch.tensor([[7, 4]])  # second row: last and first column
    matches = Matches(cells, cells, torch.ones(1, 2), torch.ones(1, 2, dtype=torch.bool))
    places = carry_matches(matches, TrainingPairs(whole, whole), right, mirrored)
    assert places.valid.tolist() == [[True, False]]
    assert places.source[0, 0].tolist() == pytest.approx([0.75, 0.375])
    assert places.target[0, 0].tolist() == pytest.approx([0.125, 0.375])
    assert draw_view(0, 5, 2) == draw_view(0, 5, 2) != draw_view(0, 6, 2)


def test_training_raises_the_score_of_positive_pairs_over_negatives(photographs, tmp_path):
    given = options(lr=3e-3, margin=0.8, backbone="tf_efficientnet_lite0", pretrained=True, labels_from="both")
    trained = Generator.load(train(given, photographs, tmp_path, max_steps=30))
    untrained = Generator(size=96, network=trained.network.options).eval()
    images = []
    for name in ("disc", "cross"):
        for number in range(4):
            pixels = np.asarray(Image.open(photographs / name / f"{number}.png").resize((96, 96)))
            images.append(torch.from_numpy(pixels.copy()).permute(2, 0, 1).float() / 255)
    stack = (torch.stack(images) - 0.45) / 0.225
    leads = []
    for generator in (untrained, trained):
        with torch.no_grad():
            read = generator.backbone(stack)
            positive = generator.network.volume("image", read[[0, 2, 4, 6]], read[[1, 3, 5, 7]])
            negative = generator.network.volume("image", read[[0, 2, 4, 6]], read[[4, 5, 0, 1]])
            lead = pooled_score(positive, "margin", 0.05) - pooled_score(negative, "margin", 0.05)
        leads.append(lead.mean().item())
    assert leads[1] > leads[0] + 0.05
    lines = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines] == [10, 20, 30]
    assert set(lines[0]) == {"step", "epoch", "image", "region", "pixel"}


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return load_file(folder / "model" / "model.safetensors")


def test_killed_and_started_again_gives_the_same_weights(photographs, tmp_path):
    whole = options(views=4)
    train(whole, photographs, tmp_path / "whole", max_steps=12)
    script = (
        # Sums depend on the number of threads in their last bits.
        f"import torch; torch.set_num_threads({torch.get_num_threads()});"
        "import sys; from pathlib import Path; import sc_imagenet.generation.cascade.train as t;"
        "from sc_imagenet.generation.cascade.options import TrainingOptions; import json, time;"
        "t.SAVE_SECONDS = 0.0;"
        "stuck = lambda what, done, total, note: time.sleep(1000) if (what, done) == ('training', 6) else None;"
        "t.train(TrainingOptions.from_dict(json.loads(sys.argv[1])), sys.argv[2], sys.argv[3],"
        " max_steps=12, report=stuck)"
    )
    out = tmp_path / "killed"
    arguments = [sys.executable, "-c", script, json.dumps(whole.as_dict()), str(photographs), str(out)]
    process = subprocess.Popen(arguments)
    while not (out / "resume.pt").exists() and process.poll() is None:
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert not (out / "model").exists()
    train(whole, photographs, out, max_steps=12)
    first, second = weights(tmp_path / "whole"), weights(out)
    assert first.keys() == second.keys()
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert (out / "log.jsonl").read_text() == (tmp_path / "whole" / "log.jsonl").read_text()
    assert not (out / "resume.pt").exists()


def losses_of(out: Path) -> list[dict[str, float]]:
    return [json.loads(line) for line in (out / "log.jsonl").read_text().splitlines()]


def test_a_stage_that_nothing_reads_is_not_trained(photographs, tmp_path):
    trained = load_file(train(options(), photographs, tmp_path / "read", max_steps=2) / "model.safetensors")
    torch.manual_seed(options().seed)
    start = Generator("resnet10t", None, 96, False, options().network).network.state_dict()
    changed = {
        name.split(".")[1]
        for name, value in start.items()
        if not torch.equal(value, trained[f"network.{name}"]) and value.is_floating_point()
    }
    assert changed == {"pixel"}
    assert set(losses_of(tmp_path / "read")[0]) == {"step", "epoch", "pixel"}


@pytest.mark.parametrize(
    ("changes", "trained"),
    [
        ({}, "pixel"),
        ({"labels_from": "network"}, "image region pixel"),
        ({"network": {"shared_attention": True}}, "image region pixel"),
        ({"network": {"stages": "region"}}, "image region"),
        ({"network": {"stages": "image"}}, "image"),
        ({"labels_from": "both", "region_weight": 0.0}, "image pixel"),
    ],
)
def test_stages_that_are_trained(changes, trained):
    given = options(**changes)
    stages = STAGES[: given.network.depth]
    assert [stage for stage in stages if given.weight(stage) > 0] == trained.split()


def test_features_computed_at_each_step_give_the_losses_of_kept_ones(photographs, tmp_path):
    """Kept features are of half precision; but for that the steps are the same, whoever decodes the images."""
    given = options(views=4, optimiser="sgd", lr=0.0, batch=6, labels_from="both")
    for name, how in (
        ("kept", {"read": "keep"}),
        ("computed", {"read": "compute"}),
        ("ahead", {"read": "compute", "loaders": 2}),
    ):
        train(given, photographs, tmp_path / name, max_steps=2, **how)
    kept, computed, ahead = (losses_of(tmp_path / name)[0] for name in ("kept", "computed", "ahead"))
    assert computed == pytest.approx(kept, rel=0.02)
    assert ahead == computed
    assert set(kept) == {"step", "epoch", "image", "region", "pixel"}
    assert list((tmp_path / "kept" / "features").glob("*.safetensors"))
    assert not list((tmp_path / "computed").rglob("views-*"))


def test_features_that_would_fill_the_disk_are_computed(photographs, tmp_path, monkeypatch):
    given = options(network={**SMALL, "stages": "image"})
    reader = Generator(given.backbone, None, given.size, False, given.network).backbone
    tokens = reader(torch.zeros(1, 3, 96, 96)).tokens
    assert kept_bytes(reader, 1000) == pytest.approx(2000 * tokens.numel(), rel=0.1)
    monkeypatch.setattr("sc_imagenet.generation.cascade.view_sources.KEPT_BYTES", 1000)
    train(given, photographs, tmp_path, max_steps=1)
    assert not list(tmp_path.rglob("views-*"))


def test_an_interrupted_training_on_computed_features_goes_on(photographs, tmp_path, monkeypatch):
    given = options(network={**SMALL, "stages": "image"})
    train(given, photographs, tmp_path / "whole", max_steps=6, read="compute")
    monkeypatch.setattr("sc_imagenet.generation.cascade.train.SAVE_SECONDS", 0.0)

    def stop(what, done, total, note):
        if (what, done) == ("training", 4):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(given, photographs, tmp_path / "cut", max_steps=6, read="compute", report=stop)
    with pytest.raises(InputError, match="holds a training with other options"):
        train(given, photographs, tmp_path / "cut", max_steps=6)
    (tmp_path / "cut" / "features").mkdir(exist_ok=True)
    train(given, photographs, tmp_path / "cut", max_steps=6, read="compute")
    first, second = weights(tmp_path / "whole"), weights(tmp_path / "cut")
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_a_signal_does_not_wait_for_images_and_the_steps_before_are_kept(tmp_path, monkeypatch):
    training = _cascade_training(tmp_path)
    steps, slept = DrawnViews.steps, []

    def hanging(self, draws, start, stop, device):
        yield from steps(self, draws, start, 3, device)
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(20)
        slept.append(True)

    monkeypatch.setattr(DrawnViews, "steps", hanging)
    with pytest.raises(Terminated):
        training.run(lambda what, done, total, note: None)
    assert not slept
    resumed = _cascade_training(tmp_path)
    resumed._resume()
    assert resumed.step == 3


def test_a_photograph_that_went_away_is_one_line_also_from_a_decoding_process(photographs, tmp_path):
    root = tmp_path / "photographs"
    shutil.copytree(photographs, root)

    def remove(what, done, total, note):
        if what == "photographs" and done == total:
            for file in root.glob("*/*"):
                file.unlink()

    with pytest.raises(InputError, match=r"\.png: no such image$"):
        train(options(), root, tmp_path / "out", max_steps=2, read="compute", loaders=1, report=remove)


def test_two_processes_train_with_finite_losses_and_go_on_where_they_were(photographs, tmp_path):
    script = (
        "import sys; import sc_imagenet.generation.cascade.train as t; import json;"
        "from sc_imagenet.generation.cascade.options import TrainingOptions;"
        "t.SAVE_SECONDS = 0.0;"
        "stop = lambda what, done, total, note: sys.exit(3) if (what, done) == ('training', int(sys.argv[4])) else 0;"
        "t.train(TrainingOptions.from_dict(json.loads(sys.argv[1])), sys.argv[2], sys.argv[3],"
        " max_steps=10, read='compute', report=stop)"
    )
    file = tmp_path / "run.py"
    file.write_text(script)
    launch = [sys.executable, "-m", "accelerate.commands.launch", "--num_processes", "2", "--num_machines"]
    launch += ["1", "--mixed_precision", "no", "--dynamo_backend", "no", "--multi_gpu"]
    here = {**os.environ, "PYTHONPATH": str(Path(sc_imagenet.__file__).parents[1])}
    given = json.dumps(options().as_dict())
    for stop_at, code in ((6, 1), (-1, 0)):
        arguments = [str(file), given, str(photographs), str(tmp_path / "out"), str(stop_at)]
        port = ("--main_process_port", free_port())
        done = subprocess.run([*launch, *port, *arguments], env=here, capture_output=True, text=True, timeout=PATIENCE)
        assert done.returncode == code, done.stderr
        assert (tmp_path / "out" / "resume.pt").exists() == (code == 1)
    (line,) = losses_of(tmp_path / "out")
    assert line["step"] == 10
    assert all(np.isfinite(value) for value in line.values())


def test_training_leaves_out_removed_classes_and_names_its_photographs(photographs, tmp_path):
    root = tmp_path / "photographs"
    shutil.copytree(photographs, root)
    shutil.copytree(root / "disc", root / "n09332890")  # lakeside, which the paper removes
    given = options(network={**SMALL, "stages": "image"})
    model = train(given, root, tmp_path / "out", max_steps=1)
    assert json.loads((model / "trained_on.json").read_text()) == {
        "name": "photographs (2 classes, 12 images)",
        "images": 12,
        "weights": weights_kind(given.pretrained),
        "training": {"options": json.loads(json.dumps(given.as_dict())), "max_steps": 1},
    }
    assert name_of_photographs(root, [each.wnid for each in imagenet_classes() if each.kept], 9) == FILTERED_IMAGENET


def test_a_finished_training_is_not_done_again_and_another_is_refused(photographs, tmp_path):
    once = train(options(network={**SMALL, "stages": "image"}), photographs, tmp_path, max_steps=2)
    written = (once / "model.safetensors").stat().st_mtime_ns
    assert train(options(network={**SMALL, "stages": "image"}), photographs, tmp_path, max_steps=2) == once
    assert (once / "model.safetensors").stat().st_mtime_ns == written
    with pytest.raises(InputError, match="holds a training with other options"):
        train(options(seed=1), photographs, tmp_path, max_steps=2)


@pytest.mark.parametrize("change", ["a class more", "another photograph of the same name"])
def test_on_other_photographs_the_network_is_trained_anew_and_the_earlier_one_kept(
    photographs, tmp_path, change, caplog
):
    root, out = tmp_path / "photographs", tmp_path / "out"
    shutil.copytree(photographs, root)
    given = options(network={**SMALL, "stages": "image"})
    first = (train(given, root, out, max_steps=2) / "model.safetensors").read_bytes()
    assert (train(given, root, out, max_steps=2) / "model.safetensors").read_bytes() == first
    if change == "a class more":
        shutil.copytree(root / "disc", root / "shifted")
        for path in (root / "shifted").iterdir():
            Image.fromarray(np.roll(np.asarray(Image.open(path)), 9, axis=1)).save(path)
    else:
        Image.open(root / "disc" / "1.png").rotate(90).save(root / "disc" / "1.png")
    model = train(given, root, out, max_steps=2)
    assert "trained on other photographs: trained anew" in caplog.text
    fresh = train(given, root, tmp_path / "fresh", max_steps=2)
    assert (model / "model.safetensors").read_bytes() == (fresh / "model.safetensors").read_bytes() != first
    assert (out / "earlier/1/model/model.safetensors").read_bytes() == first


def test_a_training_that_does_not_tell_what_it_saw_is_taken_where_the_number_of_photographs_agrees(
    photographs, tmp_path, caplog
):
    given = options(network={**SMALL, "stages": "image"})
    out = tmp_path / "out"
    weights = train(given, photographs, out, max_steps=2) / "model.safetensors"
    (out / "made_of.json").unlink()
    written = weights.stat().st_mtime_ns
    train(given, photographs, out, max_steps=2)
    assert weights.stat().st_mtime_ns == written
    told = out / "model/trained_on.json"
    told.write_text(told.read_text().replace("12", "11"))
    train(given, photographs, out, max_steps=2)
    assert weights.stat().st_mtime_ns != written
    assert "trained on other photographs" in caplog.text


@pytest.mark.parametrize("stages", ["image", "region", "pixel"])
@pytest.mark.parametrize("kind", ["margin", "literal"])
def test_each_depth_has_its_losses_and_gradients(stages, kind):
    network = Generator("resnet10t", None, 96, False, options(network={**SMALL, "stages": stages}).network).network
    given = options(network={**SMALL, "stages": stages}, class_loss=kind, labels_from="both")
    channels = network.stages["image"].attention.layers[0].query.in_features
    tokens = torch.nn.functional.normalize(torch.rand(3, channels, 6, 6), dim=1)
    read = Features(tokens, tokens.mean((2, 3)))
    whole, others = views_of(read, View()), views_of(read[[1, 2, 0]], View())
    pairs = TrainingPairs(whole, others, between=whole, views=(whole, views_of(others.features, View(left=0.2))))
    losses = cascade_losses(network, pairs, given)
    assert list(losses) == ["image", "region", "pixel"][: len(losses)]
    assert len(losses) == network.options.depth
    torch.stack(list(losses.values())).sum().backward()
    assert all(value.grad is not None and value.grad.isfinite().all() for value in network.parameters())
    background = Views(read, torch.zeros(3, 36), whole.placements)
    nothing = TrainingPairs(background, background)
    assert not select_candidates(network, nothing, given).valid.any()
    assert all(loss.isfinite() for loss in cascade_losses(network, nothing, given).values())


@pytest.mark.parametrize(("columns", "closes"), [(0, True), (1, True), (3, False)])
def test_candidates_lie_on_closed_loops(columns, closes):
    """Every cell matches its own; by way of a third image it comes out some columns beside it."""
    cells = torch.eye(40)
    beside = cells.view(8, 5, 40).roll(columns, 1).flatten(0, 1)  # what the third image's cells look like in the target
    looks = torch.cat((cells, 0 * cells), 1), torch.cat((0.5 * cells, 0.9 * beside), 1), torch.cat((cells, cells), 1)
    source, third, target = (
        views_of(Features(F.normalize(each, dim=1).T.reshape(1, 80, 8, 5), torch.ones(1, 80)), View()) for each in looks
    )
    given = options(network={**SMALL, "hough": False}, candidates=20)
    network = CascadeNetwork(80, given.network)
    found = select_candidates(network, TrainingPairs(source, target, between=third), given)
    assert bool(found.valid.any()) == closes
    anyway = select_candidates(network, TrainingPairs(source, target), given)
    assert torch.equal(anyway.source, anyway.target)
    assert anyway.valid.all()


def test_the_third_image_is_another_of_the_class():
    classes = [0] * 4 + [1] * 2
    draws = StepDraws(classes, options(batch=4))
    for step in range(8):
        draw = draws.at(step)
        for (source, _), (target, _), (third, number) in zip(draw.source, draw.target, draw.between):
            assert (classes[third], number) == (classes[source], 0)
            assert third not in (source, target) or classes[source] == 1
            assert third != target


@pytest.mark.parametrize("kind", ["softmax", "binary"])
def test_a_volume_that_shows_the_matches_has_the_smaller_pixel_loss(kind):
    cells = torch.tensor([[0, 5, 15], [3, 9, 0]])
    valid = torch.tensor([[True, True, True], [True, True, False]])
    places = torch.stack((cells % 4 + 0.5, cells // 4 + 0.5), -1) / 4
    matches = PlaceMatches(places, places.flip(1), valid)
    logits = torch.full((2, 16, 16), -6.0)
    logits[torch.arange(2)[:, None], cells, cells.flip(1)] = 6.0
    right = pixel_loss(logits, matches, (4, 4), (4, 4), 0.2, kind)
    wrong = pixel_loss(logits.roll(1, 2), matches, (4, 4), (4, 4), 0.2, kind)
    assert 0 <= right < wrong / 3
    none = PlaceMatches(places, places, torch.zeros_like(valid))
    assert pixel_loss(logits, none, (4, 4), (4, 4), 0.2, kind) == 0


def test_options_are_told_apart_and_the_papers_are_stated():
    paper = paper_options()
    assert (paper.backbone, paper.size, paper.optimiser, paper.lr, paper.momentum, paper.batch) == (
        "vit_base_patch16_224",
        512,
        "sgd",
        3e-5,
        0.9,
        32,
    )
    assert TrainingOptions.from_dict(paper.as_dict()) == paper
    with pytest.raises(InputError, match=r"unknown option 'epoch'\. Did you mean 'epochs'"):
        TrainingOptions.from_dict({"epoch": 3})


@pytest.mark.skipif("SC_DATA_ROOT" not in os.environ, reason="SC_DATA_ROOT is not set")
def test_real_photographs_train(tmp_path, monkeypatch):
    """A few Caltech-101 images of two classes: the pixel loss falls."""
    source = Path(os.environ["SC_DATA_ROOT"]) / "caltech-101"
    for name in ("cup", "airplanes"):
        (tmp_path / "photographs" / name).mkdir(parents=True)
        for file in sorted((source / name).iterdir())[:6]:
            (tmp_path / "photographs" / name / file.name).symlink_to(file)
    given = TrainingOptions.from_dict(
        {"size": 160, "batch": 4, "views": 1, "lr": 3e-3, "warmup": 1, "network": {"fold": 2}}
    )
    monkeypatch.setattr("sc_imagenet.generation.cascade.train.LOG_STEPS", 1)
    train(given, tmp_path / "photographs", tmp_path / "out", max_steps=20)
    lines = [json.loads(line) for line in (tmp_path / "out" / "log.jsonl").read_text().splitlines()]
    losses = [line["pixel"] for line in lines]
    assert np.mean(losses[-6:]) < np.mean(losses[:2])
