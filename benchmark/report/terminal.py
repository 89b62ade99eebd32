"""The report in the terminal, as what rich prints."""

from __future__ import annotations

from collections.abc import Iterator

from rich.console import Console, RenderableType
from rich.markup import escape
from rich.table import Table

from benchmark.report import run_details, tables
from benchmark.report.ablation_table import HEADINGS, LEGEND, AblationTable, words
from benchmark.report.contents import GeneratedSet
from benchmark.report.leaderboard import Board, Measured
from benchmark.report.reproduction import Cell, Report, TableView
from sc_imagenet.data.catalog import info

_WIDE = 10  # columns: beyond, a cell holds the measured value alone, below the paper's


def console() -> Console:
    """Standard output; a file or pipe has no width of its own, a fixed one keeps the tables whole there."""
    found = Console(highlight=False)
    return found if found.is_terminal else Console(highlight=False, width=160)


def lines_of(report: Report) -> Iterator[RenderableType]:
    """The tables that have measured cells, those of all runs, and what is wrong with some."""
    yield from (_table(table) for table in report.tables if table.filled)
    if report.ablations.measured:
        yield ablation_grid(report.ablations)
        yield escape(ablation_words(report.ablations))
    yield from map(_generated, report.generated)
    yield from map(_board, report.boards)
    for result in report.unscored:
        yield f"not evaluated: {escape(run_details.one_line(result))}"
    yield f"\n{tables.summary(report)}"
    for sheet in report.sheets:
        for problem in sheet.problems:
            yield f"[yellow]{escape(sheet.result.run)}:[/] {escape(problem)}"
    for problem in report.problems:
        yield f"[yellow]left out:[/] {escape(problem)}"


def _generated(made: GeneratedSet) -> Table:
    table = Table(title=f"Generated data set {escape(made.name)}", show_header=False)
    for name, value in (*made.counts.items(), *((f"true error: {n}", v) for n, v in made.errors.items())):
        table.add_row(escape(name), value)
    return table


def _table(view: TableView) -> Table:
    columns = view.paper.columns
    table = Table(
        title=f"Table {view.paper.number}: {view.paper.title}",
        caption="paper, then measured (difference)",
    )
    table.add_column("method")
    short = len(columns) > _WIDE
    for column in columns:
        head = tables.column_title(column)
        data = "all" if column.category is None else ""
        table.add_column((head[:5] if column.category else data) if short else f"{info(column.dataset).title}\n{head}")
    for row in view.rows:
        if any(cell.measured for cell in row.cells):
            name = tables.method(row.row)
            table.add_row(escape(name), *(_cell(cell, short) for cell in row.cells))
    return table


def _cell(cell: Cell, short: bool) -> str:
    printed = "" if cell.paper is None else f"{cell.paper:.1f}"
    if cell.measured is None:
        return f"[dim]{printed}[/]"
    gap = "\n" if short else " "
    delta = "" if short or cell.difference is None else f" ({tables.difference(cell)})"
    return f"[dim]{printed}[/]{gap}[bold]{cell.measured.value:.1f}[/]{delta}"


def _board(board: Board) -> Table:
    table = Table(
        "model",
        "backbone",
        "training",
        "recipe",
        title=escape(tables.board_title(board)),
        caption=tables.protocol(board),
    )
    for metric in board.metrics:
        table.add_column(f"PCK@{metric.alpha:.2f}", justify="right")
    for name in ("direction", "seeds", "trained for", "run"):
        table.add_column(name)
    for setting in board.settings:
        result = setting.result
        table.add_row(
            *(
                escape(t)
                for t in (result.model, result.backbone, run_details.training(result), run_details.recipe(result))
            ),
            *(_score(score) for score in setting.scores),
            run_details.arrow(result),
            tables.seeds(setting),
            run_details.duration(setting.seconds),
            escape("\n".join(entry.result.run for entry in setting.entries)),
        )
    return table


def _score(score: Measured | None) -> str:
    return f"{score.value:.1f} [dim]{tables.spread(score)}[/]" if score else ""


def ablation_grid(table: AblationTable) -> Table:
    """The ablations beside the paper's."""
    shown = Table(title=f"PCK, {table.metric}: {table.about}", title_justify="left", box=None, pad_edge=False)
    for number, heading in enumerate(HEADINGS):
        shown.add_column(heading, justify="left" if number in (0, 4) else "right", no_wrap=number == 0)
    for row in table.rows:
        shown.add_row(*words(row))
    return shown


def ablation_words(table: AblationTable) -> str:
    """How many of the paper's directions are found, and how the table is read."""
    return f"{table.verdict} {LEGEND}".strip()
