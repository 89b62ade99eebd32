"""What a report says, before it is written in any format."""

from __future__ import annotations

import pkgutil
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean

import baselines
from benchmark import protocols
from benchmark.pck import Metric
from benchmark.report import paper_tables
from benchmark.report.paper_tables import Column, PaperTable, Row
from benchmark.result import Result
from sc_imagenet.catalog import info


@dataclass(frozen=True)
class Measured:
    """What runs measured for a cell: their mean, and the span of their intervals."""

    value: float
    low: float | None  # None for one category, which has no interval
    high: float | None
    runs: tuple[str, ...]


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
        """The commands that would fill its empty cells, each once."""
        empty = (cell for cell in self.cells if cell.measured is None and cell.paper is not None)
        return tuple(dict.fromkeys(cell.command for cell in empty if cell.command))


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


@dataclass(frozen=True)
class Board:
    """All runs evaluated on the same pairs, best first."""

    key: str  # data set, with its split unless that is test
    title: str
    split: str
    pairs: int
    manifest_sha256: str
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
    unscored: tuple[Result, ...]  # trained, but evaluated on nothing
    runs: int
    problems: tuple[str, ...]
    notes: tuple[str, ...] = paper_tables.NOTES


def build(results: Sequence[Result], problems: Sequence[str] = ()) -> Report:
    """Put the runs beside the paper's tables and against each other."""
    models = {found.name.replace("_", "-") for found in pkgutil.iter_modules(baselines.__path__)}
    tables = tuple(_table(t, results, models) for t in (paper_tables.table_2(), paper_tables.table_3()))
    unscored = tuple(result for result in results if not result.data)
    return Report(tables, _boards(results), unscored, len(results), tuple(problems))


def _table(table: PaperTable, results: Sequence[Result], models: set[str]) -> TableView:
    rows = tuple(
        TableRow(
            row,
            tuple(
                Cell(value, _measured(results, row, column), paper_tables.command_for(row, column, models))
                for column, value in zip(table.columns, row.values)
            ),
        )
        for row in table.rows
    )
    return TableView(table, rows)


def _measured(results: Sequence[Result], row: Row, column: Column) -> Measured | None:
    found: list[Measured] = []
    for result in results:
        if not paper_tables.reproduces(result, row, column):
            continue
        name = str(paper_tables.metric_of(column, result))
        if column.category is None:
            score = result.metrics.get(column.dataset, {}).get(name)
            if score:
                found.append(Measured(**score, runs=(result.run,)))
        else:
            value = result.per_category.get(column.dataset, {}).get(name, {}).get(column.category)
            if value is not None:
                found.append(Measured(value, None, None, (result.run,)))
    if not found:
        return None
    return Measured(
        fmean(one.value for one in found),
        min((one.low for one in found if one.low is not None), default=None),
        max((one.high for one in found if one.high is not None), default=None),
        tuple(one.runs[0] for one in found),
    )


def _boards(results: Sequence[Result]) -> tuple[Board, ...]:
    """One board for every set of pairs; the same split with other pairs (``--limit``) is another board."""
    groups: dict[tuple[str, str, int, str], list[Result]] = {}
    for result in results:
        for data in result.data:
            groups.setdefault((data.name, data.split, data.pairs, data.manifest_sha256), []).append(result)
    boards = []
    for (name, split, pairs, manifest), members in sorted(groups.items(), key=lambda item: item[0]):
        key = next(d.key for d in members[0].data if (d.name, d.split) == (name, split))
        metrics = tuple(protocols.strict(name))
        entries = [_entry(result, key, metrics) for result in members]
        entries.sort(key=lambda entry: -_rank(entry))
        boards.append(Board(key, info(name).title, split, pairs, manifest, metrics, tuple(entries)))
    return tuple(boards)


def _entry(result: Result, key: str, metrics: Sequence[Metric]) -> Entry:
    scores = [result.metrics.get(key, {}).get(str(metric)) for metric in metrics]
    categories = result.per_category.get(key, {}).get(str(metrics[1]), {})
    return Entry(
        result,
        tuple(Measured(**score, runs=(result.run,)) if score else None for score in scores),
        categories,
    )


def _rank(entry: Entry) -> float:
    middle = entry.scores[1]
    return middle.value if middle else -1.0
