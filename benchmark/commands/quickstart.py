"""``scbench quickstart``: a small CATs trained on labels from class names and on true points, scored, reported."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from benchmark.commands.options import OUTPUT, Runs
from benchmark.commands.run import run_and_print
from benchmark.report.contents import GENERATED_SETS
from benchmark.report.table import number
from benchmark.report.writers import write_reports
from benchmark.scoring.result import Result
from sc_imagenet.core.progress import say
from sc_imagenet.data.catalog import embedded
from sc_imagenet.generation.options import GenerationOptions

app = typer.Typer(add_completion=False)

MODEL, PRESET = "cats", "tiny"
PROTOCOL = "bbox-kp/image"
SIDE = 224  # pixels at which labels are made: twice as fast as the default, nearly as good on pictures this small
WORKERS = 2


@app.command()
def quickstart(
    runs: Runs = Path("runs"),
    out: Annotated[Path, typer.Option(help="The files are written to this folder.", rich_help_panel=OUTPUT)] = Path(
        "report"
    ),
) -> None:
    """Train a small CATs on the embedded data set, score it before and after, write a report.

    Needs no download and no GPU; what is done already is not done again.

    [bold]scbench quickstart --runs runs --out report[/bold]
    """
    run_quickstart(runs, out)


def run_quickstart(runs: Path, out: Path) -> None:
    """Run it, or take it up where it was left; prints the scores and where the report lies."""
    from benchmark.running.arguments import RunOptions  # and with them torch, which help does without
    from benchmark.running.generate import generate_set

    data = embedded().name
    labels = runs / GENERATED_SETS / data
    say(f"[1/5] {MODEL} untrained, on unseen pairs of {data} (rendered now if this is the first time)")
    before = run_and_print(RunOptions(MODEL, evaluate=(data,), preset=PRESET, runs=runs, workers=1))
    say(f"[2/5] labels for {data}'s photographs from their class names alone: a minute on two cores")
    made = generate_set(("export",), data, labels, GenerationOptions(size=SIDE, pooling=1.0), "local", WORKERS)
    assert made is not None
    assert made.label_errors is not None
    say(f"[3/5] {MODEL} trained on these labels: a minute on two cores")
    once = {"recipe.epochs": "1"}
    from_names = run_and_print(
        RunOptions(MODEL, str(labels), evaluate=(data,), preset=PRESET, settings=once, runs=runs, workers=1)
    )
    say(f"[4/5] {MODEL} trained on {data}'s true points: some minutes on two cores")
    after = run_and_print(RunOptions(MODEL, finetune=data, evaluate=(data,), preset=PRESET, runs=runs, workers=1))
    say("[5/5] report")
    pages = write_reports(runs, out)
    print_label_errors(data, made.label_errors)
    print_scores(data, {"untrained": before, "class names": from_names, "true points": after})
    for page in pages:
        print(page)


def print_label_errors(data: str, errors: Mapping[str, Any]) -> None:
    """How far labels lie from the truth, as a table on standard output."""
    table = Table(title=f"Labels of {data} from class names alone, beside its true geometry", show_header=False)
    table.add_column()
    table.add_column(justify="right")
    for name, value in errors.items():
        table.add_row(name, number(value))
    Console(highlight=False).print(table)


def print_scores(data: str, results: Mapping[str, Result]) -> None:
    """The scores of runs by name as a table on standard output."""
    title = next(iter(results.values())).title
    table = Table(PROTOCOL, title=f"{title} on unseen pairs of {data}, by what it was trained on, percent")
    alphas = ("0.05", "0.1", "0.15")
    for alpha in alphas:
        table.add_column(f"PCK@{alpha}", justify="right")
    for name, result in results.items():
        scores = (result.metrics[data][f"pck@{alpha}/{PROTOCOL}"] for alpha in alphas)
        table.add_row(name, *(f"{s['value']:.1f} \\[{s['low']:.1f}, {s['high']:.1f}]" for s in scores))
    Console(highlight=False).print(table)
