"""What a run must be to fill a cell of the paper's tables, and the command that makes such a run."""

from __future__ import annotations

import ast
import json
import pkgutil
from collections.abc import Mapping
from functools import lru_cache
from importlib.resources import files

import baselines
from benchmark.pck import Metric
from benchmark.protocols import paper, published
from benchmark.report.paper_tables import FULL_PROCEDURE, GENERATOR, Column, Row
from benchmark.result import Result
from sc_imagenet.catalog import info

_ARGUMENT = "recipe.model."


def metric_of(column: Column, result: Result) -> Metric:
    """The protocol that the paper's figures of this column and model were taken under."""
    return next(metric for metric in paper(column.dataset, result.model, result.size) if metric.alpha == column.alpha)


def reproduces(result: Result, row: Row, column: Column) -> bool:
    """Whether a run is what the paper did for this cell.

    Same model, pre-training, fine-tuning and backbone; the ``paper`` recipe unchanged but for what the row
    itself changes; the whole test split, predicted in the authors' direction. Anything else stands among the
    runs only.
    """
    known = published(result.model)
    whole = info(column.dataset).pairs.get("test")
    return (
        row.model == result.model
        and result.pretrain == row.pretrain
        and result.finetune == (row.train_set or column.finetune)
        and result.checkpoint is None
        and result.preset == "paper"
        and result.backbone.split(".")[0] == row.backbone
        and arguments_changed(result) == _whole(row.model, row.settings)
        and (known is None or known.direction == result.direction)
        and any(
            data.name == column.dataset and data.split == "test" and whole in (None, data.pairs) for data in result.data
        )
    )


def arguments_changed(result: Result) -> Mapping[str, object] | None:
    """The arguments of a run's model that its command set, completed by those of the full procedure.

    ``recipe.model.hough_length=5`` sets what the full procedure has anyway: such a run is no other run.
    None if the run departs from its recipe in anything else.
    """
    found: dict[str, object] = {}
    for change in result.changes:
        key, equals, text = change.partition("=")
        if not (equals and key.startswith(_ARGUMENT)):
            return None
        try:
            found[key.removeprefix(_ARGUMENT)] = json.loads(text)
        except ValueError:
            found[key.removeprefix(_ARGUMENT)] = text
    return _whole(result.model, found)


def command_for(row: Row, column: Column) -> str | None:
    """The command whose run would fill a cell; None when this repository has no such model."""
    if row.model is None or row.model not in registered():
        return None
    pretrain = f" --pretrain {row.pretrain}" if row.pretrain else ""
    evaluate = "pf-pascal,pf-willow" if column.finetune == "pf-pascal" else column.dataset
    changed = {key: value for key, value in row.settings.items() if FULL_PROCEDURE[key] != value}
    settings = "".join(f" --set {_ARGUMENT}{key}={_typed(value)}" for key, value in changed.items())
    return (
        f"scbench run {row.model}{pretrain} --finetune {row.train_set or column.finetune} --eval {evaluate}{settings}"
    )


@lru_cache(maxsize=1)
def registered() -> frozenset[str]:
    """The names that the files of ``baselines`` register, read without importing them: a report needs no torch."""
    names = set()
    for found in pkgutil.iter_modules(baselines.__path__):
        if found.ispkg:
            continue
        tree = ast.parse((files("baselines") / f"{found.name}.py").read_bytes())
        for node in ast.walk(tree):
            for decorator in getattr(node, "decorator_list", ()):
                match decorator:
                    case ast.Call(func=ast.Name(id="register"), args=[ast.Constant(value=str(name))]):
                        names.add(name)
    return frozenset(names)


def _whole(model: str | None, settings: Mapping[str, object]) -> dict[str, object]:
    return {**FULL_PROCEDURE, **settings} if model == GENERATOR else dict(settings)


def _typed(value: object) -> str:
    return value if isinstance(value, str) else json.dumps(value)
