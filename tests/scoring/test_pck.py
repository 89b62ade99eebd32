"""PCK by hand-set values, and against a plain loop."""

import math

import numpy as np
import pytest

from benchmark.scoring import pck
from benchmark.scoring.bootstrap import bootstrap_weights
from benchmark.scoring.pck import Metric
from benchmark.scoring.prediction_files import read_predictions, write_predictions
from benchmark.scoring.predictions import PredictionInfo, Predictions
from sc_imagenet.core.errors import InputError

FORWARD = PredictionInfo("spair-71k", "test", "cats", 256, "r1", "m1", "forward")
BACKWARD = PredictionInfo("spair-71k", "test", "cats", 256, "r1", "m1", "backward")


def row(pair_id, true, predicted, *, size=(200, 100), bbox=(0, 0, 50, 40), category="cat", direction="forward"):
    """A pair whose other image is a thousand times as large, so that using it by mistake shows."""
    here, there = ("target", "source") if direction == "forward" else ("source", "target")
    return {
        "pair_id": pair_id,
        "category": category,
        "direction": direction,
        f"{here}_size": size,
        f"{here}_bbox": bbox,
        f"{here}_points": true,
        f"{there}_size": (200_000, 100_000),
        f"{there}_bbox": (0, 0, 50_000, 40_000),
        f"{there}_points": [(1000 * x, 1000 * y) for x, y in true],
        "predicted_points": predicted,
    }


@pytest.fixture
def stored(tmp_path):
    def store(*rows, info=FORWARD) -> Predictions:
        write_predictions(tmp_path / "p.parquet", rows, info)
        return read_predictions(tmp_path / "p.parquet")

    return store


def value(predictions, name):
    return pck.score_metrics(predictions, [Metric.parse(name)], draws=2)[name].value


TRUE = [(10, 20), (40, 20), (40, 80), (90, 50)]  # tight box 80 x 60, largest coordinate 90


@pytest.mark.parametrize(
    ("threshold", "frame", "d"),
    [
        ("img", None, 200),
        ("bbox", None, 50),
        ("bbox-kp", None, 80),
        ("bbox-padded", None, 91),
        ("bbox-padded2", None, 92),
        # in a 100 x 100 frame x is halved and y stays
        ("img", 100, 100),
        ("bbox", 100, 40),
        ("bbox-kp", 100, 60),
        ("bbox-padded", 100, 81),
        ("bbox-padded2", 100, 82),
    ],
)
@pytest.mark.parametrize("direction", ["forward", "backward"])
def test_threshold_of_the_image_that_the_prediction_lies_in(stored, threshold, frame, d, direction):
    info = FORWARD if direction == "forward" else BACKWARD
    predictions = stored(row("a", TRUE, TRUE, direction=direction), info=info)
    assert pck.metric_thresholds(predictions, threshold, frame) == pytest.approx([d])


def test_distance_in_a_resized_frame_does_not_keep_the_aspect(stored):
    predictions = stored(row("a", [(10, 10), (10, 10)], [(16, 10), (10, 16)]))
    assert pck.distances(predictions) == pytest.approx([6, 6])
    assert pck.distances(predictions, 100) == pytest.approx([3, 6])


def test_equal_shares_of_points_are_equal_numbers_under_every_average(stored):
    """Where all pairs have as many points, the averages over images and over points are the same number."""
    random = np.random.default_rng(0)
    true = [(10 * n, 20) for n in range(10)]
    for pairs in (3, 7, 40, 63):
        rows = [row(f"p{n}", true, [(x + 50 * random.integers(2), y) for x, y in true]) for n in range(pairs)]
        predictions = stored(*rows)
        image, point, category = (value(predictions, f"pck@0.1/img/{average}") for average in pck.METRIC_AVERAGES)
        assert image == point == category == pck.per_category(predictions, Metric.parse("pck@0.1/img/image"))["cat"]


def test_a_prediction_exactly_at_the_limit_counts(stored):
    predictions = stored(row("a", [(0, 0)] * 2, [(20, 0), (20.001, 0)]))  # alpha 0.1 of 200 is 20
    assert value(predictions, "pck@0.1/img/image") == 50


def test_averages(stored):
    # cat: pairs of 1/1 and 0/3; dog: 1/2
    predictions = stored(
        row("a", [(0, 0)], [(0, 0)]),
        row("b", [(0, 0)] * 3, [(99, 0)] * 3),
        row("c", [(0, 0)] * 2, [(0, 0), (99, 0)], category="dog"),
    )
    assert value(predictions, "pck@0.1/img/image") == pytest.approx(50)
    assert value(predictions, "pck@0.1/img/point") == pytest.approx(100 / 3)
    assert value(predictions, "pck@0.1/img/category") == pytest.approx(50)
    assert pck.per_category(predictions, Metric.parse("pck@0.1/img/image")) == {"cat": 50, "dog": 50}
    assert pck.per_category(predictions, Metric.parse("pck@0.1/img/point")) == {"cat": 25, "dog": 50}
    assert pck.category_pairs(predictions) == {"cat": 2, "dog": 1}


