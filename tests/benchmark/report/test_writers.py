"""One table in every format: what each writes of it, stated; names from data are shown as text in all."""

import csv
import io
from html.parser import HTMLParser

import pytest
from rich.console import Console

from benchmark.report.html import templates
from benchmark.report.table import Cell, Column, Row, Table, number, rounded, signed
from benchmark.report.writers import csv_of, latex_of, markdown_of, terminal_of

EVIL = "<b>|a|</b> [x](y) 50 % & _ [bold]z[/]"
PAPER = Table(
    "two methods",
    (
        Column("Method"),
        Column("", below=True, left_out=("md", "tex", "terminal")),
        Column("@0.05", "PF-PASCAL", "paper"),
        Column("@0.10", "PF-PASCAL", "paper"),
        Column("@0.10", "SPair-71k", "paper"),
    ),
    (
        Row(
            (
                Cell("CATs", tag="+ SC-ImageNet"),
                Cell("no model here"),
                Cell(70.04, 75.4, 68.96, 71.25, runs=("r1",), note="measured 70.04"),
                Cell(paper=92.6, note="fill with: scbench run cats"),
                Cell(note="the paper has no figure here"),
            ),
            commands=("scbench run cats",),
        ),
        Row((Cell("VAT_2"), Cell(""), Cell(paper=1.0), Cell(paper=2.0), Cell(paper=3.0)), divided=True),
    ),
    notes=("A note.",),
    number=7,
)
RUNS = Table(
    f"Runs {EVIL}",
    (
        Column("Model"),
        Column("Backbone", below=True),
        Column("PCK@0.10", kind="figure"),
        Column("Memory", left_out=("terminal",)),
        Column("Run", kind="runs"),
    ),
    (
        Row((Cell(EVIL), Cell("resnet101"), Cell(61.25, spread=2.0), Cell("1 GB"), Cell(runs=("r1", "r2")))),
        Row((Cell("Nearest"), Cell("resnet50"), Cell(10.0, low=9.0, high=11.0), Cell(""), Cell(runs=("r3",)))),
        Row((Cell("None"), Cell(""), Cell(), Cell(""), Cell(runs=("r4",)))),
    ),
    "How it is read.",
)


class Cells(HTMLParser):
    """The rows of a page's tables: tag, class and text of each cell; and all tags."""

    def __init__(self, page):
        super().__init__()
        self.rows, self.tags, self.links = [], [], []
        self.feed(page)

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        if tag == "tr":
            self.rows.append([])
        if tag in ("td", "th"):
            self.rows[-1].append("")
        if tag == "a":
            self.links.append(dict(attrs))

    def handle_data(self, data):
        if self.rows and self.rows[-1] and data.strip():
            self.rows[-1][-1] += f"{data.strip()} "


def on_page(table, runs):
    module = templates().get_template("parts.html").make_module({"number_of": {run: n for n, run in enumerate(runs)}})
    return str(module.show(table.written_as("html"), "heading"))


def printed(table):
    console = Console(file=io.StringIO(), width=120, color_system=None)
    console.print(terminal_of(table))
    return console.file.getvalue()


def test_figures_are_rounded_in_one_way():
    assert (rounded(61.25), rounded(61.35), rounded(100)) == ("61.2", "61.4", "100.0")
    assert (signed(0.04), signed(-5.36)) == ("+0.0", "\N{MINUS SIGN}5.4")
    assert (number(41_483), number(41_483.0)) == ("41,483", "41483.0")
    cell = Cell(70.04, 75.4, 68.96, 71.25)
    assert (cell.text, cell.printed, cell.difference) == ("70.0", "75.4", "\N{MINUS SIGN}5.4")
    assert (cell.interval, cell.detail) == ("69.0\N{EN DASH}71.2", "69.0\N{EN DASH}71.2")
    assert Cell(70.0, low=1.0, high=2.0, spread=0.84).detail == "\N{PLUS-MINUS SIGN} 0.8"
    assert (Cell(None, 75.4).difference, Cell("words", 75.4).difference, Cell(1.0).interval) == ("", "", "")


