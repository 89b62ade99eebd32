"""What ``scbench data`` prints of data sets: rows of plain values, and those rows as tables."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sc_imagenet.core.progress import print_json
from sc_imagenet.data.catalog import catalog, info
from sc_imagenet.data.roots import DATA_ROOT
from sc_imagenet.sources.source import DataSet

if TYPE_CHECKING:
    from sc_imagenet.data.verify import VerifyReport

STRAYS = 20  # named
COLOURS = {"ok": "green", "damaged": "bold red", "partial": "yellow", "differs": "yellow"}


def place_of(entry: DataSet, root: str | None = None) -> str | None:
    """Where a data set lies in ``root``, else ``SC_DATA_ROOT``; None where it does not."""
    if entry.embedded:
        return "built in"
    base = root or os.environ.get(DATA_ROOT)
    if not base:
        return None
    places = (Path(base).expanduser() / folder for folder in (entry.name, *entry.folders))
    return next((str(place) for place in places if place.is_dir()), None)


def data_rows(root: str | None = None) -> list[dict[str, Any]]:
    """One row a data set of the catalogue."""
    return [_row(entry, root) for entry in catalog().values()]


def info_row(name: str, root: str | None = None) -> dict[str, Any]:
    """All that is known of one data set.

    Raises:
        InputError: unknown name.
    """
    entry = info(name)
    return {
        **_row(entry, root),
        "paper": entry.paper,
        "homepage": entry.homepage or None,
        "configs": list(entry.configs),
        "download": [mirror.url for mirror in entry.mirrors],
        "by_hand": entry.manual.splitlines(),
        "layout": entry.layout.splitlines(),
    }


def print_list(rows: list[dict[str, Any]], as_json: bool) -> None:
    """Print the catalogue."""
    if as_json:
        print_json(rows)
        return
    from rich.table import Table

    table = Table("data set", "pairs by split", "images", "classes", "points", "licence", "on this machine")
    for column in (2, 3):
        table.columns[column].justify = "right"
    for row in rows:
        pairs = "\n".join(f"{split} {_number(row['pairs'].get(split))}" for split in row["splits"])
        here = _plain(row["place"]) if row["place"] else "[dim]no[/dim]"
        name = f"[bold]{row['name']}[/bold]\n[dim]{row['title']}[/dim]"
        table.add_row(name, pairs, _number(row["images"]), _number(row["classes"]), row["points"], row["licence"], here)
    _console().print(table)


def print_info(row: dict[str, Any], as_json: bool) -> None:
    """Print all of one data set."""
    if as_json:
        print_json(row)
        return
    from rich.table import Table

    table = Table(show_header=False, box=None, padding=(0, 2, 0, 0))
    table.add_column(style="bold", no_wrap=True)
    table.add_column(overflow="fold")
    pairs = ", ".join(f"{split} {_number(row['pairs'].get(split))}" for split in row["splits"])
    for label, value in (
        ("name", row["name"]),
        ("title", f"{row['title']} ({row['paper']})"),
        ("homepage", row["homepage"] or ""),
        ("licence", row["licence"]),
        ("pairs", pairs),
        ("images", _number(row["images"])),
        ("classes", _number(row["classes"])),
        ("points", row["points"]),
        ("configs", ", ".join(row["configs"])),
        ("on this machine", row["place"] or "no"),
        ("expected files", "\n".join(row["layout"])),
        ("download", f"scbench data download {row['name']}" if row["download"] else "not by a program"),
        ("", "\n".join(row["download"])),
        ("by hand", "\n".join(row["by_hand"])),
    ):
        if value:
            table.add_row(label, _plain(value))
    _console().print(table)


def print_verified(report: VerifyReport, as_json: bool) -> None:
    """Print what was found in a data set."""
    if as_json:
        print_json(report.as_dict())
        return
    from rich.table import Table

    from sc_imagenet.data.tensor_files import shortened

    table = Table("split", "what", "found", "published", "", title=_plain(f"{report.dataset} in {report.root}"))
    for column in (2, 3):
        table.columns[column].justify = "right"
    for split in report.splits:
        for line in split.lines:
            first = split.split if line is split.lines[0] else ""
            table.add_row(first, *_line_cells(line))
        table.add_section()
    for line in report.lines:
        table.add_row("all here" if line is report.lines[0] else "", *_line_cells(line))
    console = _console()
    console.print(table)
    for absent, reason in report.absent.items():
        console.print(_plain(f"{absent} is not here: {reason}"))
    splits_of: dict[str, list[str]] = {}
    for found in report.splits:
        for fault in found.faults:
            splits_of.setdefault(fault, []).append(found.split)
    for fault, splits in splits_of.items():
        console.print(_plain(f"{', '.join(splits)}: {fault}"))
    for found in report.splits:
        for kind, count in found.more.items():
            console.print(_plain(f"{found.split}: and {count:,} more {kind}"))
    if report.strays:
        console.print(_plain(f"not of the data set, not read: {shortened(report.strays, STRAYS)}"))


def _row(entry: DataSet, root: str | None) -> dict[str, Any]:
    return {
        "name": entry.name,
        "title": entry.title,
        "splits": list(entry.splits),
        "pairs": dict(entry.pairs),
        "images": entry.images,
        "classes": entry.classes,
        "points": entry.points,
        "licence": entry.licence,
        "place": place_of(entry, root),
    }


def _line_cells(line: Any) -> tuple[str, str, str, str]:
    colour = COLOURS.get(line.state)
    words = f"[{colour}]{line}[/{colour}]" if colour else f"[dim]{line}[/dim]"
    return line.what, f"{line.found:,}", _number(line.published), words


def _number(value: int | None) -> str:
    return "-" if value is None else f"{value:,}"


def _plain(value: str) -> Any:
    from rich.text import Text

    from sc_imagenet.core.errors import visible

    return Text("\n".join(map(visible, value.split("\n"))))


def _console() -> Any:
    import sys

    from rich.console import Console

    # A file or pipe has no width of its own; a fixed one keeps paths whole there.
    return Console(width=None if sys.stdout.isatty() else 160, highlight=False)
