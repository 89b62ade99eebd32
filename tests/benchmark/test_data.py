"""What runs call the data they were trained on: SC-ImageNet's name is not borrowed."""

from __future__ import annotations

import json
from pathlib import Path

import datasets
import pytest

from benchmark.data import Pairs
from benchmark.report.build import build
from benchmark.results import find_runs
from benchmark.run_options import Options, changes_of, make_accelerator
from benchmark.running import Run
from sc_imagenet import load_dataset
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
        ("sc-imagenet", "", "own sc-imagenet"),
        ("SC-ImageNet", "sc-imagenet", "own sc-imagenet"),
        ("spair-71k", None, "own spair-71k"),
    ],
)
def test_a_generated_set_keeps_its_own_name(tmp_path, folder, made_as, name):
    pairs = Pairs.parse(str(generated(tmp_path / folder, made_as)), "train", None)
    assert (pairs.name, pairs.shortfall) == (name, None)
    assert pairs.validation.name == name


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
    (tmp_path / "toy").mkdir()
    monkeypatch.chdir(tmp_path)
    assert Pairs.parse("toy", "test", None).dataset == "toy"
    assert Pairs.parse("./toy", "train", None).is_path


def test_the_record_of_a_run_and_the_report_tell_the_own_name(tmp_path):
    options = Options(
        "cats",
        pretrain=str(generated(tmp_path / "my-set", "my-set")),
        finetune="toy",
        evaluate=("toy",),
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
