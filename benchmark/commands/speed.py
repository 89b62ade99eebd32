"""``scbench speed``: forward, training step and memory of a model, and of its bare backbone."""

from __future__ import annotations

import typer

from sc_imagenet.core.settings import settings_of


def add_to(app: typer.Typer) -> None:
    """Add the command to ``scbench``."""
    app.command("speed")(speed)


def speed(
    model: str = typer.Argument(..., help="A name of 'scbench models'."),
    preset: str = typer.Option("paper", help="paper, small or tiny."),
    data: str = typer.Option("spair-71k", help="The data set whose recipe is taken."),
    backbone: str | None = typer.Option(None, help="timm's name; default: the preset's."),
    device: str = typer.Option("cpu", help="cpu or cuda."),
    precision: str = typer.Option("no", help="no (float32), bf16 or fp16."),
    compiled: bool = typer.Option(False, "--compile", help="Through torch.compile; the model and the backbone."),
    threads: int = typer.Option(2, help="CPU threads."),
    batch: int = typer.Option(1, help="Pairs in a pass."),
    rounds: int = typer.Option(5, help="Times every pass is measured; the median is printed."),
    settings: list[str] = typer.Option([], "--set", help="recipe.KEY=VALUE; repeat or separate by commas."),
    as_json: bool = typer.Option(False, "--json", help="Print JSON instead of a table."),
) -> None:
    """Time a model beside the bare backbone on the same pair, in turns; weights are random. No data.

    Example: scbench speed cats --preset tiny --rounds 10
    """
    from benchmark.running.speed import Setup, measure, print_speed

    chosen = settings_of(settings)
    setup = Setup(model, preset, data, backbone, device, precision, compiled, threads, batch, rounds, chosen)
    print_speed(measure(setup), as_json)
