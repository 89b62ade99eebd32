"""``scbench report``: the paper's tables beside what was measured, and all runs."""

from __future__ import annotations

from pathlib import Path

import typer


def add_to(app: typer.Typer) -> None:
    """Add the command to ``scbench``."""
    app.command("report")(report)


def report(
    runs: Path = typer.Option(Path("runs"), help="Folder of runs."),
    out: Path = typer.Option(Path("report"), help="Folder to write to."),
    formats: list[str] = typer.Option(
        ["html", "md", "tex", "csv"], "--format", help="html, md, tex or csv; repeated or comma-separated."
    ),
    data_root: Path | None = typer.Option(None, help="Where the data sets lie, for pictures; else SC_DATA_ROOT."),
    as_json: bool = typer.Option(False, "--json", help="Print JSON instead of tables; write no files."),
) -> None:
    """Tables 1 to 5 of the paper beside measured values, and all runs; one HTML file, Markdown, LaTeX and CSV.

    Example: scbench report --runs runs --out report
    """
    from dataclasses import asdict

    from benchmark.report.tables import build_from
    from benchmark.report.terminal import print_report
    from benchmark.report.write import write_report
    from benchmark.running.arguments import several
    from sc_imagenet.core.errors import InputError
    from sc_imagenet.core.progress import bars, print_json, say

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
    print_report(content)
    if not (content.runs or content.problems or content.generated or content.ablations.measured):
        say(f"{runs} holds no runs: a run is a folder <runs>/<model>/<id>")
    for file in files:
        print(f"wrote {file}")
