"""Names from data are shown as text: in HTML, SVG, Markdown, LaTeX, CSV and on the terminal."""

from __future__ import annotations

import csv
import io
import json
import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from benchmark.report.charts import Line, chart
from benchmark.report.contents import build
from benchmark.report.html import to_html
from benchmark.report.tables import runs_table
from benchmark.report.writers import csv_of, latex_escaped, markdown_escaped, to_latex, to_markdown, write_reports
from benchmark.scoring.runs import find_runs
from sc_imagenet.core.errors import InputError, visible
from tests.benchmark.runs import make_run

ROOT = Path(__file__).parents[2]
EVIL = (
    "<script>alert(1)</script>",
    "\"'><img src=x onerror=alert(1)>",
    "</style></title><svg onload=alert(1)>",
    "{{7*7}}{%raw%}",
    "javascript:alert(1)",
    "[x](http://example.org) ![y](http://example.org/z.png)",
    "=HYPERLINK(1)",
    "\\input{/etc/passwd} $x^2$ % & # _ ~",
    "[bold red]x[/] [/] [link=http://example.org]y",
)


class Page(HTMLParser):
    """The tags and attributes of a page."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str | None]] = []
        self.feed(page)

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += attrs


@pytest.fixture(scope="module")
def plain(tmp_path_factory):
    runs = tmp_path_factory.mktemp("plain")
    make_run(runs, "run", data=[("toy", "test", 6)], categories=("cat", "dog"), draws=5)
    return Page(to_html(build(*find_runs(runs))))


@pytest.mark.parametrize("name", EVIL)
def test_a_name_adds_no_tag_and_no_handler_to_the_page(tmp_path, plain, name):
    fields = {"backbone": name, "pretrain": name, "preset": name, "checkpoint": name, "title": name, "changes": (name,)}
    make_run(tmp_path, "run", data=[("toy", "test", 6)], categories=(name, "dog"), draws=5, **fields)
    (tmp_path / "cats" / "run" / "log.jsonl").write_text(
        "".join(json.dumps({"step": n, "loss": 1.0, name: n}) + "\n" for n in range(3))
    )
    (tmp_path / "cats" / "run" / "environment.json").write_text(json.dumps({"device": name, "versions": {name: name}}))
    report = build(*find_runs(tmp_path))
    page = Page(to_html(report))
    assert set(page.tags) <= {*plain.tags, "svg", "path", "text", "title", "g", "circle", "line", "rect"}
    assert page.tags.count("script") == plain.tags.count("script")
    assert "img" not in page.tags
    assert not [key for key, _ in page.attributes if key.startswith("on")]
    followed = [
        value or "" for key, value in page.attributes if key in ("href", "xlink:href", "src", "action", "style")
    ]
    assert not [value for value in followed if "javascript:" in value.lower()]
    assert "49{%" not in to_html(report)
    markdown = to_markdown(report)
    assert "<script" not in markdown
    assert "<img" not in markdown
    assert "](http" not in markdown.replace("\\](http", "")
    assert "\\input{/etc" not in to_latex(report)
    for row in csv.reader(io.StringIO(csv_of(runs_table(report)))):
        assert not [cell for cell in row if cell.startswith(("=", "+", "@")) or re.match("-[^0-9.]", cell)]


def test_every_format_is_written_for_evil_names(tmp_path):
    for number, name in enumerate(EVIL):
        fields = {"backbone": name, "finetune": name}
        make_run(tmp_path / "runs", f"r{number}", data=[("toy", "test", 4)], categories=(name,), draws=5, **fields)
    written = write_reports(tmp_path / "runs", tmp_path / "out")
    assert len(written) == 6
    assert all(path.stat().st_size for path in written)
    done = subprocess.run(
        [sys.executable, "-m", "benchmark", "report", "--runs", str(tmp_path / "runs"), "--out", str(tmp_path / "new")],
        cwd=tmp_path, env={"PYTHONPATH": str(ROOT), "PATH": ""}, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "[bold red]x[/]" in done.stdout.replace("\n", "") or "[bold" in done.stdout
    assert "\x1b]8" not in done.stdout


@settings(max_examples=150, deadline=None)
@given(st.text(max_size=60))
def test_escaped_text_holds_no_command(text):
    latex = latex_escaped(text)
    assert not re.search(r"(?<!\\)[&%#_]", latex)
    opened = re.sub(r"\\[{}]", "", latex)
    assert opened.count("{") == opened.count("{}")
    markdown = markdown_escaped(text)
    assert "<" not in markdown
    assert not re.search(r"(?<!\\)(?:\\\\)*[\[\]`|]", markdown)
    svg = str(chart(text, [Line(text, [(0, 1), (1, 2)], "a", {"run": text})], text, text))
    assert svg.count("<") == svg.count(">")
    assert set(Page(svg).tags) <= {"svg", "path", "text", "title"}
    assert visible(visible(text)) == visible(text)
    assert str(InputError(text or "x", where=text)).isprintable() or not any(c < " " for c in str(InputError(text)))


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.text(alphabet=st.characters(categories=["Cc", "Cf", "Zl", "Zp"]), min_size=1, max_size=10))
def test_errors_hold_no_control_characters(text):
    line = str(InputError(f"a{text}b", where=f"c{text}", fix=text))
    assert not re.search("[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069]", line)
    line.encode()


@pytest.mark.parametrize("name", ["\x1b[2J", "a\x1b]0;title\x07", "x\x9b31m", "a\nb", "\u202egnp.exe"])
def test_names_that_steer_a_terminal_are_refused_or_written_out(tmp_path, name):
    from benchmark.scoring.result import read_result
    from sc_imagenet.generation.photographs import scan_photographs

    run = make_run(tmp_path / "runs", "r", data=[("toy", "test", 4)], draws=5, title=name)
    with pytest.raises(InputError, match="control characters") as caught:
        read_result(run.folder)
    assert name not in str(caught.value)
    with pytest.raises(InputError, match="is no name"):
        make_run(tmp_path / "runs", "s", data=[("toy", "test", 4)], draws=5, categories=(name,))
    for seed, folder in enumerate((name, "cat")):
        place = tmp_path / "photographs" / folder
        place.mkdir(parents=True)
        pixels = np.random.default_rng(seed).integers(0, 255, (64, 64, 3), np.uint8)
        Image.fromarray(pixels).save(place / "a.png")
    found = scan_photographs(tmp_path / "photographs", fewest=1, processes=1)
    assert list(found.classes) == ["cat"]
    assert name not in found.skipped[0].path


def test_a_path_with_markup_and_escapes_is_printed_as_text(tmp_path):
    for name in ("[/]", "\x1b[31m"):
        done = subprocess.run(
            [sys.executable, "-m", "benchmark", "score", str(tmp_path / name)],
            cwd=tmp_path, env={"PYTHONPATH": str(ROOT), "PATH": ""}, capture_output=True, text=True,
        )  # fmt: skip
        assert done.returncode == 2
        assert "\x1b" not in done.stderr
        assert "Traceback" not in done.stderr