def test_a_pair_without_points_counts_in_no_average(stored):
    rows = [row("a", [(0, 0), (30, 0)], [(0, 0), (99, 0)]), row("b", [], [], category="dog")]
    for order in (rows, rows[::-1]):
        predictions = stored(*order)
        for average in pck.METRIC_AVERAGES:
            for threshold in pck.METRIC_THRESHOLDS:
                name = f"pck@0.1/{threshold}/{average}"
                assert value(predictions, name) == 50
        assert pck.per_category(predictions, Metric.parse("pck@0.1/img/image")) == {"cat": 50}


@pytest.mark.parametrize("average", list(pck.METRIC_AVERAGES))
def test_pairs_whose_points_have_no_box_around_them_count_in_no_average_of_bbox_kp(stored, average):
    """One point, or several in one place, all wrong: not misses, since no threshold says so."""
    rows = [
        row("a", [(0, 0), (30, 40)], [(0, 0), (99, 0)]),
        row("b", [(5, 5)], [(90, 5)]),
        row("c", [(5, 5)] * 3, [(90, 5)] * 3, category="dog"),
    ]
    predictions = stored(*rows)
    assert pck.pairs_without_box(predictions) == 2
    name = f"pck@0.1/bbox-kp/{average}"
    assert value(predictions, name) == value(stored(rows[0]), name) == 50
    assert pck.per_category(predictions, Metric.parse(name)) == {"cat": 50}
    # Under every other threshold they are misses, the authors' padded ones included.
    for threshold in ("img", "bbox", "bbox-padded", "bbox-padded2"):
        assert value(predictions, f"pck@0.1/{threshold}/point") == pytest.approx(100 / 6)


def test_bbox_kp_of_pairs_that_all_have_no_box_is_refused_and_left_out_of_all(stored):
    predictions = stored(row("a", [(5, 5)], [(5, 5)]), row("b", [(5, 5)], [(90, 5)]))
    with pytest.raises(InputError, match=r"pck@0.1/bbox-kp/image: no pair of spair-71k has two points apart"):
        value(predictions, "pck@0.1/bbox-kp/image")
    left = pck.measurable(predictions, [Metric(0.1, threshold) for threshold in pck.METRIC_THRESHOLDS])
    assert [metric.threshold for metric in left] == ["img", "bbox", "bbox-padded", "bbox-padded2"]


def test_nothing_to_score_is_refused(stored):
    with pytest.raises(InputError, match="no pair of spair-71k has a point"):
        value(stored(row("a", [], [])), "pck@0.1/img/image")


def test_bbox_without_boxes_is_refused_and_says_what_to_use(stored):
    predictions = stored(row("a", TRUE, TRUE, bbox=None), row("b", TRUE, TRUE))
    assert not pck.has_boxes(predictions)
    with pytest.raises(InputError, match=r"1 of 2 pairs .* Use bbox-kp"):
        value(predictions, "pck@0.1/bbox/image")


@pytest.mark.parametrize(
    "name",
    ["pck@0.05/img/image", "pck@0.1/bbox-kp@256/point", "pck@0.15/bbox-padded2@240/category"],
)
def test_a_metric_is_its_name(name):
    assert str(Metric.parse(name)) == name
    assert str(Metric.parse(f" {name.upper()} ")) == name


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("pck@0.1", "is not the name of a metric"),
        ("pck@0.1/img@0/image", "must be positive"),
        ("pck@0/img/image", "must be positive"),
        ("pck@1.2.3/img/image", "is not a number"),
        ("pck@0.1/box/image", "unknown PCK threshold 'box'.*bbox-padded"),
        ("pck@0.1/img/pair", "unknown PCK average 'pair'"),
    ],
)
def test_wrong_names_are_refused(name, says):
    with pytest.raises(InputError, match=says):
        Metric.parse(name)


def random_predictions(stored, direction, pairs=60):
    random = np.random.default_rng(7)
    rows = []
    for i in range(pairs):
        size = random.integers(80, 500, 2)
        true = random.random((random.integers(1, 9), 2)) * size
        box = np.concatenate([true.min(axis=0) - 3, true.max(axis=0) + 5])
        predicted = true + random.normal(0, 20, true.shape)
        category = f"c{i % 7}"
        rows.append(row(f"p{i}", true, predicted, size=size, bbox=box, category=category, direction=direction))
    return stored(*rows, info=FORWARD if direction == "forward" else BACKWARD)


