"""Two runs on the same pairs: the paired bootstrap, categories, changed pairs, and refusals in one line."""

import json
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from benchmark.scoring.comparison import align, compare_predictions, correct_points, protocol_metrics
from benchmark.scoring.metric import score_protocols
from benchmark.scoring.pck import Metric
from benchmark.scoring.prediction_files import predictions_of
from benchmark.scoring.predictions import PredictionInfo
from benchmark.scoring.protocols import protocols_named
from tests.benchmark.commands.test_score import scbench
from tests.benchmark.report.test_pictures import DATA, PAIRS, made_root
from tests.benchmark.runs import make_run

TENTH = Metric(0.1, "img")


def made(right, run="a", direction="forward", ids=None, categories=None, shift=0.0):
    """Predictions of pairs with so many of four points right, the others 50 pixels off, on 100 x 100 images."""
    points = np.array([[10, 10], [60, 10], [10, 60], [60, 60]], dtype=np.float32) + np.float32(shift)
    rows = [
        {
            "pair_id": ids[i] if ids else f"p{i}",
            "category": categories[i] if categories else "cat",
            "source_size": (100, 100),
            "target_size": (100, 100),
            "source_bbox": None,
            "target_bbox": None,
            "source_points": points,
            "target_points": points,
            "predicted_points": points + np.where(np.arange(4)[:, None] < count, 0, 50),
            "direction": direction,
        }
        for i, count in enumerate(right)
    ]
    return predictions_of(rows, PredictionInfo("toy", "test", "cats", 256, run, "m", direction))


def test_a_difference_is_that_of_the_means_and_its_interval_is_paired():
    first, second = made([0, 4, 0, 4, 0, 4] * 20), made([1, 4, 1, 4, 1, 4] * 20)
    found = compare_predictions(first, second, [TENTH], TENTH).overall[TENTH]
    assert (found.first, found.second, found.value) == (50.0, 62.5, 12.5)
    # Half of the pairs gain 25 points: a draw of n = 120 has mean 12.5 and standard error 12.5 / sqrt(n) = 1.14.
    assert found.low == pytest.approx(12.5 - 1.96 * 1.14, abs=0.3)
    assert found.high == pytest.approx(12.5 + 1.96 * 1.14, abs=0.3)
    assert found.in_favour == 1.0


def test_equal_runs_differ_by_nothing_and_a_tie_counts_half():
    one = made([0, 1, 2, 3, 4])
    found = compare_predictions(one, one, [TENTH], TENTH)
    assert (found.overall[TENTH].value, found.overall[TENTH].low, found.overall[TENTH].high) == (0, 0, 0)
    assert found.overall[TENTH].in_favour == 0.5
    assert found.gained == found.lost == ()


def test_categories_are_compared_each_on_its_own_pairs():
    categories = ["cat", "cat", "dog", "dog"]
    first, second = made([0, 0, 4, 4], categories=categories), made([2, 2, 4, 2], categories=categories)
    found = compare_predictions(first, second, [TENTH], TENTH)
    assert {name: (d.first, d.second, d.value) for name, d in found.per_category.items()} == {
        "cat": (0.0, 50.0, 50.0),
        "dog": (100.0, 75.0, -25.0),
    }
    assert found.category_pairs == {"cat": 2, "dog": 2}
    assert (found.per_category["cat"].low, found.per_category["cat"].high) == (50.0, 50.0)
    assert found.per_category["dog"].low == -50.0
    assert found.per_category["cat"].in_favour == 1.0


@pytest.mark.parametrize("average", ["image", "point", "category"])
def test_every_average_has_a_difference(average):
    metric = Metric(0.1, "img", None, average)
    found = compare_predictions(made([0, 2, 4]), made([1, 2, 4]), [metric], metric)
    assert found.overall[metric].value == pytest.approx(100 / 12)
    assert found.per_category["cat"].value == pytest.approx(100 / 12)


def test_the_pairs_that_changed_most_stand_first_ties_in_the_order_of_ids():
    found = compare_predictions(made([0, 4, 2, 2, 2]), made([4, 0, 3, 1, 2]), [TENTH], TENTH, changed=2)
    assert [(pair.pair_id, pair.first, pair.second, pair.gain) for pair in found.gained] == [
        ("p0", 0, 4, 100.0),
        ("p2", 2, 3, 25.0),
    ]
    assert [(pair.pair_id, pair.gain) for pair in found.lost] == [("p1", -100.0), ("p3", -25.0)]


def test_other_pairs_are_left_out_and_counted_and_order_does_not_matter():
    first = made([0, 1, 2], ids=["a", "b", "c"])
    second = made([4, 3, 0], ids=["c", "b", "z"])
    found = compare_predictions(first, second, [TENTH], TENTH)
    assert (found.pairs, found.only_first, found.only_second) == (2, 1, 1)
    assert (found.overall[TENTH].first, found.overall[TENTH].second) == (37.5, 87.5)
    one, two = align(first, second)
    assert one.pair_ids.tolist() == two.pair_ids.tolist() == ["b", "c"]
    assert np.array_equal(one.true, two.true)


