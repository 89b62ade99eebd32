"""DIY-SC (Duenkel et al., 2025): pseudo-labels for SPair-71k's images.

    {trn,val}/<category>_anns.json   a list of entries
    {trn,val}/<category>_<...>.json  or one entry a file
    JPEGImages/<category>/           SPair-71k's images: here, or in a spair-71k folder beside this one

An entry has src_imname, trg_imname, num_kps, source_kps, target_kps, img_size_kps: points (x, y) in a square
of side S = img_size_kps in which the image lies centred with its proportions kept; so x = (x' - offset) /
scale with scale = S / longer side and offset = (S - shorter side * scale) / 2, whole pixels. The points are
corners of a grid of patches over that square, so those of patches at the rim of the object may lie in the
padding, outside the image: they are counted and kept. ``flip`` marks a mirrored target only; such entries
have no place in a schema that mirrors both images and are refused.
"""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Any

from sc_imagenet.errors import InputError
from sc_imagenet.files import State, read_json, state_of
from sc_imagenet.sources.source import Annotation, Entry, Size, Source, first_existing
from sc_imagenet.sources.spair_71k import CATEGORIES

FOLDERS = {"train": "trn", "validation": "val"}


class DiySc(Source):
    """DIY-SC with SPair-71k's images."""

    name = "diy-sc"
    outside = "keep"

    def missing(self, split: str) -> str | None:
        if not self._files(split):
            return f"{self.root / FOLDERS[split]} holds no <category>_anns.json"
        if self.image_root() is None:
            return (
                "SPair-71k's images are not at hand, which DIY-SC labels: neither "
                f"{self.root / 'JPEGImages'} nor {self.root.parent / 'spair-71k'} is there"
            )
        return None

    def categories(self) -> tuple[str, ...]:
        return CATEGORIES

    def image_root(self) -> Path | None:
        beside = (self.root.parent / name / "JPEGImages" for name in ("spair-71k", "SPair-71k", "spair_71k"))
        return first_existing(self.root / "JPEGImages", *beside)

    def entries(self, split: str) -> list[Entry]:
        entries: list[Entry] = []
        for path in self._files(split):
            category = path.stem.split("_")[0]
            if category not in CATEGORIES:
                raise InputError(f"its name begins with no category of SPair-71k: {category!r}", where=path)
            for index, content in enumerate(_read(path)):
                if not isinstance(content, dict):
                    raise InputError(f"entry {index} is not an annotation", where=path)
                try:
                    source, target = str(content["src_imname"]), str(content["trg_imname"])
                except KeyError as error:
                    raise InputError(f"entry {index} has no key {error}", where=path) from error
                if content.get("flip"):
                    raise InputError(f"entry {index} mirrors its target only, which is not read", where=path)
                pair_id = f"{len(entries):06d}-{Path(source).stem}-{Path(target).stem}:{category}"
                images = (f"{category}/{source}", f"{category}/{target}")
                entries.append(Entry(pair_id, category, *images, (path, index)))
        return entries

    def annotation(self, entry: Entry, source_size: Size | None, target_size: Size | None) -> Annotation:
        path, index = entry.annotation
        content = _read(path)[index]
        try:
            side = float(content["img_size_kps"])
            source = [_unpad(point, side, source_size) for point in content["source_kps"]]
            target = [_unpad(point, side, target_size) for point in content["target_kps"]]
        except (KeyError, TypeError, ValueError, OverflowError, ZeroDivisionError) as error:
            raise InputError(f"entry {index} is not an annotation ({error})", where=path) from error
        return Annotation(source, target, f"{path} entry {index}")

    def fingerprint(self, split: str) -> tuple[list[Path], list[Path]]:
        images = self.image_root()
        return [], [*self._files(split), *([images] if images else [])]

    def _files(self, split: str) -> list[Path]:
        folder = FOLDERS.get(split)
        return sorted((self.root / folder).glob("*_*.json")) if folder else []


def _read(path: Path) -> list[Any]:
    return _read_state(path, state_of(path))


@functools.lru_cache(maxsize=4)
def _read_state(path: Path, state: State | None) -> list[Any]:
    content = read_json(path)
    if isinstance(content, dict):
        return [content]
    if not isinstance(content, list) or not content:
        raise InputError("is not a list of annotations", where=path)
    return content


def _unpad(point: list[float], side: float, size: Size | None) -> list[float]:
    """From the padded square of side ``side`` to pixels of an image of ``size``."""
    assert size is not None  # images are needed for this set
    width, height = size
    scale = side / max(size)
    left, top = (int((side - round(side * length / max(size))) / 2) for length in (width, height))
    x, y = point
    return [(float(x) - left) / scale, (float(y) - top) / scale]
