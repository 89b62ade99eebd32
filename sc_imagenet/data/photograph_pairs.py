"""Pairs without keypoints, made of any folder of photographs: each with itself, or with others of its class."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import datasets
import numpy as np

from sc_imagenet.core.errors import InputError
from sc_imagenet.core.locks import watched
from sc_imagenet.data.schema import pair_features
from sc_imagenet.data.shard_writing import image_sizes

ENDINGS = (".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff", ".ppm", ".gif")  # in any letters
NO_CLASS = "photographs"  # the class of those that lie in no folder of a class
PARTNERS = 2  # of its class that each photograph is paired with

Photograph = tuple[str, str]  # path below the folder, with forward slashes, and class


def photographs_below(folder: Path) -> list[Photograph]:
    """All photographs below a folder, by path; the class of each is the first folder on its way.

    Names that begin with a dot are nobody's data.

    Raises:
        InputError: there is none, or one of them cannot be opened.
    """
    with watched(folder):
        found = sorted(
            path.relative_to(folder)
            for path in folder.rglob("*")
            if path.name.lower().endswith(ENDINGS)
            and not any(part.startswith(".") for part in path.relative_to(folder).parts)
        )
        if not found:
            raise InputError("holds no photographs", where=folder, fix=f"They end in {', '.join(ENDINGS)}.")
        names = [path.as_posix() for path in found]
        for name, size in image_sizes(folder, names).items():
            if isinstance(size, str):
                raise InputError(size, where=f"{folder}/{name}", fix="Get the photograph again, or remove it.")
    return [(name, path.parts[0] if len(path.parts) > 1 else NO_CLASS) for name, path in zip(names, found)]


def with_themselves(folder: Path) -> datasets.Dataset:
    """A row for each photograph, which is source and target; of ``sc_imagenet.data.synthetic.SyntheticPairs``.

    Raises:
        InputError: see ``photographs_below``.
    """
    found = photographs_below(folder)
    return _rows(folder, found, [(number, number) for number in range(len(found))])


def of_one_class(folder: Path) -> datasets.Dataset:
    """Rows of two photographs of one class: each is the source of two, if its class has as many others.

    Which ones is drawn once, by the paths alone.

    Raises:
        InputError: see ``photographs_below``; or no class has two.
    """
    found = photographs_below(folder)
    members: dict[str, list[int]] = {}
    for number, (_, category) in enumerate(found):
        members.setdefault(category, []).append(number)
    pairs = []
    for own in members.values():
        if len(own) > 1:
            ring = np.random.default_rng(_seed(found[own[0]][0])).permutation(own)
            pairs += [(ring[k], ring[(k + step) % len(own)]) for k in range(len(own)) for step in _steps(len(own))]
    if not pairs:
        raise InputError("has no class with two photographs", where=folder, fix="Give <folder>/<class>/<photograph>.")
    return _rows(folder, found, pairs)


def _steps(count: int) -> range:
    return range(1, min(PARTNERS, count - 1) + 1)


def _seed(name: str) -> int:
    return int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], "little")


def manifest_of(rows: datasets.Dataset) -> str:
    """The hash of which photographs make the pairs; not of what they show, nor of where the folder lies."""
    return hashlib.sha256("\n".join(rows["pair_id"]).encode()).hexdigest()


def _rows(folder: Path, found: list[Photograph], pairs: list[tuple[int, int]]) -> datasets.Dataset:
    categories = sorted({category for _, category in found})
    features = pair_features(categories)
    numbers = {category: number for number, category in enumerate(categories)}
    columns: dict[str, list[Any]] = {name: [None] * len(pairs) for name in features}
    columns["pair_id"] = [f"{found[source][0]} {found[target][0]}" for source, target in pairs]
    columns["dataset"] = [folder.name] * len(pairs)
    columns["category"] = [numbers[found[source][1]] for source, _ in pairs]
    for side, name in enumerate(("source", "target")):
        paths = [str(folder / found[pair[side]][0]) for pair in pairs]
        columns[name] = [{"path": path, "bytes": None} for path in paths]
        columns[f"{name}_points"] = [[] for _ in pairs]
    columns["mirrored"] = [False] * len(pairs)
    for grade in ("viewpoint_variation", "scale_variation", "truncation", "occlusion"):
        columns[grade] = [-1] * len(pairs)
    return datasets.Dataset.from_dict(columns, features=features)
