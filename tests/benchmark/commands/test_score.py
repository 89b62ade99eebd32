"""``scbench score``: tables and JSON of stored predictions."""

import json
import resource
import subprocess
import sys
import time

import numpy as np
import pyarrow as pa
import pytest

from benchmark.scoring import pck
from benchmark.scoring.pck import Metric
from benchmark.scoring.prediction_files import PREDICTION_SCHEMA, predictions_of, read_predictions, write_predictions
from benchmark.scoring.predictions import PredictionInfo
from tests.benchmark.runs import make_run


def scbench(*arguments, check=True):
    """Run a command in a process of its own, which imports neither torch nor datasets."""
    code = (
        "import sys; from benchmark.cli import main\n"
        "heavy = {'torch', 'datasets', 'transformers', 'timm'}\n"
        "try: main()\nfinally: assert not heavy & set(sys.modules), 'heavy import'"
    )
    command = [sys.executable, "-c", code, *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True)
    if check:
        assert done.returncode == 0, done.stderr
    return done


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    runs = tmp_path_factory.mktemp("runs")
    make_run(runs, "r1", data=[("pf-willow", "test", 30)], categories=("car(S)", "duck(S)"))
    return runs / "cats" / "r1"


def test_all_protocols_side_by_side_without_torch(run):
    out = scbench("score", run, "--draws", 50, "--per-category").stdout
    assert "target -> source, predictions lie in the source" in out
    assert "30 of 900 pairs, 150 points" in out
    legacy = [line for line in out.splitlines() if "bbox-padded " in line and "256 x 256" in line]
    assert "paper, legacy" in legacy[0]
    assert any("strict" in line and "bbox-kp" in line and "original" in line for line in out.splitlines())
    assert "strict: it is meant forward, these predictions are backward; 'scbench run" in out
    assert "duck(S)" in out


def test_json_holds_the_same_figures(run):
    found = json.loads(scbench("score", run, "--json", "--per-category", "--protocol", "paper").stdout)
    assert [entry["pairs"] for entry in found] == [30]
    name = "pck@0.1/bbox-padded@256/image"
    predictions = read_predictions(run / "predictions" / "pf-willow-test.parquet")
    direct = pck.score_metrics(predictions, [Metric.parse(name)])[name]
    assert found[0]["metrics"][name] == {
        "value": direct.value,
        "low": direct.low,
        "high": direct.high,
        "legacy": True,
    }
    assert found[0]["per_category"][name] == pck.per_category(predictions, Metric.parse(name))


def test_a_subset_and_chosen_metrics(run, tmp_path):
    (tmp_path / "ids.txt").write_text("p3\n\np5\n")
    out = scbench(
        "score", run, "--subset", tmp_path / "ids.txt", "--metric", "pck@0.2/img/point,pck@0.3/img/point", "--json"
    ).stdout
    entry = json.loads(out)[0]
    assert (entry["pairs"], entry["pairs_in_file"], entry["points"]) == (2, 30, 10)
    assert list(entry["metrics"]) == ["pck@0.2/img/point", "pck@0.3/img/point"]


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16"])
def test_a_subset_may_be_written_by_windows(run, tmp_path, encoding):
    (tmp_path / "ids.txt").write_bytes("p3\r\np5\r\n".encode(encoding))
    out = scbench("score", run, "--subset", tmp_path / "ids.txt", "--metric", "pck@0.2/img/point").stdout
    assert "2 of 900 pairs, a subset of the 30 predicted, 10 points" in out


