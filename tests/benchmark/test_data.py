"""What runs call the data they were trained on: SC-ImageNet's name is not borrowed."""

from __future__ import annotations

import json
from pathlib import Path

import datasets
import pytest

from benchmark.data import Pairs
from benchmark.data_picture import picture_of_pairs
from benchmark.pair_images import PairImages
from benchmark.report.build import build
from benchmark.results import find_runs
from benchmark.run_options import Options, changes_of, make_accelerator
from benchmark.running import Run
from benchmark.score_table import scored
from sc_imagenet import load_dataset
from sc_imagenet.errors import InputError
from sc_imagenet.shards import write_pairs
from tests.benchmark.test_report import filled
from tests.sc_imagenet.made_data import sc_release

SIDES = ("source", "target")


def generated(folder: Path, name: str | None = None, categories=("cat", "dog")) -> Path:
    """Eight pairs of the toy set in the form of a generated one."""
    rows = load_dataset("toy", split="train[:8]").cast_column("source", _paths()).cast_column("target", _paths())
    images = Path(rows[0]["source"]["path"]).parents[2]
    made = []
    for number, row in enumerate(rows):
        paths = {side: {"path": str(Path(row[side]["path"]).relative_to(images)), "bytes": None} for side in SIDES}
        made.append({**row, **paths, "category": number % len(categories)})
    folder.mkdir()
    (folder / "JPEGImages").symlink_to(images, target_is_directory=True)
    for split, part in (("train", made[:6]), ("validation", made[6:])):
        write_pairs(folder, split, part, categories, len(part))
    if name is not None:
        (folder / "generation.json").write_text(json.dumps({"name": name} if name else {}))
    return folder


def _paths():
    return datasets.Image(decode=False)


@pytest.mark.parametrize(
    ("folder", "made_as", "name"),
    [
        ("my-set", None, "my-set"),
        ("my-set", "", "my-set"),  # generated before sets kept their names
        ("downloaded-4f2a", "my-set", "my-set"),
        ("my-set", "../../set", "my-set"),  # a stranger's: no name of a file
        ("sc-imagenet", "", "own sc-imagenet"),
        ("SC-ImageNet", "sc-imagenet", "own sc-imagenet"),
        ("spair-71k", None, "own spair-71k"),
    ],
)
def test_a_generated_set_keeps_its_own_name(tmp_path, folder, made_as, name):
    pairs = Pairs.parse(str(generated(tmp_path / folder, made_as)), "train", None)
    assert (pairs.name, pairs.shortfall) == (name, None)
    assert pairs.validation.name == name


def test_pairs_of_a_generated_set_are_drawn(tmp_path):
    folder = generated(tmp_path / "my-set", "animals")
    for name, there in ((str(folder), 6), (f"{folder}:validation", 2)):
        picture, drawn = picture_of_pairs(name, 9)
        assert drawn == there
        assert picture.height > 200
    with pytest.raises(InputError, match="unknown class of animals 'bird'"):
        picture_of_pairs(str(folder), 1, category="bird")
    with pytest.raises(InputError, match="holds no data set with pairs of 'train'"):
        picture_of_pairs(str(tmp_path), 1)


def test_a_generated_set_under_the_data_root_is_not_sc_imagenet(tmp_path):
    generated(tmp_path / "sc-imagenet", "animals")
    assert Pairs.parse("sc-imagenet", "train", tmp_path).name == "animals"


def test_sc_imagenet_is_known_by_its_classes_and_a_part_of_it_is_told(tmp_path):
    wnids = [f"n{number:08d}" for number in range(679)]
    whole = Pairs.parse(str(generated(tmp_path / "copy", categories=wnids)), "train", None)
    assert (whole.name, whole.shortfall) == ("sc-imagenet", None)
    part = Pairs.parse("sc-imagenet", "train", sc_release(tmp_path / "sc-imagenet"))
    assert (part.name, part.shortfall) == ("sc-imagenet", "3 of the 679 classes of sc-imagenet")
    assert changes_of(Options("cats"), [part]) == ("trained on 3 of the 679 classes of sc-imagenet",)


def test_a_set_s_name_is_itself_where_a_folder_of_that_name_lies(tmp_path, monkeypatch):
    generated(tmp_path / "toy")
    monkeypatch.chdir(tmp_path)
    assert Pairs.parse("toy", "test", None).dataset == "toy"
    assert Pairs.parse("./toy", "train", None).is_path


def test_the_record_of_a_run_and_the_report_tell_the_own_name(tmp_path):
    options = Options(
        "cats",
        pretrain=str(generated(tmp_path / "my-set", "my-set")),
        finetune="toy",
        evaluate=("toy", str(tmp_path / "my-set")),
        preset="tiny",
        settings={"recipe.batch": "2", "recipe.model.pretrained": "false"},
        limit=4,
        max_steps=1,
        runs=tmp_path / "runs",
    )
    run = Run(options, make_accelerator(options))
    result = run.execute()
    assert (result.pretrain, result.finetune) == ("my-set", "toy")
    assert [stage.dataset for stage in run.config.stages] == ["my-set", "toy"]
    found, problems = find_runs(tmp_path / "runs")
    assert problems == []
    report = build(found)
    assert filled(report) == []
    assert any("pre-trained on my-set" in dict(sheet.facts).get("Training", "") for sheet in report.sheets)
    # Scored under SC-ImageNet's protocol, and as itself: by its name, with its pictures.
    (data,) = (data for data in result.data if data.name == "my-set")
    assert (data.key, data.form, data.pairs) == ("my-set:validation", "sc-imagenet", 2)
    assert "pck@0.1/bbox/image" in result.metrics["my-set:validation"]
    file = run.folder.path / "predictions/my-set-validation.parquet"
    assert scored(file, "strict", (), None, 2).info.scored_as == "sc-imagenet"
    (board,) = (board for board in report.boards if board.form)
    assert (board.title, board.dataset, board.key) == ("my-set", "my-set", "my-set:validation")
    assert all(entry.scores[1] and entry.curve for entry in board.entries)
    images = PairImages("my-set", "validation", tmp_path / "my-set", "sc-imagenet")
    assert images.of(next(iter(images.entries)))[0].mode == "RGB"
    for elsewhere in (None, tmp_path):
        with pytest.raises(InputError, match="Give its folder as --data-root"):
            PairImages("my-set", "validation", elsewhere, "sc-imagenet")


def test_a_folder_may_be_followed_by_a_split(tmp_path):
    folder = str(generated(tmp_path / "a:b"))
    for text, split in ((folder, "validation"), (f"{folder}:train", "train")):
        pairs = Pairs.parse(text, "test", None)
        assert (pairs.split, pairs.root, pairs.is_path) == (split, Path(folder), True)
    with pytest.raises(InputError, match=r"unknown split of .*a:b 'tset'"):
        Pairs.parse(f"{folder}:tset", "test", None)
    with pytest.raises(InputError, match=r"a:c: no such folder\. Give one that 'scbench generate' wrote"):
        Pairs.parse(str(tmp_path / "a:c:train"), "test", None)
