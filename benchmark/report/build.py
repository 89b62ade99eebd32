"""What a report says, before it is written in any format."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmark.report import paper_tables, reproduction
from benchmark.report.ablation_table import FOLDER as ABLATIONS
from benchmark.report.ablation_table import AblationTable, ablation_table
from benchmark.report.boards import Board, boards_of
from benchmark.report.generated import GeneratedSet, find_generated
from benchmark.report.measured import Measured, averaged
from benchmark.report.paper_tables import Column, PaperTable, Row
from benchmark.report.sheet import Sheet, sheet_of
from benchmark.scoring.curves import Curves, run_curves
from benchmark.scoring.result import Result
from benchmark.scoring.results import FoundRun, find_runs
from sc_imagenet.core.errors import InputError
from sc_imagenet.core.progress import Update


@dataclass(frozen=True)
class Cell:
    """A figure of the paper beside the measured one."""

    paper: float | None
    measured: Measured | None
    command: str | None  # what would fill it; None when no model here can

    @property
    def difference(self) -> float | None:
        """Measured minus paper, in points."""
        return None if self.paper is None or self.measured is None else self.measured.value - self.paper


@dataclass(frozen=True)
class TableRow:
    """A method's cells."""

    row: Row
    cells: tuple[Cell, ...]

    @property
    def commands(self) -> tuple[str, ...]:
        """The commands that would fill its empty cells, each once, in the order they must be given."""
        empty = (cell for cell in self.cells if cell.measured is None and cell.paper is not None)
        found = dict.fromkeys(cell.command for cell in empty if cell.command)
        before = reproduction.preparation_for(self.row) if found else None
        return (*([before] if before else []), *found)


@dataclass(frozen=True)
class TableView:
    """A table of the paper with what was measured."""

    paper: PaperTable
    rows: tuple[TableRow, ...]

    @property
    def filled(self) -> int:
        """Cells with a run behind them."""
        return sum(cell.measured is not None for row in self.rows for cell in row.cells)

    @property
    def printed(self) -> int:
        """Cells that the paper has a figure for."""
        return sum(cell.paper is not None for row in self.rows for cell in row.cells)


@dataclass(frozen=True)
class Report:
    """Everything that a report shows."""

    tables: tuple[TableView, ...]
    boards: tuple[Board, ...]
    sheets: tuple[Sheet, ...]  # of all runs, by model and id
    unscored: tuple[Result, ...]  # trained, but evaluated on nothing
    problems: tuple[str, ...]
    ablations: AblationTable
    generated: tuple[GeneratedSet, ...]
    notes: tuple[str, ...] = paper_tables.NOTES

    @property
    def runs(self) -> int:
        """How many runs it is about."""
        return len(self.sheets)


def build_from(runs: Path, update: Update | None = None) -> Report:
    """The report of all that lies in a folder of runs: runs, ablations and generated data sets."""
    found, problems = find_runs(runs)
    generated, unread = find_generated(runs)
    problems += unread
    ablations = None
    try:
        ablations = ablation_table(runs / ABLATIONS)
    except InputError as error:
        problems.append(str(error))
    return build(found, problems, update, ablations, generated)


def build(
    found: Sequence[FoundRun],
    problems: Sequence[str] = (),
    update: Update | None = None,
    ablations: AblationTable | None = None,
    generated: Sequence[GeneratedSet] = (),
) -> Report:
    """Put the runs beside the paper's tables and against each other.

    Args:
        found: finished runs, each id once.
        problems: a line for each run that is not among them.
        update: shows progress: a run scored by an older version has no curves yet, and its predictions are read.
        ablations: of the generator; None: none were measured.
        generated: data sets made here.
    """
    results = [run.result for run in found]
    curves: dict[str, Curves] = {}
    sheets = []
    for number, run in enumerate(sorted(found, key=lambda run: (run.result.model, run.result.run))):
        if update is not None:
            update("runs", number, len(found))
        curves[run.result.run], gaps = run_curves(run.folder, run.result)
        sheets.append(sheet_of(run, gaps, found))
    return Report(
        tuple(_table(table, results) for table in paper_tables.tables()),
        boards_of(found, curves),
        tuple(sheets),
        tuple(result for result in results if not result.data),
        tuple(problems),
        ablations or ablation_table(Path("runs") / ABLATIONS, read=False),
        tuple(generated),
    )


def _table(table: PaperTable, results: Sequence[Result]) -> TableView:
    rows = tuple(
        TableRow(
            row,
            tuple(
                Cell(value, _measured(results, row, column), reproduction.command_for(row, column))
                for column, value in zip(table.columns, row.values)
            ),
        )
        for row in table.rows
    )
    return TableView(table, rows)


def _measured(results: Sequence[Result], row: Row, column: Column) -> Measured | None:
    found: list[Measured] = []
    for result in results:
        if not reproduction.reproduces(result, row, column):
            continue
        name = str(reproduction.metric_of(column, result))
        if column.category is None:
            score = result.metrics.get(column.dataset, {}).get(name)
            if score:
                found.append(Measured(**score, runs=(result.run,), metric=name))
        else:
            value = result.per_category.get(column.dataset, {}).get(name, {}).get(column.category)
            if value is not None:
                found.append(Measured(value, None, None, (result.run,), name))
    return averaged(found)
