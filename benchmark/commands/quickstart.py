"""``scbench quickstart``: the whole path on the embedded data set, in minutes."""

from __future__ import annotations

from pathlib import Path

import typer


def add_to(app: typer.Typer) -> None:
    """Add the command to ``scbench``."""
    app.command("quickstart")(quickstart)


def quickstart(
    runs: Path = typer.Option(Path("runs"), help="Where run folders lie."),
    out: Path = typer.Option(Path("report"), help="Where the report is written."),
) -> None:
    """Train a small CATs on the embedded data set, score it before and after, write a report.

    Needs no download and no GPU; what is done already is not done again.
    """
    from benchmark.running.quickstart import quickstart as run

    run(runs, out)
