"""Photographs that were decoded before: a file of lines, so that an interrupted scan goes on where it was."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Collection
from dataclasses import asdict
from pathlib import Path

from sc_imagenet.core.errors import InputError
from sc_imagenet.core.files import state_of
from sc_imagenet.core.slow_files import watched
from sc_imagenet.generation.classes import removed_classes
from sc_imagenet.generation.photographs import FEWEST_IMAGES, Photograph, Scan, scan

STATE = ("bytes", "mtime_ns", "ctime_ns")  # of a file, see ``sc_imagenet.core.files``


def scan_kept(
    root: Path,
    seen: Path,
    *,
    only: Collection[str] | None = None,
    fewest: int = FEWEST_IMAGES,
    report: Callable[[int, int], None] = lambda done, total: None,
) -> tuple[Scan, int]:
    """Scan a folder without the classes that the class list removes; what ``seen`` knows is not decoded again.

    Args:
        root: ``<folder>/<class>/<image>``.
        seen: file of lines; what is decoded now is added to it.
        only: look at these class folders alone; None: at all of them.
        fewest: classes with fewer usable photographs are left out.
        report: called with (files looked at, files in all).

    Returns:
        The scan, and how many photographs were known before.

    Raises:
        InputError: no folder, or no class is left.
    """
    known = _read_seen(seen, root)
    with _appending(seen) as write:
        found = scan(
            root,
            only=only,
            removed=removed_classes(),
            fewest=fewest,
            known=known,
            keep=lambda photograph: write(photograph, root),
            report=report,
        )
    return found, len(known)


class _appending:
    """Appends photographs to a file of lines; what a killed process left of a line is read over."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __enter__(self) -> Callable[[Photograph, Path], None]:
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._file = open(self.path, "a", encoding="utf-8")
        except OSError as error:
            raise InputError(f"cannot write here ({error.strerror})", where=self.path) from error
        self._file.write("\n")  # after what may be a part of a line
        return self._write

    def _write(self, photograph: Photograph, root: Path) -> None:
        with watched(root / photograph.path):
            state = state_of(root / photograph.path)
        if state is None:
            return
        line = {**asdict(photograph), **dict(zip(STATE, state))}
        self._file.write(json.dumps(line, ensure_ascii=False) + "\n")

    def __exit__(self, *error: object) -> None:
        self._file.close()


def _read_seen(path: Path, root: Path) -> dict[str, Photograph]:
    """Photographs of an earlier scan whose files have not changed since."""
    if not path.exists():
        return {}
    known = {}
    names = {field.name for field in dataclasses.fields(Photograph)}
    for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
        try:
            row = json.loads(line)
            with watched(root / row["path"]):
                state = state_of(root / row["path"])
            # Lines of earlier versions do not tell the last of the three.
            if state is not None and state == (row["bytes"], row["mtime_ns"], row.get("ctime_ns", state[2])):
                known[row["path"]] = Photograph(**{name: row[name] for name in names})
        except (ValueError, KeyError, TypeError, OSError, RecursionError):
            continue  # a part of a line, or a file that is gone
    return known
