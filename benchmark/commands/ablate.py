"""``scbench ablate``: Tables 4 and 5 in miniature."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from benchmark.commands.options import EVALUATION, OUTPUT, TRAINING, DataRoot, Json, Limit, MaxSteps, Workers
from benchmark.report.ablation_table import ablation_table
from benchmark.report.tables import ablation_grid
from benchmark.report.writers import console, terminal_of
from sc_imagenet.core.command import several
from sc_imagenet.core.errors import InputError
from sc_imagenet.core.files import read_json
from sc_imagenet.core.progress import print_json

app = typer.Typer(add_completion=False)


@app.command()
def ablate(
    photographs: Annotated[Path, typer.Argument(help="The photographs to train on: <folder>/<class>/<image>.")],
    out: Annotated[
        Path,
        typer.Option(help="The folder of everything; what is there goes on where it was left.", rich_help_panel=OUTPUT),
    ] = Path("runs/ablations"),
    evaluate: Annotated[
        str, typer.Option("--eval", help="It is measured on this data set.", rich_help_panel=EVALUATION)
    ] = "pf-willow",
    data_root: DataRoot = None,
    seeds: Annotated[
        str,
        typer.Option(
            help="The seeds of the trainings: how many, or which: 0,4,7 (one: '4,').", rich_help_panel=TRAINING
        ),
    ] = "3",
    only: Annotated[
        list[str], typer.Option(help="Only these cases; repeat it or separate by commas.", rich_help_panel=TRAINING)
    ] = [],
    options: Annotated[
        Path | None,
        typer.Option(help="A JSON file of training options that all cases share.", rich_help_panel=TRAINING),
    ] = None,
    max_steps: MaxSteps = None,
    limit: Limit = None,
    workers: Workers = 1,
    metric: Annotated[
        str, typer.Option(help="The table is of this metric, without alpha.", rich_help_panel=EVALUATION)
    ] = "bbox-kp/image",
    as_json: Json = False,
) -> None:
    """Train and measure the cascade with one thing changed at a time, beside the paper's Tables 4 and 5.

    On a GPU where there is one. The table is also in the report of the folder of runs ([bold]scbench report[/bold]).

    [bold]scbench ablate caltech-101 --out runs/ablations --seeds 3 --workers 4[/bold]
    """
    parts = several([seeds])
    if not parts or not all(part.isdecimal() for part in parts) or seeds.strip() == "0":
        raise InputError(
            f"--seeds {seeds!r} is neither a number of seeds nor a list of them", fix="For example: --seeds 3"
        )
    numbers = [int(part) for part in parts] if "," in seeds else list(range(int(seeds)))
    from benchmark.report.ablations import Setting, run_ablations  # and with it torch

    base = read_json(options) if options else {}
    setting = Setting(photographs, out, base, max_steps, evaluate, data_root, limit, workers)
    run_ablations(setting, numbers, several(only))
    table = ablation_table(out, metric, tuple(several(only)))
    if as_json:
        print_json({**asdict(table), "verdict": table.verdict})
        return
    console().print(terminal_of(ablation_grid(table)))
