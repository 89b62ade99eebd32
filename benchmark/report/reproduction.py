"""The paper's tables beside what was measured: what a run must be to fill a cell, and the command that makes it."""

from __future__ import annotations

import inspect
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from benchmark.report.leaderboard import MeanScore, averaged
from benchmark.report.paper_tables import FULL_PROCEDURE, GENERATOR, IBOT, PaperColumn, PaperRow, PaperTable
from benchmark.scoring.pck import Metric, paper_metrics
from benchmark.scoring.protocol import published_protocol
from benchmark.scoring.result import Result
from sc_imagenet.core.command import Command
from sc_imagenet.data.catalog import info
from sc_imagenet.data.imagenet import IMAGENET
from sc_imagenet.generation.cascade.options import NetworkOptions, TrainingOptions, paper_options
from sc_imagenet.generation.classes import FILTERED_IMAGENET
from sc_imagenet.generation.options import TRAINED_MODEL

# What a run must be to fill a cell of the paper's tables, and the command that makes such a run.

_OF_THE_GENERATOR = ("recipe.model.", "--backbone ")  # changes that its arguments and its backbone tell of
_FREE = ("pretrained", "seed", "saliency")  # options of a training that name files, or that runs may vary


def metric_of(column: PaperColumn, result: Result) -> Metric:
    """The protocol that the paper's figures of this column and model were taken under."""
    metrics = paper_metrics(column.dataset, result.model, result.size, result.protocol)
    return next(metric for metric in metrics if metric.alpha == column.alpha)


def reproduces(result: Result, row: PaperRow, column: PaperColumn) -> bool:
    """Whether a run is what the paper did for this cell.

    Same model, pre-training, training, backbone and weights of the backbone; the ``paper`` recipe unchanged, as it is
    today, too; of the generator the paper's procedure and training options but for what the row switches; the whole
    test split, predicted in the authors' direction. Anything else stands among the runs only.
    """
    known = result.protocol or published_protocol(result.model)
    whole = info(column.dataset).pairs.get("test")
    return (
        row.model == result.model
        and result.pretrain == row.trained_on(column)[0]
        and result.preset == "paper"
        and result.backbone.split(".")[0] == row.backbone
        and (known is None or known.direction == result.direction)
        and any(
            data.name == column.dataset and data.split == "test" and whole in (None, data.pairs) for data in result.data
        )
        and _trained_alike(result, row, column)  # last: it imports the model, and with it torch
    )


def _trained_alike(result: Result, row: PaperRow, column: PaperColumn) -> bool:
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


def _built_alike(result: Result, row: PaperRow) -> bool:
    """Whether a run's generator is the paper's but for what the row switches.

    An option of the network that is not stated has its default. ``layers`` and backbone follow from the training.
    """
    from baselines.cascade import Cascade  # and with it torch

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
    from baselines.registry import find_recipe

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


def paper_training(row: PaperRow) -> TrainingOptions:
    """The options that the paper's generator of this row was trained with; ours where the paper leaves them open."""
    options = paper_options()
    network: dict[str, Any] = {}
    for name, value in row.settings.items():
        if name.startswith("network."):
            network[name.removeprefix("network.")] = value
        else:
            options = replace(options, **{name: value})  # type: ignore[arg-type]
    return replace(options, network=replace(options.network, **network))


def command_for(row: PaperRow, column: PaperColumn) -> Command:
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


def preparation_for(row: PaperRow) -> Command | None:
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


def _folder(row: PaperRow) -> str:
    """Where a row's generator is trained; rows of the same settings share it."""
    changed = [f"{key.split('.')[-1]}-{value}" for key, value in row.settings.items() if FULL_PROCEDURE[key] != value]
    return "/".join(["generator", *(changed or ["full"])])


# A table of the paper with what was measured in its cells.


@dataclass(frozen=True)
class PaperCell:
    """A figure of the paper beside the measured one."""

    paper: float | None
    measured: MeanScore | None
    command: Command  # what would fill it

    @property
    def difference(self) -> float | None:
        """Measured minus paper, in points."""
        return None if self.paper is None or self.measured is None else self.measured.value - self.paper


@dataclass(frozen=True)
class MeasuredRow:
    """A method's cells."""

    row: PaperRow
    cells: tuple[PaperCell, ...]

    @property
    def commands(self) -> tuple[Command, ...]:
        """The commands that would fill its empty cells, each once, in the order they must be given."""
        empty = (cell for cell in self.cells if cell.measured is None and cell.paper is not None)
        found = {str(cell.command): cell.command for cell in empty}
        before = preparation_for(self.row) if found else None
        return (*([before] if before else []), *found.values())


@dataclass(frozen=True)
class MeasuredTable:
    """A table of the paper with what was measured."""

    paper: PaperTable
    rows: tuple[MeasuredRow, ...]

    @property
    def filled(self) -> int:
        """Cells with a run behind them."""
        return sum(cell.measured is not None for row in self.rows for cell in row.cells)

    @property
    def printed(self) -> int:
        """Cells that the paper has a figure for."""
        return sum(cell.paper is not None for row in self.rows for cell in row.cells)


def with_measured(table: PaperTable, results: Sequence[Result]) -> MeasuredTable:
    """A table with each cell's runs; those of one cell are averaged."""
    rows = tuple(
        MeasuredRow(
            row,
            tuple(
                PaperCell(value, _measured(results, row, column), command_for(row, column))
                for column, value in zip(table.columns, row.values)
            ),
        )
        for row in table.rows
    )
    return MeasuredTable(table, rows)


def _measured(results: Sequence[Result], row: PaperRow, column: PaperColumn) -> MeanScore | None:
    found: list[MeanScore] = []
    for result in results:
        if not reproduces(result, row, column):
            continue
        name = str(metric_of(column, result))
        if column.category is None:
            score = result.metrics.get(column.dataset, {}).get(name)
            if score:
                found.append(MeanScore(**score, runs=(result.run,), metric=name))
        else:
            value = result.per_category.get(column.dataset, {}).get(name, {}).get(column.category)
            if value is not None:
                found.append(MeanScore(value, None, None, (result.run,), name))
    return averaged(found)
