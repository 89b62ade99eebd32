"""The pages of a run's predictions: what is filtered is what was counted, and twelve thousand pairs open at once."""

from __future__ import annotations

import json
import sys
import time

import numpy as np
import pytest

from benchmark import cli
from benchmark.report.view_page import write_view
from benchmark.scoring.evaluation import evaluate_predictions
from benchmark.scoring.prediction_files import read_predictions, write_predictions
from benchmark.scoring.predictions import PAIR_GRADES, PredictionInfo
from benchmark.scoring.protocols import protocol_named
from sc_imagenet.core.errors import InputError
from tests.benchmark.running.test_submissions import toy_run
from tests.benchmark.runs import make_run


def predictions(folder, name="one", noise=9.0):
    return read_predictions(toy_run(folder / name, name, noise) / "predictions" / "toy-validation.parquet")


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    """Two runs on toy's validation pairs, with linked images."""
    folder = tmp_path_factory.mktemp("view")
    path = folder / "toy.html"
    write_view(
        path, [predictions(folder, "one", 4.0), predictions(folder, "two", 30.0)], ["one", "<b>two"], "link", None
    )
    return path


@pytest.mark.parametrize(("width", "dark"), [(1280, False), (1280, True), (390, False), (390, True)])
def test_it_opens_from_the_file_system_without_complaint_and_without_scrolling_sideways(browser, page, width, dark):
    browser.open(page, width, dark=dark)
    assert browser.complaints == []
    assert all(address.startswith("file:") for address in browser.requests)
    assert browser.value("document.documentElement.scrollWidth") <= width
    assert browser.value("document.querySelectorAll('#list li').length") == 24


def test_what_is_filtered_is_what_the_predictions_have(browser, page, tmp_path):
    found = [predictions(tmp_path, "one", 4.0), predictions(tmp_path, "two", 30.0)]
    browser.open(page, 1280)

    def choose(**wanted):
        for name, value in wanted.items():
            browser.value(f"form.elements[{json.dumps(name)}].value = {json.dumps(value)}")
        browser.value("apply()")
        return browser.value("chosen.map((pair) => data.pairs[pair])")

    names = browser.value("data.categories")
    assert choose(category="1") == [
        pair for pair, name in zip(found[0].pair_ids.tolist(), found[0].categories.tolist()) if name == names[1]
    ]
    assert len(choose(category="", kind="4")) > 0
    worst = choose(kind="", order="worst")
    assert len(worst) == 140
    shares = browser.value("chosen.map((pair) => score(runs[0], pair))")
    assert shares == sorted(shares)


def graded(folder):
    """Forty pairs with keypoint ids and a grade of viewpoint; every third point is far from where it belongs."""
    chance = np.random.default_rng(3)
    rows = []
    for number in range(40):
        ids = sorted(chance.choice(9, 4, replace=False).tolist())
        points = np.stack([20.0 + 18 * np.array(ids), chance.uniform(10, 140, 4)], 1)
        missed = np.array([number * 4 + k for k in range(4)]) % 3 == 0
        rows.append(
            {
                **{"pair_id": f"p{number}", "category": "cat", "direction": "forward", "keypoint_ids": ids},
                **dict.fromkeys(("source_size", "target_size"), (200, 150)),
                **dict.fromkeys(("source_bbox", "target_bbox"), (0, 0, 200, 150)),
                **dict.fromkeys(("source_points", "target_points"), points),
                "predicted_points": points + np.where(missed, 45.0, 1.0)[:, None],
                **dict.fromkeys(PAIR_GRADES, 0),
                "viewpoint_variation": number % 3,
            }
        )
    file = folder / "spair-71k-test.parquet"
    write_predictions(file, rows, PredictionInfo("spair-71k", "test", "cats", 256, "r", "m" * 64, "forward"))
    return file


def test_every_filter_is_moved_by_the_keyboard_to_what_the_predictions_have(browser, tmp_path):
    found = read_predictions(graded(tmp_path))
    write_view(tmp_path / "graded.html", [found], ["one"], "none", None)
    browser.open(tmp_path / "graded.html", 1280)

    def pressed(name, wanted):
        """The pairs left once arrow keys have moved a list to an entry; then all again, by the keyboard too."""
        browser.value(f"form.elements[{json.dumps(name)}].focus()")
        for _ in range(40):
            if wanted in browser.value("document.activeElement.selectedOptions[0].textContent"):
                break
            browser.press("ArrowDown", 40)
        assert wanted in browser.value("document.activeElement.selectedOptions[0].textContent")
        left = browser.value("chosen.map((pair) => data.pairs[pair])")
        assert browser.value("form.querySelector('output').value") == f"{len(left)} of 40 pairs"
        browser.value("form.querySelector('button[type=reset]').focus()")
        browser.press("Enter", 13)
        assert browser.value("new Promise((done) => setTimeout(() => done(chosen.length), 50))") == 40
        return left

    evaluation = evaluate_predictions(found, protocol_named("strict@1").for_data("spair-71k"))
    hit = np.zeros(len(found.ids), bool)
    hit[evaluation.rows] = evaluation.hits[:, evaluation.protocol.alphas.index(0.1)]
    of_point = found.pair_ids[found.owner]
    assert set(pressed("keypoint", "missed 4")) == set(of_point[~hit & (found.ids == 4)])
    assert pressed("grade", "viewpoint variation 2") == [f"p{number}" for number in range(2, 40, 3)]
    assert 0 < len(pressed("kind", "has: background")) < 40
    assert len(pressed("category", "cat")) == 40


def test_the_pages_of_all_spair_pairs_open_within_seconds(browser, tmp_path):
    run = make_run(tmp_path, "all", data=[("spair-71k", "test", 12_234)], draws=2)
    file = run.folder / "predictions" / "spair-71k-test.parquet"
    pairs = write_view(tmp_path / "spair.html", [read_predictions(file)], ["all"], "none", None)
    assert pairs == 12_234
    start = time.perf_counter()
    browser.open(tmp_path / "spair.html", 1280)
    print(f"opened in {time.perf_counter() - start:.2f} s, {(tmp_path / 'spair.html').stat().st_size:,} bytes")
    assert browser.value("form.querySelector('output').value") == "12234 of 12234 pairs"
    assert browser.complaints == []


def test_names_are_escaped_and_embedded_images_leave_no_link(tmp_path):
    path = tmp_path / "toy.html"
    write_view(path, [predictions(tmp_path)], ["<script>1</script>"], "embed", None)
    text = path.read_text(encoding="utf-8")
    assert "<script>1</script>" not in text
    assert "file:" not in text
    assert text.count("data:image/jpeg") > 20


def test_images_of_another_set_are_refused(tmp_path):
    run = make_run(tmp_path, "run", data=[("toy", "validation", 5)])
    with pytest.raises(InputError, match="is not of toy:validation"):
        write_view(
            tmp_path / "x.html",
            [read_predictions(run.folder / "predictions" / "toy-validation.parquet")],
            ["run"],
            "link",
            None,
        )


def test_the_command_writes_a_page_for_each_data_set(tmp_path, monkeypatch, capsys):
    run = toy_run(tmp_path / "run")
    monkeypatch.setattr(sys, "argv", ["scbench", "view", str(run), "--out-dir", str(tmp_path / "view")])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    assert not ended.value.code
    assert "toy-validation.html: 140 pairs" in capsys.readouterr().out