def test_protocols_compare_what_they_score():
    first, second = (
        replace(each, boxes=np.tile([0.0, 0.0, 80.0, 60.0], (len(each), 1)))
        for each in (made([0, 1, 2, 4]), made([1, 1, 4, 3]))
    )
    protocols = protocols_named("strict@1,geoaware-point@1,sd-dino@1,jamais-vu-dagger@1,spherical-maps@1")
    measures = protocol_metrics(protocols)
    assert str(measures[0]) == "strict@1 pck@0.1/image"
    found = compare_predictions(first, second, measures, measures[0], draws=20)
    one, two = (score_protocols(each, protocols, 0) for each in (first, second))
    for measure, difference in found.overall.items():
        name = str(measure.protocol)
        assert difference.first == one.headline(name, measure.alpha).value
        assert difference.second == two.headline(name, measure.alpha).value
    assert [(pair.pair_id, pair.first, pair.second) for pair in found.gained] == [("p2", 2, 4), ("p0", 0, 1)]
    assert [pair.pair_id for pair in found.lost] == ["p3"]
    assert (found.per_category["cat"].first, found.per_category["cat"].second) == (43.75, 56.25)


def test_what_is_right_under_a_protocol_is_what_the_picture_shows_so():
    predictions = replace(made([1, 3]), boxes=np.tile([0.0, 0.0, 80.0, 60.0], (2, 1)))
    (measure, *_) = protocol_metrics(protocols_named("geoaware@1"))
    assert correct_points(predictions, measure).tolist() == [True, False, False, False, True, True, True, False]
    assert correct_points(predictions, TENTH).tolist() == correct_points(predictions, measure).tolist()


@pytest.mark.parametrize(
    ("second", "says"),
    [
        ({"direction": "backward"}, "predict forward and backward: other points in other images"),
        ({"ids": ["x", "y", "z"]}, "share no pair"),
        ({"shift": 1.0}, "were scored against other annotations"),
    ],
)
def test_what_cannot_be_compared_is_refused_in_one_line(second, says):
    with pytest.raises(ValueError, match=says) as error:
        compare_predictions(made([0, 1, 2]), made([0, 1, 2], "b", **second), [TENTH], TENTH)
    assert "\n" not in str(error.value)


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs")
    floor = make_run(folder, "floor", model="nearest", finetune=None, noise=40, **DATA)
    ours = make_run(folder, "ours", model="dhpf", noise=8, **DATA)
    other = make_run(folder, "toy", model="dhpf", data=[("toy", "test", 6)])
    return floor.folder, ours.folder, other.folder


def test_the_command_prints_tables_json_and_a_picture(runs, tmp_path):
    floor, ours, _ = runs
    out = scbench("compare", floor, ours).stdout
    assert "7 of 5,384 pairs that both predicted" in out
    assert "pck@0.1/bbox/image" in out
    assert "gained most" in out
    under = scbench("compare", floor, ours, "--protocol", "geoaware@1,strict@1").stdout
    assert "geoaware@1 pck@0.1/image" in under
    assert "strict@1 pck@0.05/image" in under
    root = made_root(tmp_path / "data")
    picture = tmp_path / "changed.png"
    drawn = ("--out", picture, "--data-root", root, "--pairs", 2)
    done = scbench("compare", floor, ours, "--json", *drawn)
    (found,) = json.loads(done.stdout)
    overall = found["metrics"]["pck@0.1/bbox/image"]
    assert overall["difference"] == pytest.approx(overall["second"] - overall["first"])
    assert overall["low"] <= overall["difference"] <= overall["high"]
    assert {pair["pair_id"] for pair in found["gained"]} <= set(PAIRS)
    assert len(found["gained"]) == 2
    drawn = Image.open(picture)
    assert drawn.width <= 2000
    assert drawn.height > 300 * (len(found["gained"]) + len(found["lost"]))


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["{floor}", "{toy}"], "the runs have no data in common: spair-71k:validation in"),
        (["{floor}", "nowhere"], "nowhere: no such file or folder"),
        (["{floor}", "{ours}", "--metric", "pck@0.1/bboxes/image"], "Did you mean 'bbox'?"),
        (["{floor}", "{ours}", "--protocol", "geoawaer@1"], "Did you mean 'geoaware@1'?"),
        (["{floor}", "{ours}", "--protocol", "geoaware@9"], "there is no geoaware@9. There is geoaware@1."),
        (["{floor}", "{ours}", "--out", "changed.pic"], "does not end like a picture"),
        (["{floor}", "{ours}", "--out", "changed.png", "--data-root", "nowhere"], "nowhere: no such folder"),
    ],
)
def test_mistakes_end_in_one_line_and_code_2(runs, tmp_path, arguments, says):
    names = dict(zip(("floor", "ours", "toy"), runs))
    words = [argument.format(**names) for argument in arguments]
    done = scbench("compare", *words, check=False)
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert says in done.stderr
