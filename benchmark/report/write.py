"""Writing a report to a folder in the formats asked for."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from benchmark.report.build import Report, build
from benchmark.report.html import to_html
from benchmark.report.markdown import to_markdown
from benchmark.report.sheets import runs_csv, tables_csv
from benchmark.result import Result
from benchmark.results import find_results
from sc_imagenet.errors import unknown_name
from sc_imagenet.files import atomic_path

FORMATS = ("html", "md", "csv")


def write_reports(runs: Path, out: Path) -> list[Path]:
    """Report on all finished runs below a folder, in every format; returns the files' paths."""
    results, problems = find_results(runs)
    return write_report(build(results, problems), results, out, FORMATS)


def write_report(report: Report, results: Sequence[Result], out: Path, formats: Sequence[str]) -> list[Path]:
    """Write the files, each atomically, and return their paths.

    Raises:
        InputError: an unknown format, or the folder cannot be written.
    """
    for name in formats:
        if name not in FORMATS:
            raise unknown_name("report format", name, FORMATS)
    contents: dict[str, str] = {}
    if "html" in formats:
        contents["report.html"] = to_html(report)
    if "md" in formats:
        contents["report.md"] = to_markdown(report)
    if "csv" in formats:
        contents["tables.csv"] = tables_csv(report)
        contents["runs.csv"] = runs_csv(results)
    for name, content in contents.items():
        with atomic_path(out / name) as temporary:
            temporary.write_text(content, encoding="utf-8")
    return [out / name for name in contents]
