"""``scbench report``: the paper's tables beside what was measured, and all runs."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from benchmark.commands.options import DATA, OUTPUT, DataRoot, Json, Runs
from benchmark.report.board import build_board, plain_row, write_board
from benchmark.report.contents import build_from
from benchmark.report.writers import console, lines_of, write_report
from benchmark.running.submissions import verify
from benchmark.scoring.runs import find_runs
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
    board: Annotated[
        bool,
        typer.Option(
            "--board", help="One page of published and measured numbers is written instead.", rich_help_panel=OUTPUT
        ),
    ] = False,
    results: Annotated[
        Path | None,
        typer.Option(help="For the board also this folder of submissions, scored again.", rich_help_panel=DATA),
    ] = None,
    data_root: DataRoot = None,
    as_json: Json = False,
) -> None:
    """Tables 1 to 5 of the paper beside measured values, and all runs; one HTML file, Markdown, LaTeX and CSV.

    With --json no files are written.

    [bold]scbench report --runs runs --out report[/bold]

    [bold]scbench report --board --results results[/bold]
    """
    if board:
        sent = verify(results, data_root) if results is not None else []
        found, problems = find_runs(runs) if runs.is_dir() else ([], [])
        problems += [f"{each.place}: {fault}" for each in sent for fault in each.faults]
        tables = build_board(found, sent)
        if as_json:
            print_json([{**asdict(table), "rows": [plain_row(row) for row in table.rows]} for table in tables])
            return
        print(f"wrote {write_board(tables, out, problems)}")
        return
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
