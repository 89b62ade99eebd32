"""What a person uses from Python: ``import sc_imagenet, baselines, benchmark`` and one line for each thing."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from accelerate import Accelerator

import baselines
import benchmark
import sc_imagenet
from benchmark.running import evaluate as stored
from benchmark.running.match import _by_call
from benchmark.scoring.prediction_files import read_predictions
from benchmark.scoring.predictions import PredictionInfo

PUBLIC = {
    sc_imagenet: ["InputError", "load_dataset"],
    baselines: ["Matcher", "Recipe", "load_model", "recipe", "register"],
    benchmark: ["PCK", "evaluate", "match", "score"],
}
PAIRS = 6


@pytest.fixture(scope="module")
def nearest():
    return baselines.load_model("nearest", backbone="tf_efficientnet_lite0")


@pytest.fixture(scope="module")
def found(nearest):
    return benchmark.evaluate(nearest, "toy", limit=PAIRS, draws=0)


def unmoved(source, target, points):
    """Every point where it was."""
    return points


def test_the_public_names_are_these_and_documented():
    for package, names in PUBLIC.items():
        assert package.__all__ == names
        assert all(getattr(package, name).__doc__ for name in names)
        with pytest.raises(AttributeError, match=f"module '{package.__name__}' has no attribute 'nothing'"):
            package.nothing  # noqa: B018


def test_importing_all_three_imports_nothing_heavy():
    code = (
        "import sys; import sc_imagenet, baselines, benchmark\n"
        "heavy = {'torch', 'datasets', 'numpy', 'pandas', 'timm', 'PIL', 'rich', 'typer'}\n"
        "assert not heavy & set(sys.modules), heavy & set(sys.modules)\n"
        "import baselines.recipe, baselines.registry\n"
        "assert baselines.recipe.__name__ == 'recipe'"
    )
    subprocess.run([sys.executable, "-W", "error::ImportWarning", "-c", code], check=True)


def test_a_matcher_is_evaluated_as_a_run_evaluates_it(nearest, found, tmp_path):
    rows = benchmark.running.data.NamedPairs.parse("toy", "test", None).open(PAIRS)
    info = PredictionInfo("toy", "test", "nearest", nearest.size, "run", "m" * 64, "forward")
    stored.evaluate(nearest, rows, tmp_path / "toy-test.parquet", info, Accelerator(cpu=True))
    assert np.array_equal(read_predictions(tmp_path / "toy-test.parquet").predicted, found.predictions.predicted)


def test_a_function_and_an_object_with_transfer_are_evaluated_and_matched(nearest, found):
    class Function:
        def transfer(self, source, target, points):
            return torch.from_numpy(benchmark.match(nearest, source, target, points).target_points)

    by_object = benchmark.evaluate(Function(), "toy", limit=PAIRS, draws=0)
    np.testing.assert_allclose(by_object.predictions.predicted, found.predictions.predicted, atol=1e-2)
    by_function = benchmark.evaluate(Function().transfer, "toy", limit=PAIRS, draws=0)
    assert np.array_equal(by_function.predictions.predicted, by_object.predictions.predicted)
    still = benchmark.evaluate(unmoved, "toy", limit=PAIRS, draws=0)
    assert np.array_equal(still.predictions.predicted, still.predictions.other)
    pair = sc_imagenet.load_dataset("toy", split="test")[0]
    matched = benchmark.match(unmoved, pair["source"], np.asarray(pair["target"]), pair["source_points"])
    assert np.array_equal(matched.target_points, matched.source_points)
    assert not matched.loop.any()


def test_a_function_sees_mirrored_pairs_mirrored():
    rows = sc_imagenet.load_dataset("toy", split="test").select(range(2))
    mirrored = rows.remove_columns("mirrored").add_column("mirrored", [True, True])
    sizes = []

    def moved(source, target, points):
        sizes.append((source, target))
        return points + 1

    for row, predicted, (source, target) in zip(rows, _by_call(moved, mirrored), sizes):
        there = source.width - np.array(row["source_points"])[:, 0]
        np.testing.assert_allclose(predicted["predicted_points"][:, 0], target.width - (there + 1))
        assert source.getpixel((0, 0)) == row["source"].convert("RGB").getpixel((source.width - 1, 0))


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (lambda source, target, points: points[:1], r"^pair .*<lambda> gives points of shape \(1, 2\) for"),
        (lambda source, target, points: points * np.nan, "gives points that are NaN or infinite"),
        (3, r"a int transfers no points\. Give a Matcher"),
    ],
)
def test_what_transfers_no_points_is_said_in_a_line(model, message):
    with pytest.raises(sc_imagenet.InputError, match=message):
        benchmark.evaluate(model, "toy", limit=2)


def test_wrong_names_are_refused_before_any_work():
    for given in ({"protocols": "geoawar"}, {"direction": "back"}, {"limit": 0}):
        with pytest.raises(sc_imagenet.InputError, match=r"geoawar|back|limit=0"):
            benchmark.evaluate(unmoved, "toy", **given)
    with pytest.raises(sc_imagenet.InputError, match="unknown data set 'pf-wilow'"):
        benchmark.evaluate(unmoved, "pf-wilow")


def test_scores_of_one_set_of_predictions_are_the_same_whatever_form_they_have(nearest, found, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    whole = benchmark.evaluate(unmoved, "toy", draws=0, out="mine.parquet")
    assert sorted(os.listdir()) == ["mine.parquet"]
    p = whole.predictions
    points = {
        name: p.predicted[a:b]
        for name, a, b in zip(p.pair_ids.tolist(), p.offsets[:-1].tolist(), p.offsets[1:].tolist())
    }
    lines = [json.dumps({"pair_id": name, "points": values.tolist()}) for name, values in points.items()]
    Path("mine.jsonl").write_text("\n".join(lines))
    for given in (p, "mine.parquet", Path("mine.jsonl"), points):
        scores = benchmark.score(given, "toy", "strict@1,geoaware-point@1", draws=0)
        assert scores.pck(0.1) == pytest.approx(whole.pck(0.1), abs=1e-9)
        assert list(scores) == ["strict@1", "geoaware-point@1"]
        assert scores.pairs == len(p)
    few = dict(list(points.items())[:3])
    assert benchmark.score(few, "toy", draws=0).notes[0].startswith("partial: 3 of the ")
    with pytest.raises(sc_imagenet.InputError, match=r"are not of toy:test, the first is 'nothing'"):
        benchmark.score({"nothing": [[1, 2]]}, "toy")
    with pytest.raises(sc_imagenet.InputError, match="predictions of toy, not of spair-71k"):
        benchmark.score(p, "spair-71k")


def test_predictions_of_a_function_are_read_back_by_the_command(tmp_path):
    file = tmp_path / "mine.parquet"
    found = benchmark.evaluate(unmoved, "toy", limit=PAIRS, draws=0, out=file)
    command = [sys.executable, "-m", "benchmark", "score", str(file), "--protocol", "all", "--json"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    [told] = json.loads(done.stdout)
    assert told["metrics"]["pck@0.1/bbox-kp/image"]["value"] == pytest.approx(found.pck(0.1))
    assert told["model"] == "unmoved"


def test_a_model_is_had_by_its_name_or_by_weights_that_tell_it(tmp_path, monkeypatch):
    built = baselines.registry.create("cats", backbone="resnet10t", pretrained=False, size=64)
    built.save_pretrained(tmp_path / "cats-small")
    for given in ((tmp_path / "cats-small",), (str(tmp_path / "cats-small"),), ("cats", tmp_path / "cats-small")):
        model = baselines.load_model(*given)
        assert type(model) is type(built)
        assert not model.training
        same = zip(model.state_dict().values(), built.state_dict().values())
        assert all(torch.equal(one.cpu(), two) for one, two in same)
    monkeypatch.chdir(tmp_path)
    assert baselines.load_model("cats-small").size == 64
    Path("nearest").mkdir()  # a model's name is that of the model, whatever lies here
    assert baselines.load_model("nearest", backbone="tf_efficientnet_lite0").size == 320
    with pytest.raises(sc_imagenet.InputError, match="cats is a trained model and no weights were given"):
        baselines.load_model("cats")
    with pytest.raises(sc_imagenet.InputError, match="both given"):
        baselines.load_model("cats-small", backbone="resnet18")


def test_a_model_is_had_from_the_folder_of_its_run(tmp_path):
    from benchmark.running.arguments import RunOptions
    from benchmark.running.run import execute

    settings = {"recipe.batch": "2"}
    result = execute(
        RunOptions("cats", finetune="toy", preset="tiny", settings=settings, limit=4, max_steps=1, runs=tmp_path)
    )
    model = baselines.load_model(tmp_path / "cats" / result.run)
    assert type(model).__name__ == "CATs"
    assert model.size == result.size
