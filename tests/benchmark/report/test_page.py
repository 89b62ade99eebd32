"""The report's page in a real browser: nothing asked of a network, nothing wrong, every part within reach."""

import json
import re
import zlib
from itertools import pairwise

import pytest

from benchmark.report.contents import build
from benchmark.report.html import to_html
from benchmark.report.pictures import figures
from benchmark.scoring.runs import find_runs
from tests.benchmark.report.test_pictures import PAIRS, made_root
from tests.benchmark.runs import SPAIR, make_run

EVIL = "<script>window.pwned = 1</script>"


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    """A report of runs that fill cells, of two directions, a figure with pictures, an evil name and problems."""
    runs = tmp_path_factory.mktemp("runs")
    root = made_root(tmp_path_factory.mktemp("data"))
    spair = [("spair-71k", "test", 12_234)]
    make_run(runs, "paper-run", data=spair, finetune="spair-71k", draws=2)
    make_run(runs, "paper-run-2", data=spair, finetune="spair-71k", draws=2, seed=1, noise=9)
    few = {"data": [("spair-71k", "validation", len(PAIRS))], "pair_ids": PAIRS}
    make_run(runs, "floor", model="nearest", title="Nearest", finetune=None, noise=40, supervision="none", **few)
    make_run(runs, "ours", model="dhpf", title=EVIL, noise=3, **few)
    (runs / "cats" / "half").mkdir()
    (runs / "cats" / "half" / "config.json").write_text("{}")
    log = [{"step": step, "epoch": 1.0, "loss": 3 / step} for step in range(1, 50)]
    (runs / "cats" / "paper-run" / "log.jsonl").write_text("".join(json.dumps(line) + "\n" for line in log))
    report = build(*find_runs(runs))
    file = tmp_path_factory.mktemp("report") / "report.html"
    file.write_text(to_html(report, figures(report, root)), encoding="utf-8")
    return file


@pytest.mark.parametrize(("width", "dark"), [(1280, False), (1280, True), (390, False), (390, True)])
def test_it_loads_alone_without_complaint_and_without_scrolling_sideways(browser, page, width, dark):
    browser.open(page, width, dark=dark)
    assert browser.complaints == []
    assert browser.requests == [page.resolve().as_uri()]
    assert browser.value("document.documentElement.scrollWidth") <= width
    assert browser.value("typeof window.pwned") == "undefined"
    assert browser.value("[...document.images].every((image) => image.complete && image.naturalWidth > 300)")
    assert browser.value("document.images.length") == 6
    background = browser.value("getComputedStyle(document.body).backgroundColor")
    assert (max(map(int, re.findall(r"\d+", background))) < 60) == dark


def test_every_text_stands_out_from_what_is_behind_it(browser, page):
    """WCAG 2: a contrast of 4.5; backgrounds are those of the nearest element that has one."""
    script = """(() => {
      const canvas = document.createElement("canvas").getContext("2d", { willReadFrequently: true });
      canvas.canvas.width = canvas.canvas.height = 1;
      const over = (layers) => {
        for (const layer of layers) { canvas.fillStyle = layer; canvas.fillRect(0, 0, 1, 1); }
        return [...canvas.getImageData(0, 0, 1, 1).data].slice(0, 3);
      };
      const linear = (c) => (c <= 0.03928 * 255 ? c / 255 / 12.92 : ((c / 255 + 0.055) / 1.055) ** 2.4);
      const light = (rgb) => rgb.reduce((sum, c, i) => sum + linear(c) * [0.2126, 0.7152, 0.0722][i], 0);
      const worst = [];
      const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
      while (walker.nextNode()) {
        const element = walker.currentNode.parentElement;
        if (!walker.currentNode.data.trim() || !element.checkVisibility()) continue;
        if (element.closest("script, svg, .skip")) continue;
        const layers = [];
        for (let e = element; e; e = e.parentElement) layers.unshift(getComputedStyle(e).backgroundColor);
        const back = over(["white", ...layers]);
        const ink = over([`rgb(${back})`, getComputedStyle(element).color]);
        const [a, b] = [light(ink), light(back)].sort((x, y) => y - x);
        if ((a + 0.05) / (b + 0.05) < 4.5) worst.push(`${element.className} ${walker.currentNode.data.trim()}`);
      }
      return worst;
    })()"""
    for dark in (False, True):
        browser.open(page, 1280, dark=dark)
        assert browser.value(script) == []


def test_a_measured_cell_opens_the_runs_behind_it(browser, page):
    browser.open(page, 1280)
    browser.value("document.querySelector('#table-2 a[data-runs]').focus()")
    browser.press("Enter", 13)
    assert browser.value("document.getElementById('provenance').open")
    said = browser.value("document.getElementById('provenance').innerText")
    assert "Table 2, CATs" in said
    assert "Paper 49.9, measured" in said
    assert "pck@0.1/bbox@256/image" in said
    assert said.count("scbench run cats --finetune spair-71k --eval spair-71k") == 2  # both seeds
    assert "m" * 64 in said
    browser.press("Escape", 27)
    assert not browser.value("document.getElementById('provenance').open")
    assert browser.value("document.activeElement.matches('#table-2 a[data-runs]')")  # back where it was


