"""``scbench ablate``: Tables 4 and 5 in miniature."""

from __future__ import annotations

from pathlib import Path

import typer


def add_to(app: typer.Typer) -> None:
    """Add the command to ``scbench``."""
    app.command("ablate")(ablate)


def ablate(
    photographs: Path = typer.Argument(help="To train on: <folder>/<class>/<image>."),
    out: Path = typer.Option(..., "--out", help="Folder of everything; what is there goes on where it was left."),
    evaluate: str = typer.Option("pf-willow", "--eval", help="The data set to measure on."),
    data_root: Path | None = typer.Option(None, "--data-root", help="Folder that holds it; else $SC_DATA_ROOT."),
    seeds: str = typer.Option("0,1,2", "--seeds", help="Of the trainings."),
    only: list[str] = typer.Option([], "--only", help="Cases; repeat or separate with commas."),
    options: Path | None = typer.Option(None, "--options", help="JSON of training options that all cases share."),
    max_steps: int | None = typer.Option(None, "--max-steps", min=1, help="Steps of each training."),
    limit: int | None = typer.Option(None, "--limit", min=1, help="Measure on so many pairs."),
    metric: str = typer.Option("bbox-kp/image", "--metric", help="Of the table."),
    as_json: bool = typer.Option(False, "--json", help="Print every metric of every seed as JSON."),
) -> None:
    """Train and measure the cascade with one thing changed at a time, beside the paper's Tables 4 and 5.

    [bold]scbench ablate caltech-101 --out runs/ablations --only full,trained-nearest --seeds 0[/bold]
    """
    from benchmark.ablations import print_ablations, run_ablations
    from benchmark.options import several
    from sc_imagenet.errors import InputError
    from sc_imagenet.files import read_json

    try:
        numbers = [int(seed) for seed in seeds.split(",")]
    except ValueError as error:
        raise InputError(f"--seeds {seeds!r} are not whole numbers", fix="For example: --seeds 0,1,2") from error
    rows = run_ablations(
        photographs,
        data_root,
        out,
        seeds=numbers,
        only=several(only),
        base=read_json(options) if options else None,
        max_steps=max_steps,
        evaluate=evaluate,
        limit=limit,
    )
    print_ablations(rows, metric, as_json)
