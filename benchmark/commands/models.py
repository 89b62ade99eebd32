"""``scbench models``: what can be run."""

from __future__ import annotations

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
    """List the models: name, paper, licence, backbone, input size, supervision, parameters.

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
    parameters: int


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
                parameters=sum(parameter.numel() for parameter in matcher.parameters()),
            )
        )
    return rows


def print_models(rows: list[ModelRow], as_json: bool) -> None:
    """Print the models as a table, or as JSON."""
    if as_json:
        print_json([asdict(row) for row in rows])
        return
    table = Table(box=None, pad_edge=False)
    for heading in ("model", "paper", "licence", "backbone", "size", "supervision"):
        table.add_column(heading, overflow="fold")
    table.add_column("parameters", justify="right")
    for row in rows:
        size, parameters = f"{row.size} px", f"{row.parameters / 1e6:.1f} M"
        table.add_row(row.name, row.paper, row.licence, row.backbone, size, row.supervision, parameters)
    Console().print(table)
