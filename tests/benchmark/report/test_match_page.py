"""The page of a match: small, alone, quick, and every point within reach of pointer, touch and keyboard."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path

import numpy as np
import pytest

from baselines.checkpoints import load_model
from benchmark import cli
from benchmark.report.match_page import write_match_page
from benchmark.running.match import grid_points, match, on_object, similarities
from sc_imagenet.data.load import load_dataset
from sc_imagenet.toy.surface import pictured, transfer

SAME = 137  # a row of toy's test pairs


@pytest.fixture(scope="module")
def model():
    return load_model("nearest")


@pytest.fixture(scope="module")
def pair():
    row = load_dataset("toy", split="test")[SAME]
    return row["source"], row["target"]


@pytest.fixture(scope="module")
def page(model, pair, tmp_path_factory):
    path = tmp_path_factory.mktemp("page") / "pair.html"
    matchers = {"nearest": model, "the same again": model}
    write_match_page(path, "a<b>.jpg", "b.jpg", pair, matchers, match(model, *pair))
    return path


def test_an_image_is_most_like_itself_cell_by_cell(model, pair):
    found = similarities(model, pair[0], pair[0])
    cells = found.shape[0]
    assert found.shape == (cells,) * 4
    own = found.reshape(cells * cells, -1)
    np.testing.assert_allclose(np.diag(own), 1, atol=1e-4)
    assert (own.argmax(1) == np.arange(cells * cells)).all()


def test_points_nobody_gave_lie_on_the_object_more_often_than_those_of_a_grid(model):
    rows = load_dataset("toy", split="test")
    shares = {"chosen": [], "grid": []}
    for number in range(0, 300, 30):
        row = rows[number]
        seen = [
            pictured("test", Path(row[s].filename).parts[-2], int(Path(row[s].filename).stem))
            for s in ("source", "target")
        ]
        for name, points in (
            ("chosen", match(model, row["source"], row["target"]).source_points),
            ("grid", grid_points(row["source"].size, 8)),
        ):
            shares[name].append(transfer(*seen, points - 0.5).on_object.mean())
    assert np.mean(shares["chosen"]) > 0.6
    assert np.mean(shares["chosen"]) > 2 * np.mean(shares["grid"])


def test_likelihood_of_the_object_lies_between_0_and_1(model, pair):
    found = on_object(model, pair[0], grid_points(pair[0].size, 9))
    assert found.shape == (81,)
    assert 0 <= found.min() < found.max() <= 1


def test_the_page_is_one_small_file_whose_names_are_escaped(page):
    text = page.read_text(encoding="utf-8")
    assert page.stat().st_size < 3_000_000
    assert "a<b>" not in text
    assert not re.search(r"(src|href)=\"(?!data:|#)", text)


@pytest.mark.parametrize(("width", "dark"), [(1280, False), (1280, True), (390, False), (390, True)])
def test_it_opens_alone_without_complaint_and_without_scrolling_sideways(browser, page, width, dark):
    browser.open(page, width, dark=dark)
    assert browser.complaints == []
    assert browser.requests == [page.resolve().as_uri()]
    assert browser.value("document.documentElement.scrollWidth") <= width
    assert browser.value("[...document.images].every((image) => image.complete && image.naturalWidth > 100)")


def told(browser):
    return [float(v) for v in re.findall(r"-?[\d.]+", browser.value("document.getElementById('told').textContent"))]


def test_pointing_shows_what_the_model_says_and_arrow_keys_move_the_point(browser, page, model, pair):
    browser.open(page, 1280)
    points = match(model, *pair, np.array([[100.0, 90.0]]))
    browser.value("show(100, 90, true)")
    x, y, there_x, there_y, *_ = told(browser)
    assert (x, y) == (100, 90)
    grid = match(model, *pair, grid_points(pair[0].size, 32)).target_points.reshape(32, 32, 2)
    near = grid[int(90 / pair[0].height * 32), int(100 / pair[0].width * 32)]
    assert min(np.hypot(there_x - a, there_y - b) for a, b in (near, points.target_points[0])) < 12
    browser.value("source.focus()")
    browser.press("ArrowRight", 39)
    assert told(browser)[0] > 100
    box = browser.value("JSON.stringify(source.querySelector('img').getBoundingClientRect())")
    box = json.loads(box)
    place = {"x": box["x"] + box["width"] / 2, "y": box["y"] + box["height"] / 4}
    browser.call("Input.dispatchMouseEvent", type="mousePressed", button="left", clickCount=1, **place)
    width, height = pair[0].size
    assert abs(told(browser)[0] - width / 2) < 2
    assert abs(told(browser)[1] - height / 4) < 2


def test_the_command_writes_the_page(pair, tmp_path, monkeypatch, capsys):
    for name, image in zip("ab", pair):
        image.save(tmp_path / f"{name}.png")
    words = ["match", tmp_path / "a.png", tmp_path / "b.png", "--model", "nearest", "--out", tmp_path / "pair.html"]
    monkeypatch.setattr(sys, "argv", ["scbench", *map(str, words)])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    assert not ended.value.code
    assert "page: " in capsys.readouterr().out
    assert (tmp_path / "pair.html").stat().st_size > 100_000
