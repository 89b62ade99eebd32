"""The paper's tables beside what was measured: what a run must be to fill a cell, and the command that makes it."""

from __future__ import annotations

import inspect
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from baselines.cascade import Cascade
from baselines.registry import find_recipe
from benchmark.report import paper_tables
from benchmark.report.ablation_table import FOLDER as ABLATIONS
from benchmark.report.ablation_table import AblationTable, ablation_table
from benchmark.report.generated import GeneratedSet, find_generated
from benchmark.report.leaderboard import Board, Measured, averaged, boards_of
from benchmark.report.paper_tables import FULL_PROCEDURE, GENERATOR, IBOT, Column, PaperTable, Row
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
from sc_imagenet.generation.cascade.options import NetworkOptions, TrainingOptions, paper_options
from sc_imagenet.generation.classes import FILTERED_IMAGENET
from sc_imagenet.generation.options import TRAINED_MODEL

# What a run must be to fill a cell of the paper's tables, and the command that makes such a run.

_OF_THE_GENERATOR = ("recipe.model.", "--backbone ")  # changes that its arguments and its backbone tell of
_FREE = ("pretrained", "seed", "saliency")  # options of a training that name files, or that runs may vary


def metric_of(column: Column, result: Result) -> Metric:
    """The protocol that the paper's figures of this column and model were taken under."""
    metrics = paper(column.dataset, result.model, result.size, result.protocol)
    return next(metric for metric in metrics if metric.alpha == column.alpha)


def reproduces(result: Result, row: Row, column: Column) -> bool:
    """Whether a run is what the paper did for this cell.

    Same model, pre-training, training, backbone and weights of the backbone; the ``paper`` recipe unchanged, as it is
    today, too; of the generator the paper's procedure and training options but for what the row switches; the whole
    test split, predicted in the authors' direction. Anything else stands among the runs only.
    """
    known = result.protocol or published(result.model)
    whole = info(column.dataset).pairs.get("test")
    return (
        row.model == result.model
        and result.pretrain == row.trained_on(column)[0]
        and _trained_alike(result, row, column)
        and result.preset == "paper"
        and result.backbone.split(".")[0] == row.backbone
        and (known is None or known.direction == result.direction)
        and any(
            data.name == column.dataset and data.split == "test" and whole in (None, data.pairs) for data in result.data
        )
    )


def _trained_alike(result: Result, row: Row, column: Column) -> bool:
    if row.model == GENERATOR:
        changes = [change for change in result.changes if not change.startswith(_OF_THE_GENERATOR)]
        same = result.backbone_weights == "ibot" and _built_alike(result, row)
    else:  # older results do not say; a run that changed its backbone's weights lists the change
        changes = list(result.changes)
        same = result.backbone_weights in ("timm", None)
    if changes or not same:
        return False
    if row.train_set == FILTERED_IMAGENET:  # trained by ``scbench generate train``; its weights say how
        options, wanted = result.trained_with.get("options"), paper_training(row).as_dict()
        return (
            result.trained_on == FILTERED_IMAGENET
            and result.finetune is None
            and isinstance(options, Mapping)
            and _same({**options, **dict.fromkeys(_FREE)}, {**wanted, **dict.fromkeys(_FREE)})
            and result.trained_with.get("max_steps") is None
        )
    return result.checkpoint is None and result.finetune == row.trained_on(column)[1] and _recipes(result)


def _built_alike(result: Result, row: Row) -> bool:
    """Whether a run's generator is the paper's but for what the row switches.

    An option of the network that is not stated has its default. ``layers`` and backbone follow from the training.
    """
    given = result.arguments.get("network") or {}
    if not isinstance(given, Mapping):
        return False
    defaults = {name: each.default for name, each in inspect.signature(Cascade).parameters.items()}
    read = {name: defaults[name] for name in ("stage", "upsample", "window")}
    options = paper_training(row)
    wanted = {**read, "size": options.size, "network": asdict(options.network)}
    network = {**asdict(NetworkOptions()), **given}
    return _same(
        {**read, **{name: result.arguments.get(name, read.get(name)) for name in (*read, "size")}, "network": network},
        wanted,
    )


def _recipes(result: Result) -> bool:
    """Whether the recipes and arguments that a run recorded are those that this version has for its data."""
    for dataset, recorded in ((result.pretrain, result.pretrain_recipe), (result.finetune, result.recipe)):
        if dataset is None or not recorded:  # an older result does not tell of its pre-training
            continue
        today = asdict(find_recipe(result.model, dataset, "paper"))
        if not _same({**today, **recorded, "model": None}, {**today, "model": None}):
            return False
    if result.model == GENERATOR or result.finetune is None:
        return True
    built = find_recipe(result.model, result.finetune, "paper").model
    return _same({**built, **{name: result.arguments.get(name, built[name]) for name in built}}, built)


def _same(recorded: Mapping[str, object], wanted: Mapping[str, object]) -> bool:
    """Whether values are the same once they are JSON, where tuples are lists."""
    return bool(json.loads(json.dumps(recorded)) == json.loads(json.dumps(wanted)))


def paper_training(row: Row) -> TrainingOptions:
    """The options that the paper's generator of this row was trained with; ours where the paper leaves them open."""
    options = paper_options()
    network: dict[str, Any] = {}
    for name, value in row.settings.items():
        if name.startswith("network."):
            network[name.removeprefix("network.")] = value
        else:
            options = replace(options, **{name: value})  # type: ignore[arg-type]
    return replace(options, network=replace(options.network, **network))


def command_for(row: Row, column: Column) -> Command:
    """The command whose run would fill a cell."""
    pretrain, finetune = row.trained_on(column)
    options: dict[str, object] = {"pretrain": pretrain}
    if row.train_set == FILTERED_IMAGENET:
        options = {"checkpoint": f"{_folder(row)}/{TRAINED_MODEL}"}
    else:
        options["finetune"] = finetune
    options["eval"] = ("pf-pascal", "pf-willow") if column.finetune == "pf-pascal" else (column.dataset,)
    if row.model == GENERATOR and row.train_set != FILTERED_IMAGENET:
        network = _departures(paper_training(row).network, NetworkOptions())
        model = {"size": paper_training(row).size, "pretrained": IBOT, "network": network}
        settings = {f"recipe.model.{name}": value for name, value in model.items()}
        options |= {"backbone": row.backbone, "set": settings}
    return Command("run", (row.model,), options)


def preparation_for(row: Row) -> Command | None:
    """The command that must come before ``command_for``'s: it trains a generator on photographs with class names."""
    if row.train_set != FILTERED_IMAGENET:
        return None
    training = paper_training(row)
    changed = _departures(training, TrainingOptions())
    network = {f"network.{name}": value for name, value in _departures(training.network, NetworkOptions()).items()}
    settings = {name: value for name, value in changed.items() if name not in ("network", "backbone", "size")}
    options = {"out": _folder(row), "backbone": training.backbone, "weights": IBOT, "size": training.size}
    return Command("generate train", (IMAGENET,), {**options, "set": {**settings, **network}})


def _departures(options: Any, defaults: Any) -> dict[str, Any]:
    """What options have that defaults have not, in their order."""
    ours, plain = vars(options), vars(defaults)
    return {name: value for name, value in ours.items() if value != plain[name]}


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
    command: Command  # what would fill it

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
        found = {str(cell.command): cell.command for cell in empty}
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
