"""The report as Markdown."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from benchmark.report import ablation_table, run_sheet, wording
from benchmark.report.leaderboard import Board, Measured, Setting
from benchmark.report.tables import Cell, Report, TableView


def to_markdown(report: Report) -> str:
    """The whole report as GitHub's Markdown; names from data are escaped."""
    lines = ["# Semantic correspondence: paper and measured", "", wording.summary(report), "", wording.HOW_TO_READ]
    for table in report.tables:
        lines += ["", f"## Table {table.paper.number}: {table.paper.title}", "", *_table(table)]
        commands = dict.fromkeys(str(command) for row in table.rows for command in row.commands)
        if commands:
            lines += ["", "Commands that fill empty cells:", "", *(f"    {command}" for command in commands)]
    lines += ["", "## Ablations of the generator", "", _escape(wording.ablations(report.ablations)), ""]
    lines += _grid(ablation_table.HEADINGS, map(ablation_table.words, report.ablations.rows))
    empty = [row.command for row in report.ablations.rows if not row.seeds]
    if empty:
        lines += ["", "Commands that fill empty rows:", "", *(f"    {command}" for command in empty)]
    for made in report.generated:
        lines += ["", f"## Generated data set {_escape(made.name)}", "", f"{_escape(made.how)}.", ""]
        lines += _grid(["", "count"], made.counts.items())
        if made.errors:
            lines += ["", wording.TRUE_ERRORS, "", *_grid(["", "labels"], made.errors.items())]
    lines += ["", "## All runs", "", wording.SEEDS_GROUPED]
    for board in report.boards:
        lines += ["", f"### {_escape(wording.board_title(board))}", "", f"PCK, {wording.protocol(board)}.", ""]
        lines += _board(board, board.settings)
        if board.singles:
            lines += ["", "Run by run:", "", *_board(board, board.singles)]
        if board.categories:
            lines += ["", f"By category, {board.metrics[1]}:", "", *_categories(board)]
    faulty = [(sheet, problem) for sheet in report.sheets for problem in sheet.problems]
    if faulty:
        lines += ["", "### Incomplete", "", *(f"- {_escape(f'{s.result.run}: {problem}')}" for s, problem in faulty)]
    if report.unscored:
        lines += ["", "### Not evaluated", "", *(f"- {_escape(run_sheet.one_line(r))}" for r in report.unscored)]
    lines += ["", "## Notes", "", *(f"- {note}" for note in report.notes)]
    if report.problems:
        lines += ["", "## Left out", "", *(f"- {_escape(problem)}" for problem in report.problems)]
    return "\n".join(lines) + "\n"


def _table(view: TableView) -> list[str]:
    heads = [wording.column_head(view.paper, column) for column in view.paper.columns]
    rows = ([wording.method(row.row), *(_cell(cell) for cell in row.cells)] for row in view.rows)
    return _grid(["method", *heads], rows)


def _cell(cell: Cell) -> str:
    printed = "" if cell.paper is None else f"{cell.paper:.1f}"
    if cell.measured is None:
        return printed
    span = wording.interval(cell.measured)
    details = ", ".join(part for part in (span, wording.difference(cell)) if part)
    return f"{printed} / **{cell.measured.value:.1f}**" + (f" ({details})" if details else "")


def _board(board: Board, settings: Sequence[Setting]) -> list[str]:
    heads = ["model", "backbone", "training", "recipe"]
    heads += [f"PCK@{metric.alpha:.2f}" for metric in board.metrics]
    heads += ["direction", "seeds", "trained for", "peak memory", "run"]
    rows = (
        [
            setting.result.model,
            setting.result.backbone,
            run_sheet.training(setting.result),
            run_sheet.recipe(setting.result),
            *(_score(score) for score in setting.scores),
            run_sheet.arrow(setting.result),
            wording.seeds(setting),
            run_sheet.duration(setting.seconds),
            run_sheet.size(setting.peak_memory),
            ", ".join(entry.result.run for entry in setting.entries),
        ]
        for setting in settings
    )
    return _grid(heads, rows)


def _categories(board: Board) -> list[str]:
    rows = (
        [name, *(f"{s.categories[name]:.1f}" if name in s.categories else "" for s in board.settings)]
        for name in board.categories
    )
    return _grid(["category", *(f"{s.result.model}, {wording.which_runs(s)}" for s in board.settings)], rows)


def _score(score: Measured | None) -> str:
    return f"{score.value:.1f} ({wording.spread(score)})" if score else ""


def _grid(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    lines = [heads, ["---"] * len(heads), *rows]
    escaped = ([_escape(cell) if i != 1 else cell for cell in line] for i, line in enumerate(lines))
    return [f"| {' | '.join(line)} |" for line in escaped]


def _escape(cell: str) -> str:
    """Text that can neither end a table's cell nor start a tag, a link, an image or code."""
    plain = cell.replace("&", "&amp;").replace("<", "&lt;").replace("\n", " ")
    return re.sub(r"[\\|\[\]`*]", r"\\\g<0>", plain)
