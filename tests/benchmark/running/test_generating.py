"""``scbench generate`` from the command line."""

import json

import numpy as np
import pytest
from PIL import Image

from tests.benchmark.running.test_running import finish
from tests.benchmark.running.test_running import scbench as started


@pytest.fixture
def photographs(tmp_path):
    root, draw = tmp_path / "photographs", np.random.default_rng(0)
    for name in ("a class", "b"):
        (root / name).mkdir(parents=True)
        for number in range(4):
            Image.fromarray(draw.integers(0, 255, (70, 70, 3), np.uint8)).save(root / name / f"{number}.png")
    return root


SMALL = ("--size", "96", "--steps", "1", "--set", 'network={"fold": 2, "stages": "image"}', "--set", "batch=2")


def test_training_from_the_command_line(photographs, tmp_path):
    arguments = (str(photographs), "--out", str(tmp_path / "set"), *SMALL, "--features", "compute", "--loaders", "1")
    code, out, err = finish(started("generate", "train", *arguments))
    assert code == 0, err
    model = tmp_path / "set" / "work" / "network" / "model"
    assert out.strip() == str(model)
    assert (model / "model.safetensors").exists()
    assert json.loads((model / "trained_on.json").read_text())["images"] == 8


def test_an_unknown_way_to_read_features_is_one_line(scbench, photographs, tmp_path):
    arguments = (str(photographs), "--out", str(tmp_path / "set"), "--features", "kept")
    code, _, err = scbench("generate", "train", *arguments)
    assert (code, err.count("\n")) == (2, 1), err
    assert "Did you mean 'keep'" in err


@pytest.mark.parametrize(
    ("options", "line"),
    [
        (("--steps", "3"), "--steps concerns the training of a cascade, but there is no --train"),
        (("--set", "lr=1"), "--set concerns the training"),
        (("--train", "--network", "folder"), "--train and --network were both given"),
    ],
)
def test_options_that_would_do_nothing_are_refused(scbench, photographs, tmp_path, options, line):
    code, _, err = scbench("generate", "run", photographs, "--out", tmp_path / "set", *options)
    assert (code, err.count("\n")) == (2, 1), err
    assert line in err
    assert not (tmp_path / "set").exists()
