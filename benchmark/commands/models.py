"""``scbench models``: what can be run."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Annotated, Any

import torch
import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from baselines import registry
from baselines.recipe import ANY, PRESETS
from baselines.registry import STEP_DEVICE, ModelCard, find_recipe
from benchmark.commands.options import Json
from sc_imagenet.core.errors import InputError
from sc_imagenet.core.progress import print_json

app = typer.Typer(add_completion=False)


Named = Annotated[
    str | None, typer.Argument(metavar="MODEL", show_default=False, help="All that is known of this one.")
]


@app.command()
def models(name: Named = None, as_json: Json = False) -> None:
    """List the models, a line each, or tell all that is known of one: paper, licence, images seen, time of a step.

    [bold]scbench models[/bold]

    [bold]scbench models cats[/bold]
    """
    rows = model_rows([registry.card(name)] if name else registry.cards())
    if as_json:
        print_json([asdict(row) for row in rows])
    elif name:
        print_model(rows[0])
    else:
        print_models(rows)


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


def model_rows(cards: Sequence[ModelCard]) -> list[ModelRow]:
    """What is known of models; built without memory for their weights, so that counting is cheap."""
    rows = []
    for card in cards:
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


def print_models(rows: Sequence[ModelRow]) -> None:
    """Print the models, each in a line of a terminal of 80 columns."""
    table = Table(box=None, pad_edge=False)
    for heading in ("model", "year", "supervision", "weights of"):
        table.add_column(heading, no_wrap=True)
    for heading in ("px", "params"):
        table.add_column(heading, justify="right", no_wrap=True)
    for row in rows:
        counts = str(row.size), f"{row.parameters / 1e6:.1f} M"
        table.add_row(row.name, str(row.year or ""), row.supervision, ", ".join(row.trained_on), *counts)
    Console().print(table)
    print("More of one: scbench models MODEL")


def print_model(row: ModelRow) -> None:
    """Print all that is known of a model, a line each."""
    table = Table(box=None, pad_edge=False, show_header=False)
    table.add_column(style="bold", no_wrap=True)
    table.add_column(overflow="fold")
    steps = (f"{seconds:g} s on {'any data' if data == ANY else data}" for data, seconds in row.step_seconds.items())
    for what, known in (
        ("model", f"{row.name}: {row.title}"),
        ("paper", row.paper),
        ("supervision", row.supervision),
        ("weights trained on", ", ".join(row.trained_on)),
        ("images seen", "; ".join(f"{benchmark}: {images}" for benchmark, images in row.seen.items())),
        ("licence", row.licence),
        ("backbone", row.backbone),
        ("input", f"{row.size} px"),
        ("transfer", row.direction),
        ("size", f"{row.parameters:,} parameters, {row.megabytes:,.0f} MB"),
        ("time of a step", f"{', '.join(steps)} ({STEP_DEVICE})" if row.step_seconds else "not measured"),
    ):
        table.add_row(what, escape(known or "-"))
    Console().print(table)
