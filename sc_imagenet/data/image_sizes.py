"""How many images are stored, from their headers: each file is opened once, however many pairs name it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from sc_imagenet.core.errors import InputError
from sc_imagenet.core.workers import in_order, processes_for
from sc_imagenet.data.images import image_header
from sc_imagenet.data.orientation import Stored

CHUNK = 512

_root: Path


def image_sizes(root: Path, names: Sequence[str], processes: int | None = None) -> dict[str, Stored | str]:
    """Size and orientation of every image below ``root``, or in words why it has none."""
    chunks = [list(names[start : start + CHUNK]) for start in range(0, len(names), CHUNK)]
    count = processes_for(len(names), processes)
    sizes: dict[str, Stored | str] = {}
    for found in in_order(_sizes, chunks, count, _start, (root,)):
        sizes.update(found)
    return sizes


def _start(root: Path) -> None:
    global _root
    _root = root


def _sizes(names: list[str]) -> dict[str, Stored | str]:
    return {name: _size(_root / name) for name in names}


def _size(path: Path) -> Stored | str:
    try:
        return image_header(path)
    except InputError as error:
        if not path.exists():
            return "is not there"
        return str(error).removeprefix(f"{path}: ")
