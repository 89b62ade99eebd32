"""Progress on a terminal, one line at a time elsewhere; always on standard error."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

console = Console(stderr=True, highlight=False, soft_wrap=True)


@contextmanager
def progress(description: str, total: int, done: int = 0, quiet: bool = False) -> Iterator[ProgressLine]:
    """A bar with time left while standard error is a terminal, else nothing; never on ``quiet`` processes."""
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[note]}"),
    )
    with Progress(*columns, console=console, disable=quiet or not sys.stderr.isatty()) as bars:
        yield ProgressLine(bars, description, total, done)


class ProgressLine:
    """One bar of a ``Progress``."""

    def __init__(self, bars: Progress, description: str, total: int, done: int) -> None:
        self._bars = bars
        self._task = bars.add_task(description, total=total, completed=done, note="")

    def advance(self, note: str | None = None) -> None:
        """One step done; ``note`` is shown behind the bar."""
        if note is None:
            self._bars.advance(self._task)
        else:
            self._bars.update(self._task, advance=1, note=note)


def say(line: str) -> None:
    """One line for the person who waits."""
    console.print(line)
