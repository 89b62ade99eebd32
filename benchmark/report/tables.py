"""The paper's tables beside what was measured: what a run must be to fill a cell, and the command that makes it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmark.report import paper_tables
from benchmark.report.ablation_table import FOLDER as ABLATIONS
from benchmark.report.ablation_table import AblationTable, ablation_table
from benchmark.report.generated import GeneratedSet, find_generated
from benchmark.report.leaderboard import Board, Measured, averaged, boards_of
from benchmark.report.paper_tables import FULL_PROCEDURE, GENERATOR, Column, PaperTable, Row
from benchmark.report.run_sheet import Sheet, sheet_of
from benchmark.scoring.bundles import paper, published
from benchmark.scoring.curves import Curves, run_curves
from benchmark.scoring.pck import Metric
from benchmark.scoring.result import Result
from benchmark.scoring.runs import FoundRun, find_runs
from sc_imagenet.core.command import Command
from sc_imagenet.core.errors import InputError
from sc_imagenet.core.progress import Update
from sc_imagenet.data.catalog import info
from sc_imagenet.data.imagenet import IMAGENET
from sc_imagenet.generation.classes import FILTERED_IMAGENET
from sc_imagenet.generation.options import TRAINED_MODEL

# What a run must be to fill a cell of the paper's tables, and the command that makes such a run.

_OF_THE_GENERATOR = ("recipe.model.", "--backbone ")  # changes that its arguments and its backbone tell of


def metric_of(column: Column, result: Result) -> Metric:
    """The protocol that the paper's figures of this column and model were taken under."""
    metrics = paper(column.dataset, result.model, result.size, result.protocol)
    return next(metric for metric in metrics if metric.alpha == column.alpha)


def reproduces(result: Result, row: Row, column: Column) -> bool:
    """Whether a run is what the paper did for this cell.

    Same model, pre-training, training and backbone; the ``paper`` recipe unchanged; the whole test split,
    predicted in the authors' direction. Anything else stands among the runs only.
    """
    known = result.protocol or published(result.model)
    whole = info(column.dataset).pairs.get("test")
    return (
        row.model == result.model
        and result.pretrain == row.pretrain
        and _trained_alike(result, row, column)
        and result.preset == "paper"
        and result.backbone.split(".")[0] == row.backbone
        and (known is None or known.direction == result.direction)
        and any(
            data.name == column.dataset and data.split == "test" and whole in (None, data.pairs) for data in result.data
        )
    )


def _trained_alike(result: Result, row: Row, column: Column) -> bool:
    if row.model == GENERATOR and switches(result) != {**FULL_PROCEDURE, **row.settings}:
        return False
    departs = [
        change for change in result.changes if not (row.model == GENERATOR and change.startswith(_OF_THE_GENERATOR))
    ]
    if row.train_set == FILTERED_IMAGENET:  # trained by ``scbench generate train``; its weights say on what
        return result.trained_on == FILTERED_IMAGENET and result.finetune is None and not departs
    return result.checkpoint is None and result.finetune == (row.train_set or column.finetune) and not departs


def switches(result: Result) -> dict[str, object]:
    """What a run's generator has for each argument that Tables 4 and 5 switch.

    A run that sets what the full procedure has anyway is no other run. An option of the network that is not
    stated has its default, the full procedure's; the size has no such default.
    """
    found: dict[str, object] = {}
    for name, full in FULL_PROCEDURE.items():
        value: object = result.arguments
        for part in name.split("."):
            value = value.get(part) if isinstance(value, Mapping) else None
        found[name] = full if value is None and "." in name else value
    return found


def command_for(row: Row, column: Column) -> Command | None:
    """The command whose run would fill a cell; None when this repository has no such model."""
    if row.model is None:
        return None
    options: dict[str, object] = {"pretrain": row.pretrain}
    if row.train_set == FILTERED_IMAGENET:
        options = {"checkpoint": f"{_folder(row)}/{TRAINED_MODEL}"}
    else:
        options["finetune"] = row.train_set or column.finetune
    options["eval"] = ("pf-pascal", "pf-willow") if column.finetune == "pf-pascal" else (column.dataset,)
    if row.model == GENERATOR and row.train_set != FILTERED_IMAGENET:
        options |= {"backbone": row.backbone, "set": {"recipe.model.size": FULL_PROCEDURE["size"]}}
    return Command("run", (row.model,), options)


def preparation_for(row: Row) -> Command | None:
    """The command that must come before ``command_for``'s: it trains a generator on photographs with class names."""
    if row.train_set != FILTERED_IMAGENET:
        return None
    changed = {key: value for key, value in row.settings.items() if FULL_PROCEDURE[key] != value}
    size = changed.pop("size", FULL_PROCEDURE["size"])
    options = {"out": _folder(row), "backbone": row.backbone, "size": size, "set": changed}
    return Command("generate train", (IMAGENET,), options)


def _folder(row: Row) -> str:
    """Where a row's generator is trained; rows of the same settings share it."""
    changed = [f"{key.split('.')[-1]}-{value}" for key, value in row.settings.items() if FULL_PROCEDURE[key] != value]
    return "/".join(["generator", *(changed or ["full"])])


# What a report says, before it is written in any format.


@dataclass(frozen=True)
class Cell:
    """A figure of the paper beside the measured one."""

    paper: float | None
    measured: Measured | None
    command: Command | None  # what would fill it; None when no model here can

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
    def commands(self) -> tuple[Command, ...]:
        """The commands that would fill its empty cells, each once, in the order they must be given."""
        empty = (cell for cell in self.cells if cell.measured is None and cell.paper is not None)
        found = {str(cell.command): cell.command for cell in empty if cell.command}
        before = preparation_for(self.row) if found else None
        return (*([before] if before else []), *found.values())


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
                Cell(value, _measured(results, row, column), command_for(row, column))
                for column, value in zip(table.columns, row.values)
            ),
        )
        for row in table.rows
    )
    return TableView(table, rows)


def _measured(results: Sequence[Result], row: Row, column: Column) -> Measured | None:
    found: list[Measured] = []
    for result in results:
        if not reproduces(result, row, column):
            continue
        name = str(metric_of(column, result))
        if column.category is None:
            score = result.metrics.get(column.dataset, {}).get(name)
            if score:
                found.append(Measured(**score, runs=(result.run,), metric=name))
        else:
            value = result.per_category.get(column.dataset, {}).get(name, {}).get(column.category)
            if value is not None:
                found.append(Measured(value, None, None, (result.run,), name))
    return averaged(found)
