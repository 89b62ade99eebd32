"""The report: every format from the same content, and ``scbench report``."""

import csv
import io
import json
import shutil
from html.parser import HTMLParser

import pytest

from benchmark.report.contents import build, build_from
from benchmark.report.html import to_html
from benchmark.report.paper_tables import tables
from benchmark.report.tables import curves_table, figures_table, runs_table
from benchmark.report.writers import console, csv_of, lines_of, to_latex, to_markdown, write_reports
from tests.benchmark.commands.test_score import scbench
from tests.benchmark.runs import make_run

PASCAL = [("pf-pascal", "test", 299)]


class Page(HTMLParser):
    """Collects the tags, the text and the addresses of a page."""

    def __init__(self, page):
        super().__init__()
        self.tags, self.text, self.addresses = [], [], []
        self.feed(page)

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.addresses += [value for name, value in attrs if name in ("href", "src")]

    def handle_data(self, data):
        self.text.append(data)


def test_the_page_is_one_file_and_escapes_what_data_says(tmp_path):
    evil = "<script>alert(1)</script>"
    names = {"categories": (evil, "a|b"), "changes": (f"--x {evil}",), "title": evil, "backbone": evil}
    run = make_run(tmp_path, "r1", data=[("toy", "test", 8)], **names)
    report = build([run], [f"runs/{evil}: damaged"])
    page = Page(to_html(report))
    assert page.tags.count("script") == 1  # the page's own
    assert "".join(page.text).count(evil) >= 6  # category, change, title, backbone, command, problem
    assert all(address.startswith(("#", "data:")) for address in page.addresses)
    markdown = to_markdown(report)
    assert "<script" not in markdown
    assert "a\\|b" in markdown


def test_tables_of_the_page_are_complete(tmp_path):
    page = to_html(build([make_run(tmp_path, "r1", data=PASCAL, finetune="pf-pascal", draws=2)]))
    for table in tables():
        part = Page(
            page[page.index(f'<section class="printed" id="table-{table.number}"') :].partition("</section>")[0]
        )
        heads = 1 if table.by_category else 2
        assert part.tags.count("tr") == len(table.rows) + heads
        extra = {1: 0, 2: 1, 3: 0, 4: 0, 5: 0}[table.number]  # supervision
        corner = 0 if table.by_category else 1 + extra
        assert part.tags.count("td") == len(table.rows) * (len(table.columns) + extra) + corner
        said = "".join(part.text)
        assert all(f"{value:.1f}" in said for row in table.rows for value in row.values if value is not None)


def test_what_is_incomplete_says_so_in_every_form(tmp_path, capsys):
    part = make_run(tmp_path, "part", data=[("spair-71k", "test", 35)], draws=2)
    whole = make_run(tmp_path, "whole", data=PASCAL, draws=2)
    report = build([part, whole])
    for part in lines_of(report):
        console().print(part)
    said = {"html": to_html(report), "md": to_markdown(report)}
    for text in (*said.values(), capsys.readouterr().out):
        assert "35 of 12,234 pairs" in text
        assert "PF-PASCAL, test split, 299 pairs" in text
    rows = list(csv.DictReader(io.StringIO(csv_of(runs_table(report)))))
    assert {(row["data"], row["pairs"], row["published"]) for row in rows} == {
        ("spair-71k", "35", "12234"),
        ("pf-pascal", "299", "299"),
    }


def test_csv_files_hold_every_figure(tmp_path):
    run = make_run(tmp_path, "r1", data=PASCAL, finetune="pf-pascal")
    result, report = run.result, build([run])
    cells = list(csv.DictReader(io.StringIO(csv_of(figures_table(report)))))
    assert len(cells) == 4 * 4 + 17 * 7 + 15 * 19 + 7 * 4 + 6 * 4
    measured = [line for line in cells if line["measured"]]
    assert [line["runs"] for line in measured] == ["r1"] * 3
    value = result.metrics["pf-pascal"]["pck@0.05/img@256/image"]["value"]
    assert float(measured[0]["measured"]) == value
    assert float(measured[0]["difference"]) == pytest.approx(value - 75.4)
    assert measured[0]["metric"] == "pck@0.05/img@256/image"
    lines = list(csv.DictReader(io.StringIO(csv_of(runs_table(report)))))
    assert {line["metric"]: float(line["value"]) for line in lines} == {
        name: score["value"] for name, score in result.metrics["pf-pascal"].items()
    }
    curves = list(csv.DictReader(io.StringIO(csv_of(curves_table(report)))))
    assert [(line["run"], line["data"], line["protocol"]) for line in curves] == [("r1", "pf-pascal", "img/image")]
    assert float(curves[0]["0.1"]) == pytest.approx(result.metrics["pf-pascal"]["pck@0.1/img/image"]["value"], abs=1e-3)


def test_latex_holds_every_row_and_the_measured_cells(tmp_path):
    run = make_run(tmp_path, "r1", data=PASCAL, finetune="pf-pascal", draws=2)
    latex = to_latex(build([run]))
    value = run.result.metrics["pf-pascal"]["pck@0.1/img@256/image"]["value"]
    assert f"92.6 / \\textbf{{{value:.1f}}}" in latex
    assert latex.count(r"\begin{tabular}") == latex.count(r"\end{tabular}") == 5
    for table in tables():
        part = latex.split(r"\label{tab:paper-")[table.number]
        rows = [line for line in part.splitlines() if line.endswith(r"\\") and "midrule" not in line]
        widths = {line.count(" & ") for line in rows if "multicolumn" not in line}
        assert widths == {len(table.columns)}
        assert len(rows) == len(table.rows) + (1 if table.by_category else 2)
    assert latex.count("{") == latex.count("}")
    assert "256 $\\times$ 256" in latex


