"""Training the cascade on photographs with class names: what it learns, and going on where it was left."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

import sc_imagenet
from baselines.cascade import Cascade
from baselines.checkpoints import load_checkpoint
from baselines.registry import from_pretrained
from benchmark.running.cascade import train, untrained
from sc_imagenet.backbones.pretrained import weights_kind
from sc_imagenet.core.errors import InputError
from sc_imagenet.core.processes import Terminated
from sc_imagenet.generation.cascade.losses import pooled_score
from sc_imagenet.generation.cascade.network import load_network
from sc_imagenet.generation.cascade.options import TrainingOptions
from sc_imagenet.generation.cascade.view_sources import kept_bytes
from sc_imagenet.generation.classes import FILTERED_IMAGENET, imagenet_classes, name_of_photographs
from tests import PATIENCE
from tests.benchmark.running.cascade_trainings import SMALL, discs_and_crosses, losses_of, options
from tests.fuzz.parsers.resuming import DrawnViews, _cascade_training
from tests.ports import free_port


@pytest.fixture(scope="module")
def photographs(tmp_path_factory):
    return discs_and_crosses(tmp_path_factory.mktemp("photographs"))


@pytest.fixture(scope="module")
def many(tmp_path_factory):
    return discs_and_crosses(tmp_path_factory.mktemp("many"), 12)


def test_training_raises_the_score_of_positive_pairs_over_negatives(photographs, tmp_path):
    given = options(lr=3e-3, margin=0.8, backbone="tf_efficientnet_lite0", pretrained=True, order="jointly")
    trained = Cascade.from_pretrained(train(given, photographs, tmp_path, max_steps=30))
    start = untrained(given).eval()
    images = []
    for name in ("disc", "cross"):
        for number in range(4):
            pixels = np.asarray(Image.open(photographs / name / f"{number}.png").resize((96, 96)))
            images.append(torch.from_numpy(pixels.copy()).permute(2, 0, 1).float() / 255)
    stack = (torch.stack(images) - 0.45) / 0.225
    leads = []
    for cascade in (start, trained):
        with torch.no_grad():
            read = cascade.backbone(stack)
            positive = cascade.network.volume("image", read[[0, 2, 4, 6]], read[[1, 3, 5, 7]])
            negative = cascade.network.volume("image", read[[0, 2, 4, 6]], read[[4, 5, 0, 1]])
            lead = pooled_score(positive, "margin", 0.05) - pooled_score(negative, "margin", 0.05)
        leads.append(lead.mean().item())
    assert leads[1] > leads[0] + 0.05
    lines = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines] == [10, 20, 30]
    assert set(lines[0]) == {"step", "epoch", "image", "region", "pixel", "lr", "seconds"}


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return load_file(folder / "model" / "model.safetensors")


@pytest.mark.parametrize("killed_at", [3, 6, 9])  # when a stage's steps have just ended, in the next, after labels'
def test_killed_and_started_again_gives_the_same_weights(many, tmp_path, killed_at):
    photographs = many
    whole = options(views=4, refreshes=1)
    train(whole, photographs, tmp_path / "whole", max_steps=12)
    script = (
        # Sums depend on the number of threads in their last bits.
        f"import torch; torch.set_num_threads({torch.get_num_threads()});"
        "import sys; import benchmark.running.cascade as t; import benchmark.running.loop as loop;"
        "from sc_imagenet.generation.cascade.options import TrainingOptions; import json, time;"
        "loop.SAVE_SECONDS = 0.0;"
        "at = ('training', int(sys.argv[4]));"
        "stuck = lambda what, done, total, note: time.sleep(1000) if (what, done) == at else None;"
        "t.train(TrainingOptions.from_dict(json.loads(sys.argv[1])), sys.argv[2], sys.argv[3],"
        " max_steps=12, report=stuck)"
    )
    out = tmp_path / "killed"
    arguments = [sys.executable, "-c", script, json.dumps(whole.as_dict()), str(photographs), str(out), str(killed_at)]
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
    assert losses_of(out) == losses_of(tmp_path / "whole")
    assert (out / "model/trained_on.json").read_bytes() == (tmp_path / "whole/model/trained_on.json").read_bytes()
    assert not (out / "resume.pt").exists()


def test_a_stage_that_nothing_reads_is_not_trained(photographs, tmp_path):
    given = options(labels_from="features")
    trained = load_file(train(given, photographs, tmp_path / "read", max_steps=2) / "model.safetensors")
    torch.manual_seed(given.seed)
    start = untrained(given).network.state_dict()
    changed = {
        name.split(".")[1]
        for name, value in start.items()
        if not torch.equal(value, trained[f"network.{name}"]) and value.is_floating_point()
    }
    assert changed == {"pixel"}
    assert set(losses_of(tmp_path / "read")[0]) == {"step", "epoch", "pixel"}


def test_features_computed_at_each_step_give_the_losses_of_kept_ones(photographs, tmp_path):
    """Kept features are of half precision; but for that the steps are the same, whoever decodes the images."""
    given = options(views=4, optimiser="sgd", lr=0.0, batch=6, order="jointly")
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
    reader = untrained(given).backbone
    tokens = reader(torch.zeros(1, 3, 96, 96)).tokens
    assert kept_bytes(reader, 1000) == pytest.approx(2000 * tokens.numel(), rel=0.1)
    monkeypatch.setattr("sc_imagenet.generation.cascade.view_sources.KEPT_BYTES", 1000)
    train(given, photographs, tmp_path, max_steps=1)
    assert not list(tmp_path.rglob("views-*"))


def test_an_interrupted_training_on_computed_features_goes_on(photographs, tmp_path, monkeypatch):
    given = options(network={**SMALL, "stages": "image"})
    train(given, photographs, tmp_path / "whole", max_steps=6, read="compute")
    monkeypatch.setattr("benchmark.running.loop.SAVE_SECONDS", 0.0)

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


def test_a_training_that_was_left_by_an_earlier_version_goes_on_to_the_same_weights(photographs, tmp_path):
    """It kept the network's weights, the optimiser and the step, no more."""
    given = options(labels_from="features", held_out=0)
    train(given, photographs, tmp_path / "whole", max_steps=6)

    def stop(what, done, total, note=""):
        if (what, done) == ("training", 4):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(given, photographs, tmp_path / "cut", max_steps=6, report=stop)
    left = tmp_path / "cut/resume.pt"
    state = torch.load(left, weights_only=True)
    torch.save({"network": state["model"], "optimiser": state["optimiser"], "step": 4}, left)
    train(given, photographs, tmp_path / "cut", max_steps=6)
    first, second = weights(tmp_path / "whole"), weights(tmp_path / "cut")
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert losses_of(tmp_path / "cut") == losses_of(tmp_path / "whole")


