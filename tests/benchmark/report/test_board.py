"""The board: every printed number of a known form, never beside one of another protocol; the page in a real browser."""

from __future__ import annotations

import csv
import json
import time
from importlib.resources import files

import pytest

from benchmark.report import board as boards
from benchmark.report.board import Cell, Row, build_board, flags, write_board
from benchmark.report.published import CONFIDENCES, SUPERVISIONS, methods, published, read_published
from benchmark.running.submissions import submit, verify
from benchmark.scoring.runs import find_runs
from sc_imagenet.core.errors import InputError
from sc_imagenet.data.catalog import catalog
from tests.benchmark.running.test_submissions import toy_run
from tests.benchmark.runs import make_run

ROWS = list(csv.DictReader((files("benchmark.report") / "results" / "published.csv").read_text().splitlines()))
EVIL = "<script>window.pwned = 1</script>"


def test_every_printed_number_is_of_the_form_and_says_where_it_stands():
    found = published()
    assert len(found) == len(ROWS) >= 60
    assert list(ROWS[0]) == ["paper", "method", "data", "protocol", "alpha", "value", "source", "confidence"]
    for each in found:
        assert each.confidence in CONFIDENCES
        assert each.confidence != "secondary" or not each.protocol, "another group's table does not tell the protocol"


def test_every_method_is_known_and_each_stands_in_a_row():
    known = methods()
    assert {each.method for each in published()} == set(known)
    for method in known.values():
        assert method.supervision in SUPERVISIONS
        for name in method.trained_on:
            assert name in {*catalog(), "target", "filtered-imagenet"}


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"data": "spair"}, "unknown data set"),
        ({"data": "spair-71k:dev"}, "names a split"),
        ({"protocol": "geoaware"}, "no version"),
        ({"protocol": "ours@1"}, "protocol"),
        ({"value": "101"}, "101 percent"),
        ({"value": "high"}, "high"),
        ({"alpha": "10"}, "at alpha 10"),
        ({"confidence": "sure"}, "unknown confidence"),
        ({"source": ""}, "no paper, method or source"),
    ],
)
def test_a_row_of_another_form_is_refused(changes, words):
    with pytest.raises(InputError, match=words):
        read_published([{**ROWS[0], **changes}])
    with pytest.raises(InputError, match="stands there twice"):
        read_published([ROWS[0], ROWS[0]])


def test_the_papers_tables_are_printed_as_the_paper_has_them():
    by_key = {(each.method, each.data, each.alpha): each.value for each in published() if "Table 2" in each.source}
    assert by_key["VAT + SC-ImageNet", "spair-71k", 0.1] == 60.3
    table = (files("benchmark.report") / "paper" / "table2_benchmarks.csv").read_text().splitlines()
    printed = [value for row in csv.DictReader(table) for name, value in row.items() if "@" in name and value]
    assert sorted(map(float, printed)) == sorted(by_key.values())


def test_no_table_has_numbers_of_two_protocols(tmp_path):
    make_run(tmp_path, "one", data=[("spair-71k", "test", 60)], draws=50)
    tables = build_board(find_runs(tmp_path)[0])
    rows = {(each.method, each.data, each.protocol, each.alpha, each.value) for each in published()}
    shown = {
        (row.name, table.data, table.protocol, alpha, cell.value)
        for table in tables
        for row in table.rows
        if row.kind == "published"
        for alpha, cell in row.cells.items()
    }
    assert shown == rows
    (measured,) = [table for table in tables if any(row.kind == "measured" for row in table.rows)]
    assert (measured.data, measured.protocol, measured.pairs) == ("spair-71k", "strict@1", "60 of 12,234 pairs")


def test_a_place_spans_those_whose_intervals_overlap():
    def row(name, value, half):
        cell = Cell(value, value - half, value + half)
        return Row(name, "measured", "", "", "", (), "", "", (), {0.1: cell})

    rows = (row("a", 60, 2), row("b", 57, 2), row("c", 54, 2), row("d", 40, 1))
    table = boards.BoardTable("k", "toy", "strict@1", "Toy", "", (0.1,), rows)
    assert [table.place(each) for each in rows] == ["1-2", "1-3", "2-3", "4"]