def test_pairs_that_bbox_kp_leaves_out_are_told(tmp_path):
    info = PredictionInfo("toy", "test", "nearest", 256, "r1", "m" * 64, "forward")
    sides = {
        f"{side}_{what}": value
        for side in ("source", "target")
        for what, value in (("size", (200, 150)), ("bbox", None))
    }
    sides |= {"direction": "forward", "category": "chair"}
    pairs = {"a": [(0, 0), (30, 40)], "b": [(5, 5)], "c": [(7, 7), (7, 7)]}
    rows = [
        {"pair_id": name, "source_points": points, "target_points": points, "predicted_points": points, **sides}
        for name, points in pairs.items()
    ]
    write_predictions(tmp_path / "p.parquet", rows, info)
    said = "bbox-kp: 2 of the 3 pairs have one point, or all in one place"
    out = scbench("score", tmp_path / "p.parquet", "--protocol", "strict").stdout
    assert said in " ".join(out.split())
    assert "3 of 300 pairs, 5 points" in out
    (entry,) = json.loads(scbench("score", tmp_path / "p.parquet", "--json").stdout)
    assert (entry["pairs"], entry["pairs_published"], entry["pairs_without_bbox_kp"]) == (3, 300, 2)
    assert said in entry["notes"][0]
    assert said not in scbench("score", tmp_path / "p.parquet", "--metric", "pck@0.1/img/image").stdout


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--metric", "pck@0.1/bboxes/image"], "unknown PCK threshold 'bboxes'. Did you mean 'bbox'?"),
        (["--protocol", "papers"], "unknown protocol 'papers'. Did you mean 'paper'?"),
        (["--subset", "no-such-file"], "no-such-file: no such file"),
    ],
)
def test_mistakes_end_in_one_line_and_code_2(run, arguments, says):
    done = scbench("score", run, *arguments, check=False)
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert says in done.stderr


def test_twelve_thousand_pairs_with_every_protocol(capsys):
    """SPair-71k's size under all protocols at three alphas; prints time and memory."""
    random = np.random.default_rng(0)
    n = 12_234
    counts = random.integers(3, 31, n)

    def column(values, kind):
        width = kind.list_size
        return pa.FixedSizeListArray.from_arrays(pa.array(values.ravel(), kind.value_type), width)

    def points(values):
        kind = PREDICTION_SCHEMA.field("source_points").type.value_type
        ends = pa.array(np.concatenate([[0], np.cumsum(counts)]), pa.int32())
        return pa.ListArray.from_arrays(ends, column(values.astype(np.float32), kind))

    true = random.random((counts.sum(), 2)) * (500, 375)
    predicted = true + random.normal(0, 30, true.shape)
    sizes = column(np.tile(np.int32([500, 375]), (n, 1)), PREDICTION_SCHEMA.field("source_size").type)
    boxes = np.float32(np.tile([50, 40, 350, 300], (n, 1)))
    boxes = column(boxes, PREDICTION_SCHEMA.field("source_bbox").type)
    table = pa.table(
        {
            "pair_id": [f"{i}" for i in range(n)],
            "category": [f"c{i % 18}" for i in range(n)],
            "source_size": sizes,
            "target_size": sizes,
            "source_bbox": boxes,
            "target_bbox": boxes,
            "source_points": points(true),
            "target_points": points(true),
            "predicted_points": points(predicted),
            "direction": ["forward"] * n,
        }
    )
    predictions = predictions_of(table, PredictionInfo("spair-71k", "test", "cats", 256, "r", "m", "forward"))
    metrics = [
        Metric(alpha, threshold, frame, average)
        for alpha in pck.BUNDLE_ALPHAS
        for threshold in pck.METRIC_THRESHOLDS
        for frame in (None, 256)
        for average in pck.METRIC_AVERAGES
    ]
    began = time.perf_counter()
    scores = pck.score_metrics(predictions, metrics, draws=1000)
    seconds = time.perf_counter() - began
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    with capsys.disabled():
        print(f"\n{n} pairs, {len(metrics)} metrics, 1,000 draws: {seconds:.2f} s, process peak {peak:.0f} MB")
    # The plain average over pairs, and an interval as wide as the standard error of that mean says.
    within = np.hypot(*(predicted - true).astype(np.float32).T) <= 0.1 * 500
    owner = np.repeat(np.arange(n), counts)
    by_pair = 100 * np.bincount(owner, within) / counts
    found = scores["pck@0.1/img/image"]
    assert found.value == pytest.approx(by_pair.mean(), abs=0.01)
    assert found.high - found.low == pytest.approx(3.92 * by_pair.std() / n**0.5, rel=0.1)
