"""The sizes of many images, from their headers: each file is opened once, however many pairs name it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from sc_imagenet.workers import in_order, processes_for

CHUNK = 512

_root: Path


def image_sizes(root: Path, names: Sequence[str], processes: int | None = None) -> dict[str, tuple[int, int] | str]:
    """(width, height) of every image below ``root``, or in words why it has none."""
    chunks = [list(names[start : start + CHUNK]) for start in range(0, len(names), CHUNK)]
    count = processes_for(len(names), processes)
    sizes: dict[str, tuple[int, int] | str] = {}
    for found in in_order(_sizes, chunks, count, _start, (root,)):
        sizes.update(found)
    return sizes


def _start(root: Path) -> None:
    global _root
    _root = root


def _sizes(names: list[str]) -> dict[str, tuple[int, int] | str]:
    return {name: _size(_root / name) for name in names}


def _size(path: Path) -> tuple[int, int] | str:
    from PIL import Image

    try:
        with Image.open(path) as image:
            return image.size
    except FileNotFoundError:
        return "is not there"
    except OSError as error:  # Pillow's UnidentifiedImageError is one
        empty = path.is_file() and path.stat().st_size == 0
        return (
            "is empty (0 bytes)"
            if empty
            else f"is not an image that can be read ({error.strerror or 'unknown format'})"
        )
    except Exception as error:  # a decoder given malformed bytes may raise anything at all
        return f"is damaged ({error or type(error).__name__})"
