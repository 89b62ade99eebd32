"""PCK over alpha: stored when a run is scored, trusted only where it passes through the run's own scores."""

import json

import numpy as np
import pytest

from benchmark.scoring import pck, runs
from benchmark.scoring.details import CURVE_ALPHAS
from benchmark.scoring.pck import Metric
from benchmark.scoring.prediction_files import read_predictions
from benchmark.scoring.runs import curves_of, run_curves
from tests.benchmark.runs import make_run


@pytest.fixture
def run(tmp_path):
    return make_run(tmp_path, "r1", data=[("toy", "test", 20), ("pf-willow", "images_test", 8)])


def test_scoring_stores_curves_that_are_the_metric_at_every_alpha(run):
    stored = json.loads((run.folder / "curves.json").read_text())
    assert stored["alphas"] == list(CURVE_ALPHAS) == [round(0.01 * k, 2) for k in range(1, 21)]
    assert set(stored["curves"]) == {"toy", "pf-willow:images_test"}
    predictions = read_predictions(run.folder / "predictions" / "toy-test.parquet")
    curve = stored["curves"]["toy"]["bbox-kp/image"]
    for alpha in (0.01, 0.07, 0.2):
        direct = pck.score_metrics(predictions, [Metric(alpha, "bbox-kp")], draws=1)
        assert curve[CURVE_ALPHAS.index(alpha)] == pytest.approx(direct[f"pck@{alpha}/bbox-kp/image"].value, abs=1e-4)
    assert np.all(np.diff(curve) >= 0)
    assert set(stored["curves"]["pf-willow:images_test"]) == {"bbox-kp/image", "bbox-padded@256/image"}


def test_stored_curves_are_taken_without_reading_the_predictions(run, monkeypatch):
    monkeypatch.setattr(runs, "read_predictions", lambda file: pytest.fail("predictions were read"))
    found, problems = run_curves(run.folder, run.result)
    assert set(found) == {"toy", "pf-willow:images_test"}
    assert problems == []


@pytest.mark.parametrize(
    "content", ["", "[1]", '{"version": 99}', '{"version": 1, "alphas": [0.1], "curves": {}}', None]
)
def test_missing_damaged_and_foreign_curves_are_computed_again_and_stored(run, content):
    file = run.folder / "curves.json"
    good = file.read_text()
    file.unlink() if content is None else file.write_text(content)
    found, problems = run_curves(run.folder, run.result)
    assert problems == []
    assert json.loads(file.read_text())["curves"] == json.loads(good)["curves"] == found


def test_curves_of_other_predictions_than_the_scored_ones_are_not_believed(run, tmp_path):
    other = make_run(tmp_path / "other", "r1", data=[("toy", "test", 20), ("pf-willow", "images_test", 8)], noise=40)
    (run.folder / "curves.json").write_bytes((other.folder / "curves.json").read_bytes())
    found, problems = run_curves(run.folder, run.result)
    predictions = read_predictions(run.folder / "predictions" / "toy-test.parquet")
    assert found["toy"] == curves_of(predictions)
    assert problems == []


def test_what_cannot_be_had_is_said_for_each_data_set(run, tmp_path):
    (run.folder / "curves.json").unlink()
    toy, willow = (run.folder / "predictions" / name for name in ("toy-test.parquet", "pf-willow-images_test.parquet"))
    toy.unlink()
    willow.write_bytes(willow.read_bytes()[:100])
    found, problems = run_curves(run.folder, run.result)
    assert found == {}
    assert "toy-test.parquet: the predictions were deleted" in problems[0]
    assert "not a readable Parquet file" in problems[1]
    other = make_run(tmp_path / "other", "r1", data=[("toy", "test", 20)], noise=40)
    toy.write_bytes((other.folder / "predictions" / "toy-test.parquet").read_bytes())
    found, problems = run_curves(run.folder, run.result)
    assert found == {}
    assert "do not give the scores of the result" in problems[0]
