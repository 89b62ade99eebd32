"""Results survive the way to disk and back; runs that are damaged or half done never hide the others."""

import shutil
from dataclasses import replace

import pytest

from benchmark.scoring import pck
from benchmark.scoring.pck import Metric
from benchmark.scoring.prediction_files import read_predictions
from benchmark.scoring.result import ADDED_ENTRIES, RESULT_VERSION, read_result, write_result
from benchmark.scoring.runs import find_runs, prediction_files, score_run
from sc_imagenet.core.errors import InputError
from sc_imagenet.core.files import read_json, write_json
from tests.benchmark.runs import make_run


def test_a_result_reads_as_it_was_written(tmp_path):
    data = [("toy", "test", 20), ("toy", "validation", 10)]
    result = make_run(tmp_path, "r1", data=data, changes=("--limit 20",)).result
    assert read_result(tmp_path / "cats" / "r1") == result
    assert read_result(tmp_path / "cats" / "r1" / "result.json") == result
    assert [data.key for data in result.data] == ["toy", "toy:validation"]


def test_results_say_how_many_pairs_of_how_many_older_ones_too(tmp_path):
    data = [("spair-71k", "test", 35), ("toy", "test", 300)]
    result = make_run(tmp_path, "r1", data=data).result
    assert [each.counted for each in result.data] == ["35 of 12,234 pairs", "300 pairs"]
    file = tmp_path / "cats" / "r1" / "result.json"
    content = read_json(file)
    assert [each["published"] for each in content["data"]] == [12_234, 300]
    for each in content["data"]:
        del each["published"], each["without_box"]
    write_json(file, content)
    assert read_result(file) == result


def test_a_run_is_scored_from_its_predictions(tmp_path):
    make_run(tmp_path, "r1", data=[("toy", "test", 20), ("pf-willow", "images_test", 12)])
    folder = tmp_path / "cats" / "r1"
    metrics, categories = score_run(folder, draws=20)
    assert set(metrics) == set(categories) == {"toy", "pf-willow:images_test"}
    predictions = read_predictions(folder / "predictions" / "toy-test.parquet")
    name = "pck@0.1/bbox-kp/image"
    direct = pck.score_metrics(predictions, [Metric.parse(name)], draws=20)[name]
    assert metrics["toy"][name] == {"value": direct.value, "low": direct.low, "high": direct.high}
    assert categories["toy"][name] == pck.per_category(predictions, Metric.parse(name))
    assert "pck@0.1/bbox-padded@256/image" in categories["pf-willow:images_test"]


def damage(result_file, **changes):
    write_json(result_file, {**read_json(result_file), **changes})


def test_half_written_damaged_and_foreign_runs_become_lines(tmp_path):
    good = make_run(tmp_path, "good", data=[("toy", "test", 6)])
    for name in ("truncated", "older", "newer", "foreign", "scores", "no-list", "moon", "seed", "way"):
        make_run(tmp_path, name, data=[("toy", "test", 6)])
    files = {file.parent.name: file for file in (tmp_path / "cats").glob("*/result.json")}
    files["truncated"].write_bytes(files["truncated"].read_bytes()[:-100])
    damage(files["older"], version=RESULT_VERSION - 1)
    damage(files["newer"], version=RESULT_VERSION + 1)
    write_json(files["foreign"], ["something", "else"])
    damage(files["scores"], metrics={"toy": {"pck@0.1/img/image": {"value": "high"}}})
    damage(files["no-list"], data=3)
    damage(files["moon"], data=[{"name": "moon", "split": "test", "manifest_sha256": "", "pairs": 1}])
    damage(files["seed"], seed="zero")
    damage(files["way"], direction="sideways")
    for name in ("checkpoints", "predictions", "nothing"):
        (tmp_path / "cats" / f"only-{name}" / name).mkdir(parents=True)
    running = tmp_path / "cats" / "running"
    running.mkdir()
    (running / "config.json").write_text("{}")
    (tmp_path / "cats" / "not-a-run").mkdir()

    found, problems = find_runs(tmp_path)
    assert found == [good]
    names = (*files, "running", "only-checkpoints", "only-predictions")
    said = {name: line for line in problems for name in names if f"/cats/{name}:" in line or f"/{name}/" in line}
    assert len(problems) == len(said) == 12
    assert not any("\n" in line for line in problems)
    assert "not valid JSON" in said["truncated"]
    assert "Run again" in said["older"]
    assert "Update sc-imagenet" in said["newer"]
    assert "not the result of a run" in said["foreign"]
    assert "a score has value" in said["scores"]
    assert "entry of another kind" in said["no-list"]
    assert "unknown data set 'moon'" in said["moon"]
    assert "seed is 'zero'" in said["seed"]
    assert "direction is 'sideways'" in said["way"]
    for name in ("running", "only-checkpoints", "only-predictions"):
        assert "still running, or interrupted" in said[name]


def test_of_two_runs_with_one_id_the_first_is_kept_and_the_other_named(tmp_path):
    first = make_run(tmp_path / "a", "r1", data=[("toy", "test", 6)])
    shutil.copytree(first.folder, tmp_path / "a" / "copied" / "r1")
    changed = replace(first.result, seconds=1.0)
    write_result(tmp_path / "a" / "other" / "elsewhere", changed)
    found, problems = find_runs(tmp_path / "a")
    assert found == [first]
    assert len(problems) == 2
    assert "copied/r1: run r1 lies in" in problems[0]
    assert "a copy; this one is left out" in problems[0]
    assert "other/elsewhere: run r1 lies in" in problems[1]
    assert "with another result; this one is left out" in problems[1]


def test_missing_entries_are_named(tmp_path):
    make_run(tmp_path, "r1", data=[("toy", "test", 6)])
    file = tmp_path / "cats" / "r1" / "result.json"
    content = read_json(file)
    del content["seed"]
    write_json(file, {**content, "mood": "good"})
    with pytest.raises(InputError, match="missing or unknown entries: mood, seed"):
        read_result(file)


def test_an_untrained_run_is_known_as_such(tmp_path):
    result = make_run(tmp_path, "r1", data=[("toy", "test", 6)], finetune=None).result
    assert not result.trained
    assert replace(result, checkpoint="cats.pth").trained
    write_result(tmp_path / "copy", result)
    assert not read_result(tmp_path / "copy").trained


def test_prediction_files_of_a_file_a_run_and_nothing(tmp_path):
    make_run(tmp_path, "r1", data=[("toy", "test", 6), ("toy", "validation", 6)])
    files = prediction_files(tmp_path / "cats" / "r1")
    assert [file.name for file in files] == ["toy-test.parquet", "toy-validation.parquet"]
    assert prediction_files(files[0]) == [files[0]]
    with pytest.raises(InputError, match=r"holds no predictions/\*.parquet"):
        prediction_files(tmp_path)
    with pytest.raises(InputError, match="no such file or folder"):
        prediction_files(tmp_path / "missing")


def test_the_first_results_of_this_version_still_read(tmp_path):
    run = make_run(tmp_path, "r1", data=[("toy", "test", 6)])
    content = read_json(run.folder / "result.json")
    write_json(run.folder / "result.json", {name: content[name] for name in content if name not in ADDED_ENTRIES})
    assert read_result(run.folder) == run.result
