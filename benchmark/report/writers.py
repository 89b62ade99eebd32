"""The report as Markdown, LaTeX, CSV and in the terminal: each writes any table; and all formats into a folder."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from rich import box
from rich.console import Console, Group, RenderableType
from rich.markup import escape
from rich.table import Table as RichTable

from benchmark.report import run_details, tables
from benchmark.report.contents import Report, build_from
from benchmark.report.table import EN_DASH, MINUS, Cell, Column, Table
from sc_imagenet.core.errors import unknown_name
from sc_imagenet.core.files import atomic_path

FORMATS = ("html", "md", "tex", "csv")


def write_reports(runs: Path, out: Path, root: Path | None = None) -> list[Path]:
    """Report on all that lies in a folder of runs, in every format; returns the files' paths."""
    return write_report(build_from(runs), out, FORMATS, root)


def write_report(report: Report, out: Path, formats: Sequence[str], root: Path | None = None) -> list[Path]:
    """Write the files, each atomically, and return their paths.

    Args:
        report: what to write.
        out: the folder; made if it is not there.
        formats: of ``FORMATS``.
        root: where the data sets lie whose images the HTML shows; else ``SC_DATA_ROOT``.

    Raises:
        InputError: an unknown format, or the folder cannot be written.
    """
    for name in formats:
        if name not in FORMATS:
            raise unknown_name("report format", name, FORMATS)
    contents: dict[str, str] = {}
    if "html" in formats:
        from benchmark.report.html import to_html  # and with them jinja2 and Pillow
        from benchmark.report.pictures import figures

        contents["report.html"] = to_html(report, figures(report, root))
    if "md" in formats:
        contents["report.md"] = to_markdown(report)
    if "tex" in formats:
        contents["tables.tex"] = to_latex(report)
    if "csv" in formats:
        contents["tables.csv"] = csv_of(tables.figures_table(report))
        contents["runs.csv"] = csv_of(tables.runs_table(report))
        contents["curves.csv"] = csv_of(tables.curves_table(report))
    for name, content in contents.items():
        with atomic_path(out / name) as temporary:
            temporary.write_text(content, encoding="utf-8")
    return [out / name for name in contents]


# Markdown.


def to_markdown(report: Report) -> str:
    """The whole report as GitHub's Markdown; names from data are escaped."""
    lines = [f"# {tables.TITLE}", "", tables.summary(report), "", tables.HOW_TO_READ]
    for table in report.tables:
        lines += markdown_of(tables.paper_table(table), "## ")
    lines += markdown_of(tables.ablation_grid(report.ablations), "## ")
    for made in report.generated:
        for generated in tables.generated_tables(made):
            lines += markdown_of(generated, "## ")
    lines += ["", "## All runs", "", tables.SEEDS_GROUPED]
    for board in report.leaderboards:
        lines += markdown_of(tables.leaderboard_table(board), "### ")
        for more in (tables.single_runs_table(board), tables.category_table(board)):
            lines += markdown_of(more) if more else []
    faulty = [f"{of.result.run}: {problem}" for of in report.details for problem in of.problems]
    lines += _list("### Incomplete", faulty)
    lines += _list("### Not evaluated", map(run_details.one_line, report.unscored))
    lines += ["", "## Notes", "", *(f"- {note}" for note in report.notes)]
    lines += _list("## Left out", report.problems)
    return "\n".join(lines) + "\n"


def markdown_of(table: Table, level: str = "") -> list[str]:
    """A table's lines, its heading first: of a level (``"## "``), or a line above it."""
    table = table.written_as("md")
    heading = markdown_escaped(table.heading)
    lines = ["", f"{level}{heading}" if level else f"{heading}:", ""]
    if table.caption:
        lines += [markdown_escaped(table.caption), ""]
    heads = [markdown_escaped(", ".join(filter(None, (each.full_head, each.detail)))) for each in table.columns]
    cells = ([_markdown_cell(*pair) for pair in zip(table.columns, row.cells)] for row in table.rows)
    lines += [f"| {' | '.join(line)} |" for line in (heads, ["---"] * len(heads), *cells)]
    for note in table.notes:
        lines += ["", note]
    if table.commands:
        lines += ["", "Commands that fill empty cells:", "", *(f"    {command}" for command in table.commands)]
    return lines


