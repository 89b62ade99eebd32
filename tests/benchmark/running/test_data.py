"""What runs call the data they were trained on: SC-ImageNet's name is not borrowed."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import datasets
import pyarrow.parquet as pq
import pytest
import timm
import torch
from PIL import ImageOps

from baselines import registry
from benchmark.commands.data import picture_of_pairs
from benchmark.commands.score import scored
from benchmark.report.contents import build
from benchmark.report.pictures import PairImages
from benchmark.running.arguments import RunOptions, changes_of, make_accelerator
from benchmark.running.data import NamedPairs
from benchmark.running.run import Run
from benchmark.scoring.comparison import shared_predictions
from benchmark.scoring.runs import find_runs
from sc_imagenet.core.errors import InputError
from sc_imagenet.data.images import open_image
from sc_imagenet.data.load import load_dataset
from sc_imagenet.data.record import read_record
from sc_imagenet.data.shards import write_pairs
from tests.benchmark.report.test_reproduction import filled
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
    folder.mkdir(parents=True)
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
    pairs = NamedPairs.parse(str(generated(tmp_path / folder, made_as)), "train", None)
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
    assert NamedPairs.parse("sc-imagenet", "train", tmp_path).name == "animals"


def test_sc_imagenet_is_known_by_its_classes_and_a_part_of_it_is_told(tmp_path):
    wnids = [f"n{number:08d}" for number in range(679)]
    whole = NamedPairs.parse(str(generated(tmp_path / "copy", categories=wnids)), "train", None)
    assert (whole.name, whole.shortfall) == ("sc-imagenet", None)
    part = NamedPairs.parse("sc-imagenet", "train", sc_release(tmp_path / "sc-imagenet"))
    assert (part.name, part.shortfall) == ("sc-imagenet", "3 of the 679 classes of sc-imagenet")
    assert changes_of(RunOptions("cats"), [part]) == ("trained on 3 of the 679 classes of sc-imagenet",)


def test_a_set_s_name_is_itself_where_a_folder_of_that_name_lies(tmp_path, monkeypatch):
    generated(tmp_path / "toy")
    monkeypatch.chdir(tmp_path)
    assert NamedPairs.parse("toy", "test", None).dataset == "toy"
    assert NamedPairs.parse("./toy", "train", None).is_path


def test_the_record_of_a_run_and_the_report_tell_the_own_name(tmp_path):
    options = RunOptions(
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
    assert any("pre-trained on my-set" in dict(run.facts).get("Training", "") for run in report.details)
    # Scored under SC-ImageNet's protocol, and as itself: by its name, with its pictures.
    (data,) = (data for data in result.data if data.name == "my-set")
    assert (data.key, data.form, data.pairs) == ("my-set:validation", "sc-imagenet", 2)
    assert "pck@0.1/bbox/image" in result.metrics["my-set:validation"]
    file = run.folder.path / "predictions/my-set-validation.parquet"
    assert scored(file, "strict", (), None, 2).info.scored_as == "sc-imagenet"
    (board,) = (board for board in report.leaderboards if board.form)
    assert (board.title, board.dataset, board.key) == ("my-set", "my-set", "my-set:validation")
    assert all(entry.scores[1] and entry.curve for entry in board.entries)
    images = PairImages("my-set", "validation", tmp_path / "my-set", "sc-imagenet")
    assert images.of(next(iter(images.entries)))[0].mode == "RGB"
    for elsewhere in (None, tmp_path):
        with pytest.raises(InputError, match="Give its folder as --data-root"):
            PairImages("my-set", "validation", elsewhere, "sc-imagenet")


def evaluation(folder: Path, **options) -> Run:
    given = RunOptions(
        "nearest",
        evaluate=(str(folder),),
        preset="tiny",
        settings={"recipe.model.pretrained": "false", "recipe.model.backbone": "resnet10t"},
        **{"runs": folder.parents[1] / "runs", **options},
    )
    return Run(given, make_accelerator(given))


def moved_points(folder: Path, by: float) -> None:
    """Mend the set in a folder: all target points are shifted."""
    record = read_record(folder / "pairs", "validation")
    rows = [row for file in record.files for row in pq.read_table(file).to_pylist()]
    for row in rows:
        row["target_points"] = [[x + by, y] for x, y in row["target_points"]]
    write_pairs(folder, "validation", rows, record.categories, len(rows))


def test_two_sets_of_one_name_keep_their_predictions_and_scores_in_one_run(tmp_path):
    for place in ("a", "b"):
        generated(tmp_path / place / "my-set")
    moved_points(tmp_path / "b/my-set", 7)
    first = evaluation(tmp_path / "a/my-set").execute()
    both = evaluation(tmp_path / "b/my-set").execute()
    again = evaluation(tmp_path / "a/my-set").execute()
    assert (again.data, again.metrics) == (both.data, both.metrics)
    (a, b) = both.data
    assert (a.key, b.key) == ("my-set:validation", f"my-set:validation@{b.manifest_sha256[:8]}")
    assert first.metrics == {a.key: both.metrics[a.key]}
    assert both.metrics[a.key] != both.metrics[b.key]
    run = evaluation(tmp_path / "a/my-set").folder.path
    names = {"my-set-validation.parquet", f"my-set-validation-{b.mark}.parquet"}
    assert {path.name for path in (run / "predictions").iterdir()} == names
    report = build(find_runs(tmp_path / "runs")[0])
    assert len({board.key for board in report.leaderboards}) == 2
    assert {board.manifest_sha256 for board in report.leaderboards} == {a.manifest_sha256, b.manifest_sha256}
    assert all(entry.scores[1] and entry.curve for board in report.leaderboards for entry in board.entries)
    assert filled(report) == []
    pairs = shared_predictions(run, run)
    assert [one.info.manifest_sha256 == other.info.manifest_sha256 for one, other in pairs] == [True, True]


def test_images_replaced_in_place_are_predicted_anew_and_no_training_is_said_to_have_seen_them(tmp_path, capsys):
    folder = generated(tmp_path / "made" / "my-set")
    link = folder / "JPEGImages"
    images = link.resolve()
    link.unlink()
    files = [file for split in ("train", "validation") for file in read_record(folder / "pairs", split).files]
    used = {row[side]["path"] for file in files for row in pq.read_table(file).to_pylist() for side in SIDES}
    for path in used:
        (link / path).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(images / path, link / path)
    first = evaluation(folder).execute()
    assert evaluation(folder).execute().metrics == first.metrics
    assert "predicted already" in capsys.readouterr().err
    settings = {"recipe.batch": "2", "recipe.model.pretrained": "false"}
    given = RunOptions(
        "cats", finetune=str(folder), preset="tiny", settings=settings, max_steps=1, runs=tmp_path / "runs"
    )
    Run(given, make_accelerator(given)).execute()
    Run(given, make_accelerator(given)).execute()
    assert "trained already" in capsys.readouterr().err
    for path in used:
        ImageOps.flip(open_image(link / path)).save(link / path)
    second = evaluation(folder).execute()
    assert "my-set:validation has other images than before" in capsys.readouterr().err
    assert second.metrics != first.metrics
    with pytest.raises(InputError, match="was trained when the images of my-set:train were others"):
        Run(given, make_accelerator(given)).execute()
    for path in used:
        shutil.copy(images / path, link / path)
    Run(given, make_accelerator(given)).execute()
    moved_points(folder, 3)  # of the pairs that chose the best weights
    with pytest.raises(InputError, match="was trained when the pairs of my-set:validation were others"):
        Run(given, make_accelerator(given)).execute()


def test_weights_of_the_backbone_and_a_saved_configuration_count_by_their_content(tmp_path):
    torch.manual_seed(0)
    net, weights = timm.create_model("resnet10t"), tmp_path / "weights.pth"
    settings = {"recipe.model.pretrained": str(weights), "recipe.model.backbone": "resnet10t"}
    given = RunOptions("nearest", evaluate=("toy",), settings=settings, runs=tmp_path)
    ids = []
    for _ in range(2):
        torch.save(net.state_dict(), weights)
        ids.append(Run(given, make_accelerator(given)).config.id)
        net.fc.weight.data *= 2
    assert ids[0] != ids[1]
    saved = tmp_path / "saved"
    registry.create("cats", pretrained=False).save_pretrained(saved)
    given = RunOptions("cats", evaluate=("toy",), checkpoint=str(saved), runs=tmp_path)
    before = Run(given, make_accelerator(given)).config.id
    config = json.loads((saved / "config.json").read_text())
    (saved / "config.json").write_text(json.dumps({**config, "pretrained": True}))
    assert Run(given, make_accelerator(given)).config.id != before


def test_a_folder_may_be_followed_by_a_split(tmp_path):
    folder = str(generated(tmp_path / "a:b"))
    for text, split in ((folder, "validation"), (f"{folder}:train", "train")):
        pairs = NamedPairs.parse(text, "test", None)
        assert (pairs.split, pairs.root, pairs.is_path) == (split, Path(folder), True)
    with pytest.raises(InputError, match=r"unknown split of .*a:b 'tset'"):
        NamedPairs.parse(f"{folder}:tset", "test", None)
    with pytest.raises(InputError, match=r"a:c: no such folder\. Give one that 'scbench generate' wrote"):
        NamedPairs.parse(str(tmp_path / "a:c:train"), "test", None)
