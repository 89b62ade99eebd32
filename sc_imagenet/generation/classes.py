"""Which ImageNet classes a data set is made from: those whose objects have parts that can be told apart.

The paper keeps 679 of the 1,000 classes and names two that it removes, "conch" and "lakeside"; its list is not
published. ``imagenet_classes.csv`` is ours: 679 kept, and for each of the others the reason why it is not.
"""

from __future__ import annotations

import csv
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from functools import lru_cache
from importlib.resources import files
from pathlib import Path

FILTERED_IMAGENET = "filtered-imagenet"  # the kept classes: photographs with class names, no data set of pairs


@dataclass(frozen=True)
class ImageNetClass:
    """A class of ImageNet's 1,000; ``reason`` says why it is not kept, "" where it is."""

    wnid: str
    name: str
    kept: bool
    reason: str


@lru_cache(maxsize=1)
def imagenet_classes() -> tuple[ImageNetClass, ...]:
    """All 1,000 classes, by wnid."""
    text = (files("sc_imagenet.generation") / "imagenet_classes.csv").read_text(encoding="utf-8")
    rows = csv.DictReader(text.splitlines())
    return tuple(ImageNetClass(row["wnid"], row["name"], row["kept"] == "yes", row["reason"]) for row in rows)


def name_of_photographs(root: Path, classes: Collection[str], images: int) -> str:
    """What results call photographs that a network was trained on.

    ``FILTERED_IMAGENET`` where their classes are the kept ones of ImageNet, all of them and no other; else the
    folder's name and what it holds.

    >>> name_of_photographs(Path("photographs"), ["cat", "dog"], 40)
    'photographs (2 classes, 40 images)'
    """
    if set(classes) == {each.wnid for each in imagenet_classes() if each.kept}:
        return FILTERED_IMAGENET
    return f"{root.absolute().name} ({len(classes)} classes, {images:,} images)"


def removed_classes() -> Mapping[str, str]:
    """wnid -> why the class is not kept. A folder is only called by a wnid where it is that class.

    >>> removed_classes()["n09332890"]
    'a landscape (named by the paper)'
    """
    return {each.wnid: each.reason for each in imagenet_classes() if not each.kept}