def markdown_escaped(words: str) -> str:
    """Text that can neither end a table's cell nor start a tag, a link, an image or code."""
    plain = words.replace("&", "&amp;").replace("<", "&lt;").replace("\n", " ")
    return re.sub(r"[\\|\[\]`*]", r"\\\g<0>", plain)


def _markdown_cell(column: Column, cell: Cell) -> str:
    if column.kind == "runs":
        return markdown_escaped(", ".join(cell.runs))
    if column.kind != "paper":
        return markdown_escaped(f"{cell.words} ({cell.detail})" if cell.detail else cell.words)
    if cell.value is None:
        return cell.printed
    details = ", ".join(filter(None, (cell.interval, cell.difference)))
    return f"{cell.printed} / **{cell.text}**" + (f" ({details})" if details else "")


def _list(heading: str, lines: Iterable[str]) -> list[str]:
    """A heading with its points; nothing of none."""
    points = [f"- {markdown_escaped(line)}" for line in lines]
    return ["", heading, "", *points] if points else []


# LaTeX: for a paper of one's own (needs booktabs and graphicx).

_SPECIAL = {
    "\\": r"\textbackslash{}",
    **{sign: f"\\{sign}" for sign in "&%$#_{}"},
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "\N{MULTIPLICATION SIGN}": r"$\times$",
    MINUS: "$-$",
    EN_DASH: "--",
}


def to_latex(report: Report) -> str:
    r"""Tables 1 to 5, each a ``table`` to ``\input``: the paper's figure, then the measured one and its difference."""
    head = "% \\usepackage{booktabs,graphicx}. A cell: the paper's figure, then in bold the measured one (difference)."
    return "\n\n".join([head, *(latex_of(tables.paper_table(table)) for table in report.tables)]) + "\n"


def latex_of(table: Table) -> str:
    """A table of the paper, across the page's whole width."""
    table = table.written_as("tex")
    caption = f"{table.title[0].upper()}{table.title[1:]} ({table.measured} of {table.printed} figures measured)."
    lines = [
        r"\begin{table*}[t]",
        r"\centering",
        rf"\caption{{{latex_escaped(caption)}}}",
        rf"\label{{tab:paper-{table.number}}}",
        r"\resizebox{\textwidth}{!}{%",
        rf"\begin{{tabular}}{{l{'c' * (len(table.columns) - 1)}}}",
        r"\toprule",
        *_latex_groups(table),
        _latex_row([latex_escaped(column.head) for column in table.columns]),
        r"\midrule",
    ]
    for row in table.rows:
        lines += [r"\midrule"] if row.divided else []
        lines.append(_latex_row([_latex_cell(*pair) for pair in zip(table.columns, row.cells)]))
    lines += [r"\bottomrule", r"\end{tabular}}", r"\end{table*}"]
    return "\n".join(lines)


def latex_escaped(words: str) -> str:
    r"""Text with what LaTeX would read as commands written out.

    >>> latex_escaped("car_side & 50 %")
    'car\\_side \\& 50 \\%'
    """
    return "".join(_SPECIAL.get(sign, sign) for sign in " ".join(words.split()))


def _latex_groups(table: Table) -> list[str]:
    """The line above the headings, and the rules below its groups."""
    heads, rules, start = [], [], 1
    for group, columns in table.groups():
        span = len(columns)
        heads.append(rf"\multicolumn{{{span}}}{{c}}{{{latex_escaped(group)}}}" if group else "")
        rules += [rf"\cmidrule(lr){{{start}-{start + span - 1}}}"] if group else []
        start += span
    return [_latex_row(heads), "".join(rules)] if rules else []


