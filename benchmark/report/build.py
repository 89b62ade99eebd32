"""What a report says, before it is written in any format."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean

from benchmark import protocols
from benchmark.ablation_table import FOLDER as ABLATIONS
from benchmark.ablation_table import AblationTable, ablation_table
from benchmark.curves import Curves, run_curves
from benchmark.pck import Metric
from benchmark.progress import Update
from benchmark.report import paper_tables, reproduction
from benchmark.report.generated import GeneratedSet, find_generated
from benchmark.report.paper_tables import Column, PaperTable, Row
from benchmark.report.sheet import Sheet, sheet_of
from benchmark.result import Result, data_key
from benchmark.results import FoundRun, find_runs
from sc_imagenet.catalog import info
from sc_imagenet.errors import InputError


@dataclass(frozen=True)
class Measured:
    """What runs measured for a cell: their mean, and the span of their intervals."""

    value: float
    low: float | None  # None for one category, which has no interval
    high: float | None
    runs: tuple[str, ...]
    metric: str = ""  # the protocol it was taken under


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
class Entry:
    """A run on one data set, under the strict protocol."""

    result: Result
    scores: tuple[Measured | None, ...]  # by alpha
    categories: dict[str, float]  # at alpha 0.1
    curve: tuple[float, ...]  # PCK at each of curves.ALPHAS; () where there is none


@dataclass(frozen=True)
class Board:
    """All runs evaluated on the same pairs in the same direction, best first."""

    key: str  # data set, with its split unless that is test
    title: str
    split: str
    pairs: int
    manifest_sha256: str
    direction: str
    metrics: tuple[Metric, ...]
    entries: tuple[Entry, ...]

    @property
    def categories(self) -> tuple[str, ...]:
        """Every category that an entry has a value for."""
        return tuple(sorted({name for entry in self.entries for name in entry.categories}))


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
        _boards(results, curves),
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
    if not found:
        return None
    return Measured(
        fmean(one.value for one in found),
        min((one.low for one in found if one.low is not None), default=None),
        max((one.high for one in found if one.high is not None), default=None),
        tuple(one.runs[0] for one in found),
        found[0].metric,
    )


def _boards(results: Sequence[Result], curves: Mapping[str, Curves]) -> tuple[Board, ...]:
    """One board for every set of pairs and direction.

    The same split with other pairs (``--limit``) is another board; so are predictions that lie in the other
    image, under another threshold: nothing is ranked across protocols.
    """
    groups: dict[tuple[str, str, int, str, str], list[Result]] = {}
    for result in results:
        for part in result.data:
            same = (part.name, part.split, part.pairs, part.manifest_sha256, result.direction)
            groups.setdefault(same, []).append(result)
    boards = []
    for (name, split, pairs, manifest, direction), members in sorted(groups.items(), key=lambda item: item[0]):
        data = data_key(name, split)
        metrics = tuple(protocols.strict(name))
        entries = [_entry(result, data, metrics, curves[result.run].get(data, {})) for result in members]
        entries.sort(key=lambda entry: (-_rank(entry), entry.result.run))
        boards.append(Board(data, info(name).title, split, pairs, manifest, direction, metrics, tuple(entries)))
    return tuple(boards)


def _entry(result: Result, key: str, metrics: Sequence[Metric], curves: Mapping[str, list[float]]) -> Entry:
    scores = [(str(metric), result.metrics.get(key, {}).get(str(metric))) for metric in metrics]
    return Entry(
        result,
        tuple(Measured(**score, runs=(result.run,), metric=name) if score else None for name, score in scores),
        result.per_category.get(key, {}).get(str(metrics[1]), {}),
        tuple(curves.get(metrics[1].protocol, ())),
    )


def _rank(entry: Entry) -> float:
    middle = entry.scores[1]
    return middle.value if middle else -1.0
