"""Writing a report to a folder in the formats asked for."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from benchmark.report.csv_files import curves_csv, runs_csv, tables_csv
from benchmark.report.html import to_html
from benchmark.report.latex import to_latex
from benchmark.report.pictures import figures
from benchmark.report.reproduction import Report, build_from
from benchmark.report.writers import to_markdown
from sc_imagenet.core.errors import unknown_name
from sc_imagenet.core.files import atomic_path

FORMATS = ("html", "md", "tex", "csv")


def write_reports(runs: Path, out: Path, root: Path | None = None) -> list[Path]:
    """Report on all that lies in a folder of runs, in every format; returns the files' paths."""
    return write_report(build_from(runs), out, FORMATS, root)


def write_report(report: Report, out: Path, formats: Sequence[str], root: Path | None = None) -> list[Path]:
    """Write the files, each atomically, and return their paths.

    Args:
        report: what to write.
        out: the folder; made if it is not there.
        formats: of ``FORMATS``.
        root: where the data sets lie whose images the HTML shows; else ``SC_DATA_ROOT``.

    Raises:
        InputError: an unknown format, or the folder cannot be written.
    """
    for name in formats:
        if name not in FORMATS:
            raise unknown_name("report format", name, FORMATS)
    contents: dict[str, str] = {}
    if "html" in formats:
        contents["report.html"] = to_html(report, figures(report, root))
    if "md" in formats:
        contents["report.md"] = to_markdown(report)
    if "tex" in formats:
        contents["tables.tex"] = to_latex(report)
    if "csv" in formats:
        contents["tables.csv"] = tables_csv(report)
        contents["runs.csv"] = runs_csv(report)
        contents["curves.csv"] = curves_csv(report)
    for name, content in contents.items():
        with atomic_path(out / name) as temporary:
            temporary.write_text(content, encoding="utf-8")
    return [out / name for name in contents]