def _latex_cell(column: Column, cell: Cell) -> str:
    if column.kind != "paper":
        return latex_escaped(cell.words)
    printed = cell.printed or "--"
    if cell.value is None:
        return printed
    change = f" ({latex_escaped(cell.difference)})" if cell.difference else ""
    return rf"{printed} / \textbf{{{cell.text}}}{change}"


def _latex_row(cells: Sequence[str]) -> str:
    return " & ".join(cells) + r" \\"


# CSV.


def csv_of(table: Table) -> str:
    """A table as CSV: figures as they are, text such that no spreadsheet takes it for a formula.

    >>> from benchmark.report.table import Cell, Column, Row, Table
    >>> print(csv_of(Table("", (Column("run"), Column("value")), (Row((Cell("=HYPERLINK(A1)"), Cell(-1.25))),))))
    run,value
    '=HYPERLINK(A1),-1.25
    <BLANKLINE>
    """
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow([column.head for column in table.columns])
    writer.writerows([_no_formula(cell.value) for cell in row.cells] for row in table.rows)
    return text.getvalue()


def _no_formula(value: str | float | None) -> str | float | None:
    return f"'{value}" if isinstance(value, str) and value.startswith(("=", "+", "-", "@")) else value


# The terminal, as what rich prints.


def console() -> Console:
    """Standard output; a file or pipe has no width of its own, a fixed one keeps the tables whole there."""
    found = Console(highlight=False)
    return found if found.is_terminal else Console(highlight=False, width=160)


def lines_of(report: Report) -> Iterator[RenderableType]:
    """The tables that have measured cells, those of all runs, and what is wrong with some."""
    for table in report.tables:
        if table.filled:
            yield terminal_of(tables.paper_table(table))
    if report.ablations.measured:
        yield terminal_of(tables.ablation_grid(report.ablations))
    for made in report.generated:
        yield from map(terminal_of, tables.generated_tables(made))
    for board in report.leaderboards:
        yield terminal_of(tables.leaderboard_table(board))
    for result in report.unscored:
        yield f"not evaluated: {escape(run_details.one_line(result))}"
    yield f"\n{tables.summary(report)}"
    for of in report.details:
        for problem in of.problems:
            yield f"[yellow]{escape(of.result.run)}:[/] {escape(problem)}"
    for problem in report.problems:
        yield f"[yellow]left out:[/] {escape(problem)}"


def terminal_of(table: Table) -> RenderableType:
    """A table for the terminal, its caption below; of a paper's table the rows with measured figures."""
    table = table.written_as("terminal")
    beside_paper = table.number is not None
    shown = RichTable(
        title=None if table.dense else escape(table.heading),
        caption="paper, then measured (difference)" if beside_paper else escape(table.caption),
        box=None if table.dense else box.HEAVY_HEAD,
        pad_edge=not table.dense,
    )
    for column in table.columns:
        head = column.head[:5] if table.crowded and column.kind == "paper" else column.head
        right = column.kind == "figure" or (table.dense and "right" in column.style)
        name = f"{column.group}\n{head}" if column.group else head
        shown.add_column(escape(name), justify="right" if right else "left")
    for row in table.rows:
        if not beside_paper or any(cell.runs for cell in row.cells):
            shown.add_row(*(_terminal_cell(*pair, table.crowded) for pair in zip(table.columns, row.cells)))
    if table.dense:  # a narrow table would break its title and caption into many lines
        shown.caption = None
        return Group(f"[italic]{escape(table.heading)}[/]", shown, escape(table.caption))
    return shown


def _terminal_cell(column: Column, cell: Cell, crowded: bool) -> str:
    if column.kind == "runs":
        return escape("\n".join(cell.runs))
    if column.kind != "paper":
        return escape(cell.words) + (f" [dim]{cell.detail}[/]" if cell.detail else "")
    if cell.value is None:
        return f"[dim]{cell.printed}[/]"
    if crowded:
        return f"[dim]{cell.printed}[/]\n[bold]{cell.text}[/]"
    difference = f" ({cell.difference})" if cell.difference else ""
    return f"[dim]{cell.printed}[/] [bold]{cell.text}[/]{difference}"
