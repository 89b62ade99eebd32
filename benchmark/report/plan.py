"""``scbench run --table N``: every run that a table of the paper needs, what it would take, and what is done."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from baselines import registry
from baselines.recipe import ANY, SYNTHETIC
from baselines.registry import find_recipe
from benchmark.report.paper_tables import tables
from benchmark.report.reproduction import MeasuredRow, with_measured
from benchmark.running.arguments import RunOptions
from benchmark.scoring.runs import find_runs
from sc_imagenet.core.command import Command
from sc_imagenet.core.errors import InputError
from sc_imagenet.data.catalog import info
from sc_imagenet.data.roots import place_of


@dataclass(frozen=True)
class PlannedStage:
    """One training of a planned run."""

    dataset: str
    pairs: int
    epochs: int
    batch: int
    steps: int
    hours: float | None  # of computing on ``registry.STEP_DEVICE``; None where nobody measured


@dataclass(frozen=True)
class PlannedRun:
    """One command of a plan."""

    command: Command
    method: str  # as the table prints it
    model: str
    stages: tuple[PlannedStage, ...]
    missing: tuple[str, ...]  # data sets that are not on this machine
    done: bool

    @property
    def hours(self) -> float | None:
        """Of all stages; None if one is unknown."""
        hours = [stage.hours for stage in self.stages]
        return None if None in hours else sum(hour for hour in hours if hour is not None)


def plan(table: int, runs: Path, data_root: Path | None) -> list[PlannedRun]:
    """The runs of a table in its order, each once; a run is done where the report has its cells.

    Raises:
        InputError: the paper has no such table.
    """
    papers = {each.number: each for each in tables()}
    if table not in papers:
        raise InputError(f"the paper has no table {table} of runs", fix=f"Valid: {', '.join(map(str, papers))}")
    found, _ = find_runs(runs)
    rows = with_measured(papers[table], [run.result for run in found]).rows
    planned: dict[str, PlannedRun] = {}  # by command
    for row in rows:
        for cell in row.cells:
            typed = str(cell.command)
            if typed in planned:
                done = planned[typed].done and cell.measured is not None
                planned[typed] = replace(planned[typed], done=done)
            else:
                planned[typed] = _planned(cell.command, row, cell.measured is not None, data_root)
    return list(planned.values())


def _planned(command: Command, row: MeasuredRow, done: bool, data_root: Path | None) -> PlannedRun:
    options = RunOptions(**options_of(command))
    trained = [name for name in (options.pretrain, options.finetune) if name]
    needed = dict.fromkeys(map(_data_set, (*trained, *options.evaluate)))
    root = str(data_root) if data_root else None
    missing = [name for name in needed if place_of(info(name), root) is None]
    if options.checkpoint and not Path(options.checkpoint).exists():
        missing.append(f"{options.checkpoint}, which 'scbench generate train' writes")
    if (weights := options.settings.get("recipe.model.pretrained")) and not Path(json.loads(weights)).exists():
        missing.append(f"{json.loads(weights)}, the weights of the backbone")
    if "sc-imagenet" in trained and not os.environ.get("IMAGENET_ROOT"):
        missing.append("ImageNet")
    stages = tuple(_stage(options.model, name) for name in trained)
    return PlannedRun(command, row.row.method, options.model, stages, tuple(missing), done)


def _stage(model: str, dataset: str) -> PlannedStage:
    card = registry.card(model)
    recipe = find_recipe(card.name, dataset, "paper")
    entry = info(_data_set(dataset))
    pairs = entry.pairs.get("train", entry.all_pairs or 0)
    if dataset != entry.name:  # each of its images with itself
        pairs = entry.images or 0
    steps = recipe.epochs * math.ceil(pairs / recipe.batch)
    seconds = card.step_seconds.get(dataset, card.step_seconds.get(ANY))
    return PlannedStage(
        dataset, pairs, recipe.epochs, recipe.batch, steps, None if seconds is None else steps * seconds / 3600
    )


def _data_set(named: str) -> str:
    """The data set whose pairs, or whose images alone, a training reads."""
    return named.removeprefix(f"{SYNTHETIC}:")


def options_of(command: Command) -> dict[str, Any]:
    """What a planned ``scbench run`` asks for, as fields of ``RunOptions``.

    >>> options_of(Command("run", ("vat",), {"pretrain": "sc-imagenet", "eval": ("spair-71k",)}))["evaluate"]
    ('spair-71k',)
    """
    called = {"eval": "evaluate", "set": "settings"}
    settings = {key: json.dumps(value) for key, value in command.options.get("set", {}).items()}
    given = {called.get(option, option): value for option, value in command.options.items()}
    return {**given, "model": command.arguments[0], "settings": settings}


def open_runs(planned: Sequence[PlannedRun]) -> tuple[list[PlannedRun], list[PlannedRun]]:
    """The runs that are to be done and can be made here, and those whose data is not here."""
    missing = [run for run in planned if not run.done]
    possible = [run for run in missing if not run.missing]
    return possible, [run for run in missing if run.missing]
