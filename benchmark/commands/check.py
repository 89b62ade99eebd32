"""``scbench check``: does a model keep what its interface promises?"""

from __future__ import annotations

from dataclasses import asdict

import typer
from rich.console import Console
from rich.table import Table

from benchmark.commands.options import Backbone, Json, ModelName, Preset
from benchmark.running.check import Finding, check_model
from sc_imagenet.core.errors import InputError
from sc_imagenet.core.progress import print_json

app = typer.Typer(add_completion=False)


@app.command()
def check(model: ModelName, preset: Preset = "tiny", backbone: Backbone = None, as_json: Json = False) -> None:
    """Test a model on synthetic warps: shapes, gradients, learning, saving. No data, on the CPU, in seconds.

    [bold]scbench check cats --backbone resnet18[/bold]
    """
    print_findings(check_model(model, preset, backbone), as_json)


def print_findings(findings: list[Finding], as_json: bool) -> None:
    """Print the findings as a table, or as JSON.

    Raises:
        InputError: something does not hold (after printing).
    """
    if as_json:
        print_json([asdict(finding) for finding in findings])
    else:
        table = Table(box=None, pad_edge=False, show_header=False)
        for finding in findings:
            table.add_row("ok" if finding.holds else "FAILS", finding.check, finding.detail)
        Console().print(table)
    if failed := [finding.check for finding in findings if not finding.holds]:
        raise InputError(f"{len(failed)} of {len(findings)} checks fail: {'; '.join(failed)}")