@pytest.mark.parametrize("before", [False, True])
def test_a_trained_folder_is_read_by_every_way_to_name_one(photographs, tmp_path, before):
    """As ``save_pretrained`` writes it; an earlier version did not say which model it is, nor wrote a card."""
    given = options(standardise=not before, network={**SMALL, "stages": "image", "hough_scales": [1.0, 0.5]})
    folder = train(given, photographs, tmp_path / "out", max_steps=2)
    cascade = Cascade.from_pretrained(folder)
    cascade.save_pretrained(tmp_path / "saved")
    for name in ("config.json", "model.safetensors"):
        assert (folder / name).read_bytes() == (tmp_path / "saved" / name).read_bytes()
    if before:
        config = json.loads((folder / "config.json").read_text())
        kept = {name: config[name] for name in ("backbone", "layers", "size", "network")}
        (folder / "config.json").write_text(json.dumps(kept))
        (folder / "README.md").unlink()
    else:
        assert isinstance(from_pretrained(folder), Cascade)
    reader, network = load_network(folder)  # --network
    checkpoint, _ = load_checkpoint("cascade", folder)  # --checkpoint
    images = torch.randn(2, 3, 96, 96, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        read = reader(images)
        assert torch.equal(read.tokens, cascade.backbone(images).tokens)
        volume = network.volume("image", read[[0]], read[[1]])
        outputs = [
            each(images[:1], images[1:]).volume for each in (cascade, checkpoint, Cascade.from_pretrained(folder))
        ]
        assert torch.equal(volume, cascade.network.volume("image", read[[0]], read[[1]]))
    assert all(torch.equal(outputs[0], each) for each in outputs[1:])
    assert network.options == given.network


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
        training.run()
    assert not slept
    resumed = _cascade_training(tmp_path)
    resumed._resume()
    assert resumed.position.step == 3


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
        "import sys; import benchmark.running.cascade as t; import benchmark.running.loop as loop; import json;"
        "from sc_imagenet.generation.cascade.options import TrainingOptions;"
        "loop.SAVE_SECONDS = 0.0;"
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
    assert "pixel" in line
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
        "stages": {},
    }
    assert name_of_photographs(root, [each.wnid for each in imagenet_classes() if each.kept], 9) == FILTERED_IMAGENET


