"""SPair-71k's 12,234 test pairs under every protocol: against a plain loop, without one, and in little memory."""

import math
import sys
import tracemalloc
from dataclasses import replace

import numpy as np
import pytest

from benchmark.scoring.evaluation import evaluate_predictions
from benchmark.scoring.keypoints import GEOMETRY
from benchmark.scoring.metric import score_protocols
from benchmark.scoring.predictions import NOWHERE, Predictions, predictions_of_pairs
from benchmark.scoring.protocols import ALL, protocol_named
from tests.scoring.made import pairs


def as_many_as_spair(count=12_234, seed=0):
    random = np.random.default_rng(seed)
    counts = random.integers(4, 20, count)
    offsets = np.concatenate([[0], np.cumsum(counts)])
    owner = np.repeat(np.arange(count), counts)
    sizes = random.integers(200, 500, (count, 2))
    true = random.random((len(owner), 2)) * sizes[owner]
    boxes = np.sort(random.random((count, 2, 2)), axis=1).reshape(count, 4) * np.tile(sizes, 2)
    return Predictions(
        pair_ids=np.char.zfill(np.arange(count).astype(str), 6),
        categories=np.array(list(GEOMETRY))[random.integers(0, 18, count)],
        sizes=sizes,
        other_sizes=sizes,
        boxes=boxes,
        other_boxes=boxes,
        true=true,
        other=true,
        predicted=true + random.normal(0, 20, true.shape),
        offsets=offsets,
        info=replace(NOWHERE, dataset="spair-71k", model="cats"),
        ids=np.arange(len(owner)) - offsets[:-1][owner],
        true_visible=random.random(len(owner)) < 0.75,
        other_visible=random.random(len(owner)) < 0.75,
    )


def loop(rows, alpha):
    """GeoAware-SC's image and point average by one point after another, without arrays."""
    shares, hits, points = [], 0, 0
    for row in rows:
        width, height = (int(side) for side in row["target_size"])
        scale = np.float32(840 / max(width, height))
        x1, y1, x2, y2 = row["target_bbox"]
        limit = float(np.float32(alpha)) * (max(x2 - x1, y2 - y1) * (840 / max(width, height)))
        found = of = 0
        for true, said, one, two in zip(
            row["target_points"], row["predicted_points"], row["source_visible"], row["target_visible"]
        ):
            if one and two:
                error = math.hypot(
                    *(float(np.float32(a) * scale) - float(b) * float(scale) for a, b in zip(true, said))
                )
                found, of = found + (error < limit), of + 1
        if of:
            shares.append(found / of)
        hits, points = hits + found, points + of
    return 100 * sum(shares) / len(shares), 100 * hits / points


def test_arrays_give_what_a_plain_loop_gives():
    rows = pairs(400, seed=3)
    found = evaluate_predictions(predictions_of_pairs(rows), protocol_named("geoaware").for_data("spair-71k"))
    for level, alpha in enumerate((0.10, 0.05, 0.01)):
        image, point = loop(rows, alpha)
        assert 100 * found.value("image")[level] == pytest.approx(image, abs=1e-4)
        assert 100 * found.value("point")[level] == pytest.approx(point, abs=1e-4)


def python_calls(what):
    """How many Python functions are called by what is called; the same on every machine."""
    calls = 0

    def count(frame, event, argument):
        nonlocal calls
        calls += event == "call"

    sys.setprofile(count)
    try:
        what()
    finally:
        sys.setprofile(None)
    return calls


def test_no_protocol_calls_python_more_often_for_more_pairs():
    """Nothing is done pair by pair: a call for each would be 3,000 more."""
    few, many = as_many_as_spair(1_000), as_many_as_spair(4_000)
    score_protocols(few, ALL, 100)  # what is made once
    of_few = python_calls(lambda: score_protocols(few, ALL, 100))
    assert len(ALL) < python_calls(lambda: score_protocols(many, ALL, 100)) < of_few + 500


def test_every_protocol_on_all_of_spair_takes_little_memory():
    predictions = as_many_as_spair()
    tracemalloc.start()
    found = score_protocols(predictions, ALL, 250)  # as many draws as are held at once
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert len(found) == len(ALL)
    assert peak < 5e8