def test_a_format_leaves_out_the_columns_it_has_no_room_for():
    heads = {name: [each.head for each in RUNS.written_as(name).columns] for name in ("html", "md", "terminal")}
    assert heads["md"] == ["Model", "Backbone", "PCK@0.10", "Memory", "Run"]
    assert heads["terminal"] == ["Model", "Backbone", "PCK@0.10", "Run"]
    page = RUNS.written_as("html")
    assert heads["html"] == ["Model", "PCK@0.10", "Memory", "Run"]
    assert page.columns[0].detail == "backbone"
    assert [row.cells[0].below for row in page.rows] == ["resnet101", "resnet50", ""]


def test_a_table_counts_what_was_measured_and_names_each_command_once():
    assert (PAPER.measured, PAPER.printed) == (1, 5)
    assert PAPER.commands == ("scbench run cats",)
    assert (PAPER.heading, RUNS.heading) == ("Table 7: two methods", RUNS.title)
    assert [(group, len(columns)) for group, columns in PAPER.written_as("tex").groups()] == [
        *(("", 1), ("PF-PASCAL", 2), ("SPair-71k", 1))
    ]


def test_markdown_has_the_paper_s_figure_and_in_bold_the_measured_one():
    dash, minus = "\N{EN DASH}", "\N{MINUS SIGN}"
    assert markdown_of(PAPER, "## ") == [
        "",
        "## Table 7: two methods",
        "",
        "| Method | PF-PASCAL @0.05 | PF-PASCAL @0.10 | SPair-71k @0.10 |",
        "| --- | --- | --- | --- |",
        f"| CATs + SC-ImageNet | 75.4 / **70.0** (69.0{dash}71.2, {minus}5.4) | 92.6 |  |",
        "| VAT_2 | 1.0 | 2.0 | 3.0 |",
        "",
        "A note.",
        "",
        "Commands that fill empty cells:",
        "",
        "    scbench run cats",
    ]


def test_markdown_escapes_names_and_puts_intervals_in_brackets():
    lines = markdown_of(RUNS)
    name = r"&lt;b>\|a\|&lt;/b> \[x\](y) 50 % &amp; _ \[bold\]z\[/\]"
    assert lines[1] == f"Runs {name}:"
    assert lines[3] == "How it is read."
    assert lines[7:] == [
        f"| {name} | resnet101 | 61.2 (\N{PLUS-MINUS SIGN} 2.0) | 1 GB | r1, r2 |",
        "| Nearest | resnet50 | 10.0 (9.0\N{EN DASH}11.0) |  | r3 |",
        "| None |  |  |  | r4 |",
    ]


def test_latex_is_a_table_to_input():
    assert latex_of(PAPER).splitlines() == [
        r"\begin{table*}[t]",
        r"\centering",
        r"\caption{Two methods (1 of 5 figures measured).}",
        r"\label{tab:paper-7}",
        r"\resizebox{\textwidth}{!}{%",
        r"\begin{tabular}{lccc}",
        r"\toprule",
        r" & \multicolumn{2}{c}{PF-PASCAL} & \multicolumn{1}{c}{SPair-71k} \\",
        r"\cmidrule(lr){2-3}\cmidrule(lr){4-4}",
        r"Method & @0.05 & @0.10 & @0.10 \\",
        r"\midrule",
        r"CATs + SC-ImageNet & 75.4 / \textbf{70.0} ($-$5.4) & 92.6 & -- \\",
        r"\midrule",
        r"VAT\_2 & 1.0 & 2.0 & 3.0 \\",
        r"\bottomrule",
        r"\end{tabular}}",
        r"\end{table*}",
    ]


def test_csv_has_figures_as_they_are_and_no_formula():
    table = Table(
        "",
        (Column("run"), Column("value"), Column("low")),
        (Row((Cell("=1+1"), Cell(-61.123456789), Cell())), Row((Cell('a,"b"\n'), Cell(3), Cell("-x")))),
    )
    assert list(csv.reader(io.StringIO(csv_of(table)))) == [
        ["run", "value", "low"],
        ["'=1+1", "-61.123456789", ""],
        ['a,"b"\n', "3", "'-x"],
    ]


