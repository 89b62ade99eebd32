"""What a run must be to fill a cell of the paper's tables, and the command that makes such a run."""

from __future__ import annotations

import ast
import json
import pkgutil
from collections.abc import Mapping
from functools import lru_cache
from importlib.resources import files

import baselines
from benchmark.report.paper_tables import FULL_PROCEDURE, GENERATOR, Column, Row
from benchmark.scoring.bundles import paper, published
from benchmark.scoring.pck import Metric
from benchmark.scoring.result import Result
from sc_imagenet.data.catalog import info
from sc_imagenet.generation.classes import FILTERED_IMAGENET

_OF_THE_GENERATOR = ("recipe.model.", "--backbone ")  # changes that its arguments and its backbone tell of


def metric_of(column: Column, result: Result) -> Metric:
    """The protocol that the paper's figures of this column and model were taken under."""
    return next(metric for metric in paper(column.dataset, result.model, result.size) if metric.alpha == column.alpha)


def reproduces(result: Result, row: Row, column: Column) -> bool:
    """Whether a run is what the paper did for this cell.

    Same model, pre-training, training and backbone; the ``paper`` recipe unchanged; the whole test split,
    predicted in the authors' direction. Anything else stands among the runs only.
    """
    known = published(result.model)
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


def command_for(row: Row, column: Column) -> str | None:
    """The command whose run would fill a cell; None when this repository has no such model."""
    if row.model is None or row.model not in registered():
        return None
    pretrain = f" --pretrain {row.pretrain}" if row.pretrain else ""
    evaluate = "pf-pascal,pf-willow" if column.finetune == "pf-pascal" else column.dataset
    if row.train_set == FILTERED_IMAGENET:
        return f"scbench run {row.model} --checkpoint {_folder(row)}/work/network/model --eval {evaluate}"
    built = f" --backbone {row.backbone} --set recipe.model.size=512" if row.model == GENERATOR else ""
    return f"scbench run {row.model}{pretrain} --finetune {row.train_set or column.finetune} --eval {evaluate}{built}"


def preparation_for(row: Row) -> str | None:
    """The command that must come before ``command_for``'s: it trains a generator on photographs with class names."""
    if row.train_set != FILTERED_IMAGENET or row.model not in registered():
        return None
    changed = {key: value for key, value in row.settings.items() if FULL_PROCEDURE[key] != value}
    size = changed.pop("size", FULL_PROCEDURE["size"])
    settings = "".join(f" --set {key}={_typed(value)}" for key, value in changed.items())
    return (
        f"scbench generate train {FILTERED_IMAGENET} --out {_folder(row)} --backbone {row.backbone} "
        f"--size {size}{settings}"
    )


def _folder(row: Row) -> str:
    """Where a row's generator is trained; rows of the same settings share it."""
    changed = [f"{key.split('.')[-1]}-{_typed(v)}" for key, v in row.settings.items() if FULL_PROCEDURE[key] != v]
    return "/".join(["generator", *(changed or ["full"])])


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


def _typed(value: object) -> str:
    return value if isinstance(value, str) else json.dumps(value)