def loop_pair(predictions, i, metric):
    """Hits of one pair, the plain way."""
    width, height = predictions.sizes[i]
    sx, sy = (metric.frame / width, metric.frame / height) if metric.frame else (1, 1)
    span = range(predictions.offsets[i], predictions.offsets[i + 1])
    xs = [predictions.true[k][0] * sx for k in span]
    ys = [predictions.true[k][1] * sy for k in span]
    x0, y0, x1, y1 = predictions.boxes[i]
    d = {
        "img": max(width * sx, height * sy),
        "bbox": max((x1 - x0) * sx, (y1 - y0) * sy),
        "bbox-kp": max(max(xs) - min(xs), max(ys) - min(ys)),
        "bbox-padded": max(max([*xs, -1]) - min([*xs, -1]), max([*ys, -1]) - min([*ys, -1])),
        "bbox-padded2": max(max([*xs, -2]) - min([*xs, -2]), max([*ys, -2]) - min([*ys, -2])),
    }[metric.threshold]
    if metric.threshold == "bbox-kp" and d == 0:
        return 0, 0
    hits = 0
    for k, x, y in zip(span, xs, ys):
        distance = math.hypot(predictions.predicted[k][0] * sx - x, predictions.predicted[k][1] * sy - y)
        hits += distance <= metric.alpha * d
    return hits, len(xs)


def loop_average(predictions, weights, metric, table):
    """The weighted average of the pairs' hits, the plain way."""
    if metric.average == "point":
        return (
            100
            * sum(w * hits for w, (hits, _) in zip(weights, table))
            / sum(w * n for w, (_, n) in zip(weights, table))
        )
    groups = {}
    for w, category, (hits, n) in zip(weights, predictions.categories, table):
        if not n:
            continue
        key = category if metric.average == "category" else "all"
        groups.setdefault(key, []).append((w, hits / n))
    means = [sum(w * v for w, v in g) / sum(w for w, _ in g) for g in groups.values() if any(w for w, _ in g)]
    return 100 * sum(means) / len(means)


@pytest.mark.parametrize("direction", ["forward", "backward"])
def test_scores_and_intervals_equal_a_plain_loop(stored, direction):
    predictions = random_predictions(stored, direction)
    metrics = [
        Metric(alpha, threshold, frame, average)
        for alpha in (0.05, 0.15)
        for threshold in pck.METRIC_THRESHOLDS
        for frame in (None, 240)
        for average in pck.METRIC_AVERAGES
    ]
    draws = 270  # more than one chunk
    scores = pck.score_metrics(predictions, metrics, draws=draws, seed=3)
    weights = np.concatenate(list(bootstrap_weights(len(predictions), draws, seed=3)))
    assert weights.shape == (draws, len(predictions))
    assert (weights.sum(axis=1) == len(predictions)).all()
    for metric in metrics:
        table = [loop_pair(predictions, i, metric) for i in range(len(predictions))]
        ones = [1] * len(predictions)
        expected = loop_average(predictions, ones, metric, table)
        drawn = [loop_average(predictions, w, metric, table) for w in weights]
        found = scores[str(metric)]
        assert found.value == pytest.approx(expected)
        assert (found.low, found.high) == pytest.approx(tuple(np.percentile(drawn, (2.5, 97.5))))


def test_the_same_seed_gives_the_same_interval_and_another_seed_another(stored):
    predictions = random_predictions(stored, "forward")
    metric = Metric(0.1, "img")
    first = pck.score_metrics(predictions, [metric], 200, seed=1)
    assert (
        pck.score_metrics(predictions, [metric, Metric(0.05, "bbox")], 200, seed=1)[str(metric)] == first[str(metric)]
    )
    assert pck.score_metrics(predictions, [metric], 200, seed=2)[str(metric)] != first[str(metric)]


def test_intervals_cover_the_truth_about_as_often_as_they_say(stored):
    # 100 data sets of 80 one-point pairs whose true PCK is 30 %
    random = np.random.default_rng(0)
    covered = 0
    for _ in range(100):
        rows = [row(str(i), [(0, 0)], [(0 if random.random() < 0.3 else 99, 0)]) for i in range(80)]
        found = pck.score_metrics(stored(*rows), [Metric(0.1, "img")], draws=200)["pck@0.1/img/image"]
        covered += found.low <= 30 <= found.high
    assert 87 <= covered <= 100
