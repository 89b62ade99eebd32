"""``scbench speed``: forward, training step and memory of a model, and of its bare backbone."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from benchmark.commands.options import DATA, MACHINE, Backbone, Json, ModelName, Precision, Preset, Settings
from benchmark.running.speed import Setup, Speed, measure
from sc_imagenet.core.command import settings_of
from sc_imagenet.core.progress import print_json

app = typer.Typer(add_completion=False)


@app.command()
def speed(
    model: ModelName,
    preset: Preset = "paper",
    data: Annotated[
        str, typer.Option(help="The recipe is that for this data set.", rich_help_panel=DATA)
    ] = "spair-71k",
    backbone: Backbone = None,
    device: Annotated[str, typer.Option(help="It is measured on the cpu or on cuda.", rich_help_panel=MACHINE)] = "cpu",
    precision: Precision = "no",
    compiled: Annotated[
        bool,
        typer.Option("--compile", help="Model and backbone go through torch.compile.", rich_help_panel=MACHINE),
    ] = False,
    threads: Annotated[int, typer.Option(help="So many CPU threads are used.", rich_help_panel=MACHINE)] = 2,
    batch: Annotated[int, typer.Option(help="A pass is over so many pairs.", rich_help_panel=MACHINE)] = 1,
    rounds: Annotated[
        int,
        typer.Option(help="Every pass is measured so many times; the median is printed.", rich_help_panel=MACHINE),
    ] = 5,
    settings: Settings = [],
    as_json: Json = False,
) -> None:
    """Time a model beside the bare backbone on the same pair, in turns; weights are random. No data.

    [bold]scbench speed cats --preset tiny --rounds 10[/bold]
    """
    chosen = settings_of(settings)
    setup = Setup(model, preset, data, backbone, device, precision, compiled, threads, batch, rounds, chosen)
    print_speed(measure(setup), as_json)


def print_speed(speed: Speed, as_json: bool) -> None:
    """Print the costs as a table, or as JSON."""
    if as_json:
        print_json(asdict(speed))
        return
    setup = speed.setup
    floor = {cost.mode: cost.seconds for cost in speed.costs if cost.what == "whole network"}
    if "forward" in floor:
        floor |= dict.fromkeys(("encode", "match"), floor["forward"])
    table = Table(box=None, pad_edge=False)
    for heading in ("pass", "of", "seconds", "fastest", "slowest", "x whole network", "peak memory"):
        table.add_column(heading, justify="left" if heading in ("pass", "of") else "right")
    for cost in sorted(speed.costs, key=lambda cost: cost.mode):
        table.add_row(
            cost.mode,
            cost.what,
            *(f"{seconds:.4g}" for seconds in (cost.seconds, cost.fastest, cost.slowest)),
            f"{cost.seconds / floor[cost.mode]:.2f}" if cost.mode in floor else "-",
            f"{cost.peak_memory / 1e9:.2f} GB",
        )
    pairs = "1 pair" if setup.batch == 1 else f"{setup.batch} pairs"
    trained = "trained" if speed.trains_backbone else "frozen"
    console = Console()
    console.print(
        f"{setup.model}, {setup.preset} recipe for {setup.data}, {pairs}, backbone {speed.backbone or 'none'} "
        f"({trained}), {speed.device}, precision {setup.precision}{', compiled' if setup.compiled else ''}"
    )
    console.print(table)
    if setup.compiled or setup.precision != "no":
        console.print(
            f"Against float32 without compilation points move by {speed.moved_mean:.3g} px (mean), "
            f"{speed.moved_most:.3g} px (most)."
        )
