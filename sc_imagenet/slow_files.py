"""Naming the file that a process waits for, where a disk or a network folder does not answer.

Such a wait cannot be broken off from within (the system call does not return), and an answer may still come: so it
is said, once a file, and waited on.
"""

from __future__ import annotations

import os
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

PATIENCE = 30.0  # seconds

_reading: dict[int, tuple[Path, float]] = {}  # by thread: what it reads, and since when
_watcher = 0  # the process whose watching thread runs: a forked child has none


@contextmanager
def watched(path: Path) -> Iterator[None]:
    """Within it ``path`` is read; after ``PATIENCE`` seconds standard error names it."""
    global _watcher
    if _watcher != os.getpid():
        _watcher = os.getpid()
        _reading.clear()
        threading.Thread(target=_watch, name="slow files", daemon=True).start()
    thread = threading.get_ident()
    _reading[thread] = path, time.monotonic()
    try:
        yield
    finally:
        _reading.pop(thread, None)


def _watch() -> None:
    said: set[tuple[Path, float]] = set()
    while True:
        time.sleep(PATIENCE / 4)
        now = time.monotonic()
        for reading in list(_reading.values()):
            path, since = reading
            if now - since > PATIENCE and reading not in said:
                said.add(reading)
                line = f"{path}: no answer for {now - since:.0f} s; is its disk or network folder gone? Still waiting."
                print(line, file=sys.stderr, flush=True)
