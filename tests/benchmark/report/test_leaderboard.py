"""Runs side by side: on the same pairs, in the same direction, those of one setting in one row."""

import csv
import io
import json
import re
import statistics

import pytest

from benchmark.report.contents import build
from benchmark.report.html import to_html
from benchmark.report.tables import curves_table
from benchmark.report.writers import csv_of, to_markdown
from benchmark.scoring.details import CURVE_ALPHAS
from benchmark.scoring.pck import Metric
from tests.benchmark.runs import make_run


def test_a_board_holds_the_runs_on_the_same_pairs_best_first(tmp_path):
    runs = [
        make_run(tmp_path, "weak", data=[("toy", "test", 30)], noise=60),
        make_run(tmp_path, "strong", data=[("toy", "test", 30)], noise=4),
        make_run(tmp_path, "limited", data=[("toy", "test", 10)]),
        make_run(tmp_path, "other-split", data=[("toy", "validation", 30)]),
        make_run(tmp_path, "only-trained", data=[]),
    ]
    report = build(runs)
    boards = {(board.key, board.pairs): [entry.result.run for entry in board.entries] for board in report.leaderboards}
    assert boards == {
        ("toy", 10): ["limited"],
        ("toy", 30): ["strong", "weak"],
        ("toy:validation", 30): ["other-split"],
    }
    assert [result.run for result in report.unscored] == ["only-trained"]
    assert report.leaderboards[0].metrics[1] == Metric(0.1, "bbox-kp")
    for page in (to_html(report), to_markdown(report)):
        for run in runs:
            assert run.result.run in page


def test_runs_that_predict_the_other_way_are_never_ranked_together(tmp_path):
    data = [("toy", "test", 20)]
    runs = [
        make_run(tmp_path, "into-source", data=data, noise=60),
        make_run(tmp_path, "into-target", data=data, noise=4, model="nearest"),
    ]
    boards = build(runs).leaderboards
    assert [(board.direction, [e.result.run for e in board.entries]) for board in boards] == [
        ("backward", ["into-source"]),
        ("forward", ["into-target"]),
    ]


def seeded(runs, seed, configuration, **fields):
    """A run with the configuration that a real one has beside it."""
    run = make_run(runs, f"{configuration['model']}-{seed}", data=[("toy", "test", 30)], seed=seed, **fields)
    (run.folder / "config.json").write_text(json.dumps({**configuration, "seed": seed}))
    return run


def test_runs_that_differ_in_their_seeds_alone_are_one_row(tmp_path):
    small, large = ({"model": "cats", "precision": precision} for precision in ("no", "bf16"))
    runs = [seeded(tmp_path, seed, small, noise=noise) for seed, noise in enumerate((9, 10, 12))]
    runs.append(seeded(tmp_path / "bf16", 3, large, noise=30))
    runs.append(make_run(tmp_path, "lost", data=[("toy", "test", 30)], seed=4, noise=9))  # no config.json
    (board,) = build(runs).leaderboards
    assert sorted(setting.seeds for setting in board.settings) == [(0, 1, 2), (3,), (4,)]
    (grouped,) = (setting for setting in board.settings if len(setting.seeds) == 3)
    name = str(board.metrics[1])
    values = [run.result.metrics["toy"][name]["value"] for run in runs[:3]]
    assert grouped.scores[1].value == pytest.approx(statistics.mean(values))
    assert grouped.scores[1].spread == pytest.approx(statistics.stdev(values))
    cubes = [run.result.per_category["toy"][name]["cube"] for run in runs[:3]]
    assert grouped.categories["cube"] == pytest.approx(statistics.mean(cubes))
    at = CURVE_ALPHAS.index(0.1)
    curves = [entry.curve[at] for entry in grouped.entries]
    assert grouped.curve[at] == pytest.approx(statistics.mean(curves))
    assert grouped.result.run == "cats-0"


def test_grouped_runs_say_how_many_and_each_stays_within_reach(tmp_path):
    runs = [seeded(tmp_path, seed, {"model": "cats"}, noise=noise) for seed, noise in enumerate((9, 10, 12))]
    runs.append(make_run(tmp_path, "single", data=[("toy", "test", 30)], noise=40))
    report = build(runs)
    mean = report.leaderboards[0].settings[0].scores[1]
    for page in (to_html(report), to_markdown(report)):
        assert f"\N{PLUS-MINUS SIGN} {mean.spread:.1f}" in page
        assert "0, 1, 2 (n = 3)" in page
        assert page.count("n = 3") == 1
        for run in runs:
            assert run.result.run in page
    page = to_html(report)
    assert "The 4 runs one by one" in page
    assert re.search(r'data-runs="\d \d \d"[^>]*>3 runs</a>', page)
    assert "one by one" not in to_html(build(runs[-1:]))
    assert [line["run"] for line in csv.DictReader(io.StringIO(csv_of(curves_table(report))))] == [
        *("cats-0", "cats-1", "cats-2", "single")
    ]
