"""``scbench models``: what can be run."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch
import typer
from rich.console import Console
from rich.table import Table

from baselines import registry
from baselines.recipe import PRESETS
from baselines.registry import find_recipe
from benchmark.commands.options import Json
from sc_imagenet.core.errors import InputError
from sc_imagenet.core.progress import print_json

app = typer.Typer(add_completion=False)


@app.command()
def models(as_json: Json = False) -> None:
    """List the models: name, year, paper, supervision, training data, licence, backbone, input, size.

    With --json also which benchmarks the authors' weights have seen images of, and the measured time of a step.

    [bold]scbench models --json[/bold]
    """
    print_models(model_rows(), as_json)


# The table behind ``scbench models``.


@dataclass(frozen=True)
class ModelRow:
    """One model as it is built by its first recipe."""

    name: str
    title: str
    paper: str
    licence: str  # of the authors' code and weights
    backbone: str
    size: int  # input side in pixels
    direction: str
    supervision: str
    year: int | None  # of the paper
    trained_on: list[str]  # what the authors' weights were trained on, one data set or several each
    seen: dict[str, str]  # benchmarks of which those weights have seen images, and which
    parameters: int
    megabytes: float  # of the weights in float32, 10^6 bytes
    step_seconds: dict[str, float]  # of the paper's recipe, by data set or "*", on the device of ``STEP_DEVICE``


# By what weights were trained on: the benchmarks they have seen images of. What a backbone was trained on is not
# searched for benchmarks' images.
SEEN = {
    "spair-71k": {"spair-71k": "its training split"},
    "pf-pascal": {"pf-pascal": "its training split, which holds 302 of the 506 test images"},
    "ap-10k": {"ap-10k": "its training split"},
    "diy-sc": {"spair-71k": "pseudo-labels on images of its training split"},
}


def seen_benchmarks(trained_on: Sequence[str]) -> dict[str, str]:
    """The benchmarks of which weights trained on some data sets have seen images.

    >>> seen_benchmarks(["diy-sc"])
    {'spair-71k': 'pseudo-labels on images of its training split'}
    """
    return {name: what for each in trained_on for name, what in SEEN.get(each, {}).items()}


def default_arguments(name: str) -> dict[str, Any]:
    """The constructor's arguments of the first preset that the model has for any data; none without presets."""
    for preset in PRESETS:
        try:
            return dict(find_recipe(name, "*", preset).model)
        except InputError:
            continue
    return {}


def model_rows() -> list[ModelRow]:
    """All models, by name; built without memory for their weights, so that counting is cheap."""
    rows = []
    for card in registry.cards():
        with torch.device("meta"):
            arguments = {**default_arguments(card.name), "pretrained": False}
            matcher = registry.create(card.name, **arguments)
        rows.append(
            ModelRow(
                name=card.name,
                title=card.title,
                paper=card.paper,
                licence=card.licence,
                backbone=card.backbone,
                size=matcher.size,
                direction=matcher.direction,
                supervision=card.supervision,
                year=card.year,
                trained_on=list(card.trained_on),
                seen=seen_benchmarks(card.trained_on),
                parameters=(count := sum(parameter.numel() for parameter in matcher.parameters())),
                megabytes=round(4 * count / 1e6, 1),
                step_seconds=dict(card.step_seconds),
            )
        )
    return rows


def print_models(rows: list[ModelRow], as_json: bool) -> None:
    """Print the models as a table, or as JSON."""
    if as_json:
        print_json([asdict(row) for row in rows])
        return
    table = Table(box=None, pad_edge=False)
    for heading in ("model", "paper", "supervision", "trained on", "licence", "backbone", "input"):
        table.add_column(heading, overflow="fold")
    for heading in ("parameters", "MB"):
        table.add_column(heading, justify="right")
    for row in rows:
        size, parameters, weights = f"{row.size} px", f"{row.parameters / 1e6:.1f} M", f"{row.megabytes:,.0f}"
        known = (row.name, row.paper, row.supervision, ", ".join(row.trained_on), row.licence, row.backbone)
        table.add_row(*known, size, parameters, weights)
    Console().print(table)
