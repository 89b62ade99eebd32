"""``scbench ablate``: Tables 4 and 5 in miniature."""

from __future__ import annotations

from pathlib import Path

import typer


def add_to(app: typer.Typer) -> None:
    """Add the command to ``scbench``."""
    app.command("ablate")(ablate)


def ablate(
    photographs: Path = typer.Argument(help="To train on: <folder>/<class>/<image>."),
    out: Path = typer.Option(
        Path("runs/ablations"), "--out", help="Folder of everything; what is there goes on where it was left."
    ),
    evaluate: str = typer.Option("pf-willow", "--eval", help="The data set to measure on."),
    data_root: Path | None = typer.Option(None, "--data-root", help="Folder that holds it; else $SC_DATA_ROOT."),
    seeds: str = typer.Option("3", "--seeds", help="Of the trainings: how many, or which: 0,4,7 (one: '4,')."),
    only: list[str] = typer.Option([], "--only", help="Cases; repeat or separate with commas."),
    options: Path | None = typer.Option(None, "--options", help="JSON of training options that all cases share."),
    max_steps: int | None = typer.Option(None, "--max-steps", min=1, help="Steps of each training."),
    limit: int | None = typer.Option(None, "--limit", min=1, help="Measure on so many pairs."),
    workers: int = typer.Option(1, "--workers", min=1, help="Trainings beside one another, on one GPU or CPU."),
    metric: str = typer.Option("bbox-kp/image", "--metric", help="Of the table."),
    as_json: bool = typer.Option(False, "--json", help="Print the table as JSON."),
) -> None:
    """Train and measure the cascade with one thing changed at a time, beside the paper's Tables 4 and 5.

    On a GPU where there is one. The table is also in the report of the folder of runs ([bold]scbench report[/bold]).

    [bold]scbench ablate caltech-101 --out runs/ablations --seeds 3 --workers 4[/bold]
    """
    from benchmark.running.arguments import several
    from sc_imagenet.core.errors import InputError
    from sc_imagenet.core.files import read_json

    parts = several([seeds])
    if not parts or not all(part.isdecimal() for part in parts) or seeds.strip() == "0":
        raise InputError(
            f"--seeds {seeds!r} is neither a number of seeds nor a list of them", fix="For example: --seeds 3"
        )
    numbers = [int(part) for part in parts] if "," in seeds else list(range(int(seeds)))
    from benchmark.report.ablation_table import ablation_table, print_ablations
    from benchmark.report.ablations import Setting, run_ablations

    base = read_json(options) if options else {}
    setting = Setting(photographs, out, base, max_steps, evaluate, data_root, limit, workers)
    run_ablations(setting, numbers, several(only))
    print_ablations(ablation_table(out, metric, tuple(several(only))), as_json)
