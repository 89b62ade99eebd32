"""A folder that one process works on at a time."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from sc_imagenet.core.errors import InputError

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
