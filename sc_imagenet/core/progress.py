"""What people and programs read of a command: progress on standard error, tables and JSON on standard output."""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from io import TextIOWrapper
from typing import Any, Protocol

from rich.console import Console

from sc_imagenet.core.errors import visible

# Progress on standard error: bars with the time left on a terminal, nothing but ``say``'s lines elsewhere.

console = Console(stderr=True, highlight=False, soft_wrap=True, markup=False)


class Update(Protocol):
    """Shows how far one thing is."""

    def __call__(self, what: str, done: int, total: int | None, note: str = "") -> None:
        """``done`` of ``total`` (None: not known); ``note`` is shown behind the bar."""


def say(line: str) -> None:
    """One line for the person who waits."""
    console.print(visible(line))


@contextmanager
def bars(in_bytes: bool = False, quiet: bool = False) -> Iterator[Update]:
    """Yield a function that shows how far each thing is, one bar a thing, with the time left."""
    if quiet or not sys.stderr.isatty():
        yield lambda what, done, total, note="": None
        return
    from rich.progress import (
        BarColumn,
        DownloadColumn,
        MofNCompleteColumn,
        Progress,
        TaskID,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
        TransferSpeedColumn,
    )

    amount = (DownloadColumn(), TransferSpeedColumn()) if in_bytes else (MofNCompleteColumn(),)
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        *amount,
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[note]}"),
    )
    with Progress(*columns, console=console) as progress:
        tasks: dict[str, TaskID] = {}

        def update(what: str, done: int, total: int | None, note: str = "") -> None:
            if what not in tasks:
                tasks[what] = progress.add_task(what, total=total, completed=done, note=note)
            progress.update(tasks[what], completed=done, total=total, note=note)

        yield update


@contextmanager
def library_bars() -> Iterator[None]:
    """Within it ``datasets`` draws its own bars on a terminal only; by itself it draws them into files too."""
    import datasets

    silence = not sys.stderr.isatty() and not datasets.are_progress_bars_disabled()
    if silence:
        datasets.disable_progress_bars()
    try:
        yield
    finally:
        if silence:
            datasets.enable_progress_bars()


# What goes to standard output: JSON that every reader takes, and text for terminals of any encoding.


def print_what_can_be_printed() -> None:
    """From now on a sign that standard output's encoding does not have is printed as "?", and ends nothing."""
    if isinstance(sys.stdout, TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")


def print_json(content: Any) -> None:
    """Print indented JSON, in signs that standard output has; numbers that are not finite are null."""
    unicode = (getattr(sys.stdout, "encoding", None) or "").lower().startswith("utf")
    print(json.dumps(_finite(content), indent=2, ensure_ascii=not unicode, allow_nan=False))


def _finite(content: Any) -> Any:
    if isinstance(content, float):
        return content if math.isfinite(content) else None
    if isinstance(content, Mapping):
        return {key: _finite(value) for key, value in content.items()}
    if isinstance(content, (list, tuple)):
        return [_finite(value) for value in content]
    return content
