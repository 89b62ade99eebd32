"""``scbench quickstart``: train a small CATs on the embedded data set, score it before and after, report."""

from __future__ import annotations

from pathlib import Path

from rich.console import Console
from rich.table import Table

from benchmark.progress import say
from benchmark.report.write import write_reports
from benchmark.result import Result
from benchmark.run_options import Options
from benchmark.running import execute

MODEL, DATA, PRESET = "cats", "toy", "tiny"
PROTOCOL = "bbox-kp/image"


def quickstart(runs: Path, out: Path) -> None:
    """Run it, or take it up where it was left; prints the scores and where the report lies."""
    say(f"[1/3] {MODEL} untrained, on unseen pairs of {DATA} (rendered now if this is the first time)")
    before = execute(Options(MODEL, evaluate=(DATA,), preset=PRESET, runs=runs, workers=1))
    say(f"[2/3] {MODEL} trained on {DATA}: some minutes on two cores")
    after = execute(Options(MODEL, finetune=DATA, evaluate=(DATA,), preset=PRESET, runs=runs, workers=1))
    say("[3/3] report")
    pages = write_reports(runs, out)
    print_scores(before, after)
    for page in pages:
        print(page)


def print_scores(before: Result, after: Result) -> None:
    """The scores before and after as a table on standard output."""
    table = Table(PROTOCOL, title=f"{after.title} on unseen pairs of {DATA}, percent")
    alphas = ("0.05", "0.1", "0.15")
    for alpha in alphas:
        table.add_column(f"PCK@{alpha}", justify="right")
    for name, result in (("untrained", before), ("trained", after)):
        scores = (result.metrics[DATA][f"pck@{alpha}/{PROTOCOL}"] for alpha in alphas)
        table.add_row(name, *(f"{s['value']:.1f} \\[{s['low']:.1f}, {s['high']:.1f}]" for s in scores))
    Console(highlight=False).print(table)