def test_without_scripts_a_cell_leads_to_its_run_which_opens(browser, page):
    browser.open(page, 1280, scripts=False)
    browser.call("Emulation.setScriptExecutionDisabled", value=False)  # to ask; the page's own script never ran
    assert browser.value("document.getElementById('filters').hidden")
    where = browser.value("document.querySelector('#table-2 a[data-runs]').getAttribute('href')")
    browser.value(f"location.hash = '{where}'")
    assert browser.value(f"document.querySelector('{where}').closest('details').open")
    assert browser.value(f"document.querySelector('{where}').innerText.includes('scbench run cats')")


def test_filters_hide_what_is_not_asked_for(browser, page):
    browser.open(page, 1280)
    assert browser.value("[...document.querySelectorAll('#filters select')].map((s) => s.name)") == [
        "model",
        "data",
        "supervision",
    ]  # one backbone: nothing to choose
    choose = "(() => { const f = document.forms[0]; f.%s.value = '%s'; f.dispatchEvent(new Event('change')); })()"
    shown = "[...document.querySelectorAll('.run')].filter((e) => e.checkVisibility()).length"
    boards = "[...document.querySelectorAll('.leaderboard')].filter((e) => e.checkVisibility()).length"
    assert (browser.value(shown), browser.value(boards)) == (4, 2)
    browser.value(choose % ("model", "nearest"))
    assert (browser.value(shown), browser.value(boards)) == (1, 1)
    assert browser.value("document.querySelector('#filters output').textContent") == "1 of 4 runs shown"
    browser.value(choose % ("data", "spair-71k"))
    assert (browser.value(shown), browser.value(boards)) == (0, 0)
    browser.value("document.querySelector('#filters button').click()")
    browser.value("new Promise((done) => setTimeout(done, 50))")
    assert (browser.value(shown), browser.value(boards)) == (4, 2)


def test_tables_and_charts_are_named_for_those_who_listen(browser, page):
    browser.open(page, 1280)
    for landmark in ("header", "main", "nav[aria-label]"):
        assert browser.value(f"document.querySelectorAll('{landmark}').length") == 1
    assert browser.value("document.querySelectorAll('th:not([scope])').length") == 0
    assert browser.value("[...document.images].every((image) => image.alt.includes('of the points right'))")
    assert browser.value(
        "[...document.querySelectorAll('svg.chart')].every((c) => c.getAttribute('aria-label').length > 30)"
    )
    assert browser.value("document.querySelectorAll('svg.chart').length") >= 3  # two boards, one training
    ids = browser.value("[...document.querySelectorAll('[id]')].map((e) => e.id)")
    assert len(ids) == len(set(ids))
    named = browser.value(
        "[...document.querySelectorAll('[aria-labelledby]')].map((e) => e.getAttribute('aria-labelledby'))"
    )
    assert set(named) <= set(ids)
    heads = browser.value("[...document.querySelectorAll('main h2, main h3, main h4')].map((e) => e.tagName)")
    assert all(int(after[1]) - int(before[1]) <= 1 for before, after in pairwise(heads))


def test_the_keyboard_reaches_scrolling_tables_and_sees_where_it_is(browser, page):
    browser.open(page, 390)
    loose = (
        "[...document.querySelectorAll('.scroll')].filter((e) => e.tabIndex !== 0 || !e.getAttribute('role')).length"
    )
    assert browser.value(loose) == 0
    browser.press("Tab", 9)
    assert browser.value("document.activeElement.className") == "skip"
    assert browser.value("document.activeElement.getBoundingClientRect().left") >= 0
    browser.press("Tab", 9)
    assert browser.value("getComputedStyle(document.activeElement).outlineStyle") == "solid"


def test_it_prints_every_table(browser, page):
    browser.open(page, 1280)
    printed = browser.pdf()
    assert printed.startswith(b"%PDF")
    assert len(re.findall(rb"/Type\s*/Page\b", printed)) >= 4
    streams = re.findall(rb"stream\r?\n(.*?)endstream", printed, re.DOTALL)
    drawn = sum(len(zlib.decompressobj().decompress(stream)) for stream in streams if stream[:1] == b"x")
    assert drawn > 50_000  # not a blank page
    browser.call("Emulation.setEmulatedMedia", media="print", features=[])
    assert not browser.value("document.querySelector('nav').checkVisibility()")
    assert all(browser.value(f"document.getElementById('table-{n}').checkVisibility()") for n in range(1, 6))
    browser.call("Emulation.setDeviceMetricsOverride", width=1032, height=700, deviceScaleFactor=1, mobile=False)
    assert browser.value("document.documentElement.scrollWidth") <= 1032  # A4 across: nothing is cut off
    browser.call("Emulation.setEmulatedMedia", media="", features=[])


def test_all_eighteen_categories_stand_in_table_3(browser, page):
    browser.open(page, 1280)
    heads = browser.value("[...document.querySelectorAll('#table-3 thead th')].map((e) => e.innerText.trim())")
    assert heads == ["Method", *SPAIR, "all"]
    assert browser.value("document.querySelectorAll('#table-3 tbody tr').length") == 15
    assert browser.value("document.querySelectorAll('#table-3 .filled').length") == 19
