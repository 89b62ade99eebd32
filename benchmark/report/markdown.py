"""The report as Markdown."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from benchmark import ablation_table
from benchmark.report import text
from benchmark.report.build import Board, Cell, Measured, Report, TableView


def to_markdown(report: Report) -> str:
    """The whole report as GitHub's Markdown; names from data are escaped."""
    lines = ["# Semantic correspondence: paper and measured", "", text.summary(report), "", text.HOW_TO_READ]
    for table in report.tables:
        lines += ["", f"## Table {table.paper.number}: {table.paper.title}", "", *_table(table)]
        if absent := text.absent(table):
            lines += ["", absent]
        commands = dict.fromkeys(command for row in table.rows for command in row.commands)
        if commands:
            lines += ["", "Commands that fill empty cells:", "", *(f"    {command}" for command in commands)]
    lines += ["", "## Ablations of the generator", "", _escape(text.ablations(report.ablations)), ""]
    lines += _grid(ablation_table.HEADINGS, map(ablation_table.words, report.ablations.rows))
    empty = [row.command for row in report.ablations.rows if not row.seeds]
    if empty:
        lines += ["", "Commands that fill empty rows:", "", *(f"    {command}" for command in empty)]
    for made in report.generated:
        lines += ["", f"## Generated data set {_escape(made.name)}", "", f"{_escape(made.how)}.", ""]
        lines += _grid(["", "count"], made.counts.items())
        if made.errors:
            lines += ["", text.TRUE_ERRORS, "", *_grid(["", "labels"], made.errors.items())]
    lines += ["", "## All runs"]
    for board in report.boards:
        lines += ["", f"### {_escape(text.board_title(board))}", "", f"PCK, {text.protocol(board)}.", ""]
        lines += _board(board)
        if board.categories:
            lines += ["", f"By category, {board.metrics[1]}:", "", *_categories(board)]
    faulty = [(sheet, problem) for sheet in report.sheets for problem in sheet.problems]
    if faulty:
        lines += ["", "### Incomplete", "", *(f"- {_escape(f'{s.result.run}: {problem}')}" for s, problem in faulty)]
    if report.unscored:
        lines += ["", "### Not evaluated", "", *(f"- {_escape(text.one_line(r))}" for r in report.unscored)]
    lines += ["", "## Notes", "", *(f"- {note}" for note in report.notes)]
    if report.problems:
        lines += ["", "## Left out", "", *(f"- {_escape(problem)}" for problem in report.problems)]
    return "\n".join(lines) + "\n"


def _table(view: TableView) -> list[str]:
    heads = [text.column_head(view.paper, column) for column in view.paper.columns]
    rows = ([text.method(row.row), *(_cell(cell) for cell in row.cells)] for row in view.rows)
    return _grid(["method", *heads], rows)


def _cell(cell: Cell) -> str:
    printed = "" if cell.paper is None else f"{cell.paper:.1f}"
    if cell.measured is None:
        return printed
    span = text.interval(cell.measured)
    details = ", ".join(part for part in (span, text.difference(cell)) if part)
    return f"{printed} / **{cell.measured.value:.1f}**" + (f" ({details})" if details else "")


def _board(board: Board) -> list[str]:
    heads = ["model", "backbone", "training", "recipe"]
    heads += [f"PCK@{metric.alpha:.2f}" for metric in board.metrics]
    heads += ["direction", "seed", "trained for", "peak memory", "run"]
    rows = (
        [
            entry.result.model,
            entry.result.backbone,
            text.training(entry.result),
            text.recipe(entry.result),
            *(_score(score) for score in entry.scores),
            text.arrow(entry.result),
            str(entry.result.seed),
            text.duration(entry.result.seconds),
            text.size(entry.result.peak_memory),
            entry.result.run,
        ]
        for entry in board.entries
    )
    return _grid(heads, rows)


def _categories(board: Board) -> list[str]:
    rows = (
        [name, *(f"{e.categories[name]:.1f}" if name in e.categories else "" for e in board.entries)]
        for name in board.categories
    )
    return _grid(["category", *(f"{e.result.model} {e.result.run}" for e in board.entries)], rows)


def _score(score: Measured | None) -> str:
    return f"{score.value:.1f} ({text.interval(score)})" if score else ""


def _grid(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    lines = [heads, ["---"] * len(heads), *rows]
    escaped = ([_escape(cell) if i != 1 else cell for cell in line] for i, line in enumerate(lines))
    return [f"| {' | '.join(line)} |" for line in escaped]


def _escape(cell: str) -> str:
    """Text that can neither end a table's cell nor start a tag."""
    return cell.replace("&", "&amp;").replace("<", "&lt;").replace("|", "\\|").replace("\n", " ")