def test_a_finished_training_is_not_done_again_and_another_is_refused(photographs, tmp_path):
    once = train(options(network={**SMALL, "stages": "image"}), photographs, tmp_path, max_steps=2)
    written = (once / "model.safetensors").stat().st_mtime_ns
    assert train(options(network={**SMALL, "stages": "image"}), photographs, tmp_path, max_steps=2) == once
    assert (once / "model.safetensors").stat().st_mtime_ns == written
    with pytest.raises(InputError, match="holds a training with other options"):
        train(options(seed=1), photographs, tmp_path, max_steps=2)


def test_a_training_that_an_earlier_version_finished_is_known_by_the_options_it_had(photographs, tmp_path):
    """Before stages were trained one after the other."""
    shares = {name: getattr(TrainingOptions(), name) for name in ("image_share", "region_share")}
    given = options(order="jointly", image_trains="all", region_loss="class", held_out=0, **shares)
    once = train(given, photographs, tmp_path, max_steps=2)
    kept = json.loads((tmp_path / "options.json").read_text())
    for name in ("order", "image_trains", "region_loss", "held_out", "image_share", "region_share", "refreshes"):
        del kept[name]
    (tmp_path / "options.json").write_text(json.dumps(kept))
    assert train(given, photographs, tmp_path, max_steps=2) == once
    with pytest.raises(InputError, match="holds a training with other options"):
        train(options(held_out=0), photographs, tmp_path, max_steps=2)
    for spoilt in ([1], {**kept, "of_a_later_version": 1}):
        (tmp_path / "options.json").write_text(json.dumps(spoilt))
        with pytest.raises(InputError, match="holds a training with other options"):
            train(given, photographs, tmp_path, max_steps=2)


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


@pytest.mark.skipif("SC_DATA_ROOT" not in os.environ, reason="SC_DATA_ROOT is not set")
def test_real_photographs_train(tmp_path, monkeypatch):
    """A few Caltech-101 images of two classes: the pixel loss falls."""
    source = Path(os.environ["SC_DATA_ROOT"]) / "caltech-101"
    for name in ("cup", "airplanes"):
        (tmp_path / "photographs" / name).mkdir(parents=True)
        for file in sorted((source / name).iterdir())[:6]:
            (tmp_path / "photographs" / name / file.name).symlink_to(file)
    given = TrainingOptions.from_dict(
        {
            "size": 160,
            "batch": 4,
            "views": 1,
            "lr": 3e-3,
            "warmup": 1,
            "labels_from": "features",
            "network": {"fold": 2},
        }
    )
    monkeypatch.setattr("benchmark.running.loop.LOG_STEPS", 1)
    train(given, tmp_path / "photographs", tmp_path / "out", max_steps=20)
    lines = [json.loads(line) for line in (tmp_path / "out" / "log.jsonl").read_text().splitlines()]
    losses = [line["pixel"] for line in lines]
    assert np.mean(losses[-6:]) < np.mean(losses[:2])
