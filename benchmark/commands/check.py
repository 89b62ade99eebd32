"""``scbench check``: does a model keep what its interface promises?"""

from __future__ import annotations

import typer


def add_to(app: typer.Typer) -> None:
    """Add the command to ``scbench``."""
    app.command("check")(check)


def check(
    model: str = typer.Argument(..., help="A name of 'scbench models'."),
    preset: str = typer.Option("tiny", help="paper, small or tiny."),
    backbone: str | None = typer.Option(None, help="timm's name; default: the preset's."),
    as_json: bool = typer.Option(False, "--json", help="Print JSON instead of a table."),
) -> None:
    """Test a model on synthetic warps: shapes, gradients, learning, saving. No data, on the CPU, in seconds.

    Example: scbench check cats --backbone resnet18
    """
    from benchmark.running.check import check_model, print_findings

    print_findings(check_model(model, preset, backbone), as_json)
