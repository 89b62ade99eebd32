"""The report in the terminal."""

from __future__ import annotations

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from benchmark.report import run_sheet, wording
from benchmark.report.ablation_table import print_ablations
from benchmark.report.generated import GeneratedSet
from benchmark.report.leaderboard import Board, Measured
from benchmark.report.tables import Cell, Report, TableView
from sc_imagenet.data.catalog import info

_WIDE = 10  # columns: beyond, a cell holds the measured value alone, below the paper's


def print_report(report: Report) -> None:
    """Print the tables that have measured cells, the boards of all runs, and what is wrong with some."""
    console = Console(highlight=False)
    if not console.is_terminal:
        console = Console(highlight=False, width=160)
    for table in report.tables:
        if table.filled:
            _print_table(console, table)
    if report.ablations.measured:
        print_ablations(report.ablations, as_json=False)
    for made in report.generated:
        _print_generated(console, made)
    for board in report.boards:
        _print_board(console, board)
    for result in report.unscored:
        console.print(f"not evaluated: {escape(run_sheet.one_line(result))}")
    console.print(f"\n{wording.summary(report)}")
    for sheet in report.sheets:
        for problem in sheet.problems:
            console.print(f"[yellow]{escape(sheet.result.run)}:[/] {escape(problem)}")
    for problem in report.problems:
        console.print(f"[yellow]left out:[/] {escape(problem)}")


def _print_generated(console: Console, made: GeneratedSet) -> None:
    table = Table(title=f"Generated data set {escape(made.name)}", show_header=False)
    for name, value in (*made.counts.items(), *((f"true error: {n}", v) for n, v in made.errors.items())):
        table.add_row(escape(name), value)
    console.print(table)


def _print_table(console: Console, view: TableView) -> None:
    columns = view.paper.columns
    table = Table(
        title=f"Table {view.paper.number}: {view.paper.title}",
        caption="paper, then measured (difference)",
    )
    table.add_column("method")
    short = len(columns) > _WIDE
    for column in columns:
        head = wording.column_title(column)
        data = "all" if column.category is None else ""
        table.add_column((head[:5] if column.category else data) if short else f"{info(column.dataset).title}\n{head}")
    for row in view.rows:
        if any(cell.measured for cell in row.cells):
            name = wording.method(row.row)
            table.add_row(escape(name), *(_cell(cell, short) for cell in row.cells))
    console.print(table)


def _cell(cell: Cell, short: bool) -> str:
    printed = "" if cell.paper is None else f"{cell.paper:.1f}"
    if cell.measured is None:
        return f"[dim]{printed}[/]"
    gap = "\n" if short else " "
    delta = "" if short or cell.difference is None else f" ({wording.difference(cell)})"
    return f"[dim]{printed}[/]{gap}[bold]{cell.measured.value:.1f}[/]{delta}"


def _print_board(console: Console, board: Board) -> None:
    table = Table(
        "model",
        "backbone",
        "training",
        "recipe",
        title=escape(wording.board_title(board)),
        caption=wording.protocol(board),
    )
    for metric in board.metrics:
        table.add_column(f"PCK@{metric.alpha:.2f}", justify="right")
    for name in ("direction", "seeds", "trained for", "run"):
        table.add_column(name)
    for setting in board.settings:
        result = setting.result
        table.add_row(
            *(escape(t) for t in (result.model, result.backbone, run_sheet.training(result), run_sheet.recipe(result))),
            *(_score(score) for score in setting.scores),
            run_sheet.arrow(result),
            wording.seeds(setting),
            run_sheet.duration(setting.seconds),
            escape("\n".join(entry.result.run for entry in setting.entries)),
        )
    console.print(table)


def _score(score: Measured | None) -> str:
    return f"{score.value:.1f} [dim]{wording.spread(score)}[/]" if score else ""
