"""``scbench report``: the paper's tables beside what was measured, and all runs."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from benchmark.commands.options import OUTPUT, DataRoot, Json, Runs
from benchmark.report.contents import build_from
from benchmark.report.writers import console, lines_of, write_report
from sc_imagenet.core.command import several
from sc_imagenet.core.errors import InputError
from sc_imagenet.core.progress import bars, print_json, say

app = typer.Typer(add_completion=False)


@app.command()
def report(
    runs: Runs = Path("runs"),
    out: Annotated[Path, typer.Option(help="The files are written to this folder.", rich_help_panel=OUTPUT)] = Path(
        "report"
    ),
    formats: Annotated[
        list[str],
        typer.Option("--format", help="html, md, tex or csv; repeat it or separate by commas.", rich_help_panel=OUTPUT),
    ] = ["html", "md", "tex", "csv"],
    data_root: DataRoot = None,
    as_json: Json = False,
) -> None:
    """Tables 1 to 5 of the paper beside measured values, and all runs; one HTML file, Markdown, LaTeX and CSV.

    With --json no files are written.

    [bold]scbench report --runs runs --out report[/bold]
    """
    if not runs.is_dir():
        raise InputError(
            "no such folder of runs", where=runs, fix="Make one with 'scbench quickstart' or 'scbench run'."
        )
    with bars(quiet=as_json) as update:
        content = build_from(runs, update)
    if as_json:
        print_json({"runs": content.runs, **asdict(content)})
        return
    files = write_report(content, out, [name.lower() for name in several(formats)], data_root)
    for part in lines_of(content):
        console().print(part)
    if not (content.runs or content.problems or content.generated or content.ablations.measured):
        say(f"{runs} holds no runs: a run is a folder <runs>/<model>/<id>")
    for file in files:
        print(f"wrote {file}")
