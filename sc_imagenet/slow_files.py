"""Naming the file that a process waits for, where a disk or a network folder does not answer.

Such a wait cannot be broken off from within (the system call does not return), and an answer may still come: so it
is said, once a file, and waited on. Nor does such a wait let a signal be heard: where SIGTERM or Ctrl-C was sent
meanwhile, the process is ended from another thread, as schedulers must find it ended before they kill.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from sc_imagenet.stopping import INTERRUPTED, TERMINATED, was_terminated

PATIENCE = 30.0  # seconds until a file is named
UNHEARD = 4.0  # seconds that a file may take after a signal, which nobody may have heard
LOOK = 1.0  # seconds between two looks at what is read

_reading: dict[int, tuple[Path, float]] = {}  # by thread: what it reads, and since when
_watcher = 0  # the process whose watching thread runs: a forked child has none


@contextmanager
def watched(path: Path | str) -> Iterator[None]:
    """Within it ``path`` is read; after ``PATIENCE`` seconds standard error names it."""
    global _watcher
    if _watcher != os.getpid():
        _watcher = os.getpid()
        _reading.clear()
        threading.Thread(target=_watch, name="slow files", daemon=True).start()
    thread = threading.get_ident()
    before = _reading.get(thread)
    _reading[thread] = Path(path), time.monotonic()
    try:
        yield
    finally:
        if before is None:
            _reading.pop(thread, None)
        else:
            _reading[thread] = before


def _watch() -> None:
    said: set[tuple[Path, float]] = set()
    while True:
        time.sleep(min(LOOK, PATIENCE / 4))
        for reading in list(_reading.values()):
            path, since = reading
            waited = time.monotonic() - since
            if waited > PATIENCE and reading not in said:
                said.add(reading)
                _say(f"{path}: no answer for {waited:.0f} s; is its disk or network folder gone? Still waiting.")
            if waited > UNHEARD and (number := _unheard()):
                if multiprocessing.parent_process() is not None:  # what to say is the main process's
                    os._exit(0)
                _say(f"{path}: no answer for {waited:.0f} s; ended by {number.name}, what was saved before is kept")
                os._exit(TERMINATED if number == signal.SIGTERM else INTERRUPTED)


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def _unheard() -> signal.Signals | None:
    """The signal that this process was sent to end it and could not obey; only Linux tells which ones wait."""
    if was_terminated():
        return signal.SIGTERM
    try:
        with open("/proc/self/status", encoding="ascii") as file:
            waiting = next(int(line.split()[1], 16) for line in file if line.startswith("ShdPnd:"))
    except (OSError, StopIteration):
        return None
    for number in (signal.SIGTERM, signal.SIGINT):
        if waiting >> (number - 1) & 1:
            return number
    return None