def test_shared_photographs_are_flagged():
    assert flags(("pf-pascal",), "pf-pascal") == ("95 of the 299 test pairs are training pairs",)
    assert flags(("pf-pascal",), "pf-pascal:test_clean") == ()
    assert flags(("spair-71k",), "spair-71k") == ()
    assert flags(("mp-100",), "ap-10k:test_cross_family") == ("trained on photographs of AP-10K, as mp-100 has",)


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    """Published numbers, 200 runs, two submissions, one of them refused, an evil title."""
    runs, results = tmp_path_factory.mktemp("runs"), tmp_path_factory.mktemp("results")
    for number in range(200):
        data = [("spair-71k", "test", 40), ("toy", "test", 30)][number % 2]
        title = EVIL if number == 0 else f"CATs {number}"
        make_run(runs, f"run{number}", title=title, data=[data], noise=2 + number / 8, draws=20, seed=number)
    submit(toy_run(tmp_path_factory.mktemp("run")), results, "strict@1,geoaware@1", draws=200)
    (refused,) = submit(toy_run(tmp_path_factory.mktemp("other"), "other"), results, draws=200)
    (refused / "submission.json").write_text("{}")
    before = time.perf_counter()
    sent = verify(results)
    found, problems = find_runs(runs)
    tables = build_board(found, sent)
    path = write_board(tables, tmp_path_factory.mktemp("out"), [f for each in sent for f in each.faults] + problems)
    print(f"built in {time.perf_counter() - before:.1f} s, {path.stat().st_size:,} bytes")
    return path


def test_the_board_of_two_hundred_runs_has_all_of_them_and_is_small(page):
    text = page.read_text(encoding="utf-8")
    assert text.count('data-kind="measured"') == 200
    assert text.count('data-kind="submitted"') == 2  # one submission under two protocols
    assert EVIL not in text
    assert page.stat().st_size < 3_000_000


@pytest.mark.parametrize(("width", "dark"), [(1280, False), (1280, True), (390, False), (390, True)])
def test_it_loads_alone_without_complaint_and_without_scrolling_sideways(browser, page, width, dark):
    browser.open(page, width, dark=dark)
    assert browser.complaints == []
    assert browser.requests == [page.resolve().as_uri()]
    assert browser.value("document.documentElement.scrollWidth") <= width
    assert browser.value("typeof window.pwned") == "undefined"
    assert browser.value("document.querySelectorAll('tbody tr.off').length") == 0


def test_it_is_filtered_and_sorted_by_the_keyboard(browser, page):
    browser.open(page, 1280)
    browser.value("document.querySelector('input[name=text]').focus()")
    for letter in "vat":
        browser.call("Input.insertText", text=letter)
    shown = "[...document.querySelectorAll('tbody tr:not(.off)')].filter((r) => !r.closest('.off'))"
    assert browser.value(f"{shown}.length") > 0
    assert browser.value(f"{shown}.every((row) => row.cells[0].textContent.toLowerCase().includes('vat'))")
    browser.value("document.querySelector('button[type=reset]').focus()")
    browser.press("Enter", 13)
    time.sleep(0.1)
    browser.value("document.querySelector('.board button').focus()")
    names = (
        "[...document.querySelector('.board tbody').rows].map((row) => row.cells[0].textContent.trim().toLowerCase())"
    )
    for direction in ("descending", "ascending"):
        browser.press("Enter", 13)
        assert browser.value("document.querySelector('.board th').ariaSort") == direction
        found = json.loads(browser.value(f"JSON.stringify({names})"))
        assert found == sorted(found, reverse=direction == "descending")


def test_without_scripts_all_is_there(browser, page):
    browser.open(page, 1280, scripts=False)
    assert browser.complaints == []
