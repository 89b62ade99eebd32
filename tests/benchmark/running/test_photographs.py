"""``--finetune synthetic:PHOTOGRAPHS`` and ``same-class:PHOTOGRAPHS``."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from benchmark.running.arguments import RunOptions
from benchmark.running.photographs import training_pairs
from benchmark.running.run import execute
from sc_imagenet.core.errors import InputError
from sc_imagenet.data.pairs import PairDataset
from sc_imagenet.data.synthetic import SyntheticPairs


@pytest.fixture(scope="module")
def photographs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("albums") / "holidays"
    folder.mkdir()
    for number in range(4):
        pixels = np.random.default_rng(number).integers(0, 255, (60, 80, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / f"{number}.png")
    return folder


def test_photographs_are_named_by_folder_or_by_data_set(photographs):
    own = training_pairs(f"synthetic:{photographs}", "cats", None)
    assert (own.name, own.validation, own.items, len(own.open())) == ("synthetic:holidays", None, SyntheticPairs, 4)
    assert len(own.open(limit=2)) == 2
    toy = training_pairs("synthetic:toy", "cats", None)
    assert (toy.name, toy.root.name) == ("synthetic:toy", "train")
    same = training_pairs(f"same-class:{photographs}", "weakalign", None)
    assert (same.name, same.items) == ("same-class:holidays", PairDataset)


@pytest.mark.parametrize(
    ("given", "model", "message"),
    [
        ("synthetic:nowhere", "cats", "no such folder of photographs"),
        ("synthetic:", "cats", "no such folder of photographs"),
        ("same-class:toy", "cats", "cats learns nothing of pairs that only show the same class"),
        ("same-class:toy", "cnngeo", "cnngeo learns nothing"),
    ],
)
def test_what_cannot_be_trained_on_is_one_line(given, model, message):
    with pytest.raises(InputError, match=message) as raised:
        training_pairs(given, model, None)
    assert "\n" not in str(raised.value)


def test_any_model_trains_on_photographs_and_another_folder_is_another_run(photographs, tmp_path):
    (other := tmp_path / "album").mkdir()
    (other / "0.png").write_bytes((photographs / "0.png").read_bytes())
    found = []
    for model, folder in (("cnngeo", photographs), ("cats", photographs), ("cats", other)):
        settings = {"recipe.batch": "2"}
        options = RunOptions(
            model, finetune=f"synthetic:{folder}", preset="tiny", settings=settings, max_steps=1, runs=tmp_path / "runs"
        )
        found.append(execute(options))
    assert [result.finetune for result in found] == ["synthetic:holidays", "synthetic:holidays", "synthetic:album"]
    assert len({result.run for result in found}) == 3