def test_the_command_writes_all_formats_and_says_what_it_left_out(tmp_path):
    make_run(tmp_path / "runs", "r1", data=[("toy", "test", 8)])
    (tmp_path / "runs" / "cats" / "half").mkdir()
    (tmp_path / "runs" / "cats" / "half" / "config.json").write_text("{}")
    done = scbench("report", "--runs", tmp_path / "runs", "--out", tmp_path / "out")
    names = {file.name for file in (tmp_path / "out").iterdir()}
    assert names == {"report.html", "report.md", "tables.tex", "tables.csv", "runs.csv", "curves.csv"}
    assert "Toy, test split, 8 of 300 pairs" in done.stdout
    assert "half: has no result.json" in done.stdout
    content = json.loads(scbench("report", "--runs", tmp_path / "runs", "--json").stdout)
    assert content["runs"] == 1
    assert len(content["problems"]) == 1


def test_what_is_wrong_with_runs_is_said_in_its_place_and_the_others_stand(tmp_path):
    """Half-written, of an older version, twice under one id, without predictions: none hides the others."""
    runs = tmp_path / "runs"
    good, bare, lost = (make_run(runs, name, data=[("toy", "test", 8)]) for name in ("good", "bare", "lost"))
    for run in (bare, lost):
        shutil.rmtree(run.folder / "predictions")
    (lost.folder / "curves.json").unlink()
    for name, content in (("half", None), ("older", {"version": 0}), ("cut", None)):
        (runs / "cats" / name).mkdir()
        (runs / "cats" / name / "config.json").write_text("{}")
        if content is not None:
            (runs / "cats" / name / "result.json").write_text(json.dumps(content))
    (runs / "cats/cut/result.json").write_text((good.folder / "result.json").read_text()[:200])
    shutil.copytree(good.folder, runs / "copied" / "good")
    done = scbench("report", "--runs", runs, "--out", tmp_path / "out")
    page, words = ((tmp_path / "out" / name).read_text() for name in ("report.html", "report.md"))
    for line in (
        "cats/half: has no result.json: still running, or interrupted; run it again",
        "cats/older/result.json: is version 0 of results, this is 1. Run again: its predictions and weights are kept.",
        "cats/cut/result.json: is not valid JSON",
        "run good lies in",
    ):
        for text in (page.replace("&#39;", "'"), words, done.stdout.replace("\n", " ")):
            assert line in " ".join(text.split()), line
    content = json.loads(scbench("report", "--runs", runs, "--json").stdout)
    assert (content["runs"], len(content["problems"])) == (3, 4)
    assert [len(board["entries"]) for board in content["leaderboards"]] == [3]
    gaps = {details["result"]["run"]: " ".join(details["problems"]) for details in content["details"]}
    assert "the predictions were deleted: no curve and no pictures for toy" in gaps["lost"]
    assert "the predictions were deleted: no pictures for toy" in gaps["bare"]
    assert gaps["lost"].removeprefix(str(runs)) in page
    assert gaps["good"] == ""


def test_reports_of_a_folder_of_runs(tmp_path):
    make_run(tmp_path / "runs", "r1", data=[("toy", "test", 8)])
    files = write_reports(tmp_path / "runs", tmp_path / "out")
    assert sorted(files) == sorted((tmp_path / "out").iterdir())
    assert "r1" in files[0].read_text()


def test_generated_sets_stand_in_the_report_with_the_true_errors_of_their_labels(tmp_path):
    folder = tmp_path / "generated" / "toy<set>"
    folder.mkdir(parents=True)
    counts = {"images": 640, "kept_images": 187, "classes": 10, "pairs": 1309, "points": 41_483}
    offsets = {"median_offset_matched": 11.5, "median_offset_selected": 9.2}
    options = {"backbone": "lite0", "size": 224, "network": None}
    (folder / "generation.json").write_text(json.dumps({"options": options, "counts": {**counts, **offsets}}))
    (folder / "label_errors.json").write_text(json.dumps({"points": 41_483, "PCK@0.1 of all": 57.14}))
    (tmp_path / "generated" / "half").mkdir()
    (tmp_path / "generated" / "half" / "generation.json").write_text('{"options": {}}')
    report = build_from(tmp_path)
    (made,) = report.generated
    assert made.how == "lite0 at 224 px, raw features with Hough scores"
    assert (made.counts["points"], made.errors["PCK@0.1 of all"]) == ("41,483", "57.1")
    assert "half" in report.problems[0]
    for written in (to_html(report), to_markdown(report)):
        assert "toy&lt;set" in written
        assert "57.1" in written
        assert "41,483" in written


def test_mistakes_in_the_command_end_in_one_line(tmp_path):
    done = scbench("report", "--runs", tmp_path / "none", check=False)
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert "no such folder of runs" in done.stderr
    done = scbench("report", "--runs", tmp_path, "--format", "htm", "--out", tmp_path / "out", check=False)
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert "Did you mean 'html'" in done.stderr
    assert not (tmp_path / "out").exists()