def test_the_terminal_shows_rows_with_measured_figures_alone():
    text = printed(PAPER)
    assert "Table 7: two methods" in text
    assert "75.4 70.0 (\N{MINUS SIGN}5.4)" in text
    assert "VAT_2" not in text
    assert "paper, then measured (difference)" in text
    assert "no model here" not in text


def test_the_terminal_prints_markup_in_names_as_text_and_each_run_on_a_line():
    text = printed(RUNS)
    assert "[bold]z[/]" in text
    assert "61.2 \N{PLUS-MINUS SIGN} 2.0" in text
    assert "1 GB" not in text
    first, second = (next(line for line in text.splitlines() if run in line) for run in ("r1", "r2"))
    assert first != second
    assert "How it is read." in text


def test_a_small_table_keeps_its_title_and_caption_on_one_line_in_the_terminal():
    title, caption = "A title that is wider than its table", "And so is what is said below it."
    small = Table(title, (Column("a"),), (Row((Cell("b"),)),), caption, dense=True)
    assert [line.strip() for line in printed(small).splitlines()] == [title, "a", "b", caption]


def test_a_crowded_table_cuts_its_headings_and_puts_the_measured_figure_below():
    columns = (Column("Method"), *(Column(f"category{n}", kind="paper") for n in range(11)))
    cells = (Cell("CATs"), *(Cell(60.0 + n, 50.0, runs=("r1",)) for n in range(11)))
    crowded = Table("by category", columns, (Row(cells),), number=3)
    assert crowded.crowded
    text = printed(crowded)
    assert "categ " in text
    assert "category" not in text.partition("\n")[2]
    assert not PAPER.crowded
    assert "(" not in "".join(line for line in text.splitlines() if "60.0" in line)
    page = on_page(crowded, ("r1",))
    assert page.count('class="upright"') == 11
    assert page.count("figure filled tight") == 11


def test_the_page_shows_the_paper_s_figure_below_the_measured_one_which_opens_its_runs():
    page = on_page(PAPER, ("r0", "r1"))
    cells = Cells(page)
    assert cells.rows == [
        ["", "PF-PASCAL ", "SPair-71k "],
        ["Method ", "@0.05 ", "@0.10 ", "@0.10 "],
        [
            "CATs + SC-ImageNet no model here ",
            "70.0 \N{MINUS SIGN}5.4 paper 75.4 69.0\N{EN DASH}71.2 ",
            "92.6 ",
            "\N{EN DASH} ",
        ],
        ["VAT_2 ", "1.0 ", "2.0 ", "3.0 "],
    ]
    (link,) = cells.links
    assert link == {
        "href": "#run-1",
        "data-runs": "1",
        "data-title": "Table 7, CATs + SC-ImageNet, PF-PASCAL @0.05",
        "data-note": "measured 70.04",
    }
    assert page.count('class="divide"') == 1
    assert 'title="fill with: scbench run cats"' in page
    assert 'class="down"' in page


def test_the_page_escapes_names_and_links_all_runs_of_a_row():
    page = on_page(RUNS, ("r1", "r2", "r3", "r4"))
    cells = Cells(page)
    assert "b" not in cells.tags[: cells.tags.index("tbody")]
    assert EVIL in cells.rows[1][0]
    assert "<b>|a|" not in page
    assert [link["data-runs"] for link in cells.links] == ["0 1", "2", "3"]
    assert [link["data-title"] for link in cells.links] == [RUNS.title] * 3
    assert cells.rows[0] == ["Model backbone ", "PCK@0.10 ", "Memory ", "Run "]
    assert cells.rows[1][3] == "2 runs "
    assert cells.rows[3][1] == ""


@pytest.mark.parametrize(("value", "drawn"), [(61.25, True), (None, False)])
def test_a_page_draws_bars_and_intervals_of_what_there_is(value, drawn):
    columns = (Column("Category"), Column("CATs", kind="bar", detail="seed 0"), Column("", kind="interval"))
    low, high = (None, None) if value is None else (60.0, 63.0)
    page = on_page(Table("t", columns, (Row((Cell("cat"), Cell(value), Cell(value, low=low, high=high))),)), ())
    assert ("--s:61.2%" in page) == drawn
    assert ("left:60.0%;width:3.0%" in page) == drawn
    assert ("fill-0" in page) == drawn
