"""Folders that one process works on at a time, and disks that do not answer."""

from __future__ import annotations

import fcntl
import math
import multiprocessing
import os
import signal
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from sc_imagenet.core.errors import InputError
from sc_imagenet.core.processes import INTERRUPTED, TERMINATED, was_terminated

# Naming the file that a process waits for, where a disk or a network folder does not answer.
#
# Such a wait cannot be broken off from within (the system call does not return), and an answer may still come: so it
# is said, once a file, and waited on. Nor does such a wait let a signal be heard: one that has waited for seconds to
# be is obeyed by another thread, which ends the process.
#
# Only waiting counts: a thread that decodes or renders what it reads uses the processor meanwhile, however slow that
# is.

PATIENCE = 30.0  # seconds until a file is named
UNHEARD = 3.0  # seconds that a signal may wait to be heard
WORKING = 0.01  # share of the time on the processor from which a thread works; a wait may look again and again
LOOK = 1.0  # seconds between two looks at what is read


@dataclass
class Reading:
    """What a thread reads, and since when it does little but wait for it."""

    path: Path
    since: float  # time.monotonic()
    clock: int | None  # of the thread's processor time; None where the system has none
    looked: float = 0.0  # when last looked at
    used: float = 0.0  # by the clock, then

    def look(self, now: float) -> None:
        """Begin to wait anew if the thread has worked since it was last looked at."""
        if self.clock is None:
            return
        try:
            used = time.clock_gettime(self.clock)
        except OSError:  # the thread has ended meanwhile
            return
        if used - self.used > WORKING * (now - self.looked):
            self.since = now
        self.looked, self.used = now, used


_reading: dict[int, Reading] = {}  # by thread
_watcher = 0  # the process whose watching thread runs: a forked child has none


def watch() -> None:
    """Look from now on at what is read, and for signals that nobody hears."""
    global _watcher
    if _watcher != os.getpid():
        _watcher = os.getpid()
        _reading.clear()
        threading.Thread(target=_look_on, name="slow files", daemon=True).start()


@contextmanager
def watched(path: Path | str) -> Iterator[None]:
    """Within it ``path`` is read; after ``PATIENCE`` seconds of waiting standard error names it."""
    watch()
    thread = threading.get_ident()
    before = _reading.get(thread)
    now = time.monotonic()
    clock = time.pthread_getcpuclockid(thread) if hasattr(time, "pthread_getcpuclockid") else None
    _reading[thread] = Reading(Path(path), now, clock, now, time.thread_time())
    try:
        yield
    finally:
        if before is None:
            _reading.pop(thread, None)
        else:
            _reading[thread] = before


@contextmanager
def unwatched() -> Iterator[None]:
    """Within it this thread may wait for something else than a file, such as another process that makes it."""
    before = _reading.pop(threading.get_ident(), None)
    try:
        yield
    finally:
        if before is not None:
            before.since = before.looked = time.monotonic()
            _reading[threading.get_ident()] = before


def _look_on() -> None:
    said: set[tuple[Path, float]] = set()  # what was waited for, and since when
    asked = math.inf  # since when a signal waits
    while True:
        time.sleep(min(LOOK, PATIENCE / 4))
        now = time.monotonic()
        for reading in list(_reading.values()):
            reading.look(now)
            path, since = reading.path, reading.since
            if now - since > PATIENCE and (path, since) not in said:
                said.add((path, since))
                _say(f"{path}: no answer for {now - since:.0f} s; is its disk or network folder gone? Still waiting.")
        number = _unheard()
        asked = min(asked, now) if number else math.inf
        if number and now - asked > UNHEARD:
            _end(number)


def _end(number: signal.Signals) -> None:
    """End the process, whose main thread cannot."""
    if multiprocessing.parent_process() is not None:  # what to say is the main process's
        os._exit(0)
    longest = min(list(_reading.values()), key=lambda reading: reading.since, default=None)
    path = longest.path if longest else "the disk"
    _say(
        f"ended by {number.name} while {path} gave no answer; what was finished is kept, run the same command to go on"
    )
    os._exit(TERMINATED if number == signal.SIGTERM else INTERRUPTED)


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def _unheard() -> signal.Signals | None:
    """The signal to end that waits for this process to hear it; only Linux tells."""
    late = time.monotonic() - UNHEARD
    if was_terminated() and any(reading.since < late for reading in list(_reading.values())):  # heard, but not obeyed
        return signal.SIGTERM
    try:
        with open("/proc/self/status", encoding="ascii") as file:
            waiting = next(int(line.split()[1], 16) for line in file if line.startswith("ShdPnd:"))
    except (OSError, StopIteration):
        return None
    return next((number for number in (signal.SIGTERM, signal.SIGINT) if waiting >> (number - 1) & 1), None)


# A folder that one process works on at a time.

LOCK = ".lock"


@contextmanager
def held(folder: Path, what: str) -> Iterator[None]:
    """Hold a folder, made if it is not there; the lock falls with the process, however it ends.

    Temporary files that a killed process left in it are removed, but for folders in it that are held by themselves.

    Args:
        folder: to hold.
        what: it is, for the error: "run".

    Raises:
        InputError: another process holds it, or it cannot be written.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        handle = os.open(folder / LOCK, os.O_RDWR | os.O_CREAT, 0o644)
    except OSError as error:
        raise InputError(f"cannot write here ({error.strerror})", where=folder) from error
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise InputError(
                f"another process is working on this {what}", where=folder, fix="Wait for it, or stop it."
            ) from error
        _sweep(folder)
        yield
    finally:
        os.close(handle)


def _sweep(folder: Path) -> None:
    for place, folders, names in os.walk(folder):
        folders[:] = [name for name in folders if not os.path.exists(os.path.join(place, name, LOCK))]
        for name in names:
            if name.startswith(".") and name.endswith(".tmp"):
                Path(place, name).unlink(missing_ok=True)
