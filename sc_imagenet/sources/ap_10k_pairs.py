"""Which pairs AP-10K's correspondence benchmark has: GeoAware-SC's notebook, its order of files an input.

Images are cut into splits and pairs drawn by one seeded generator, species for species, in the order that the file
system lists folders and files; so every laboratory that ran the notebook tests on other pairs. With ``order=None``
names are in bytewise order, and nothing else is changed: that list is the same everywhere, and its SHA-256 says so.

    intra          all combinations of a species' images to test and validate, at most 50 an image to train
    cross_species  a family's species with one another: at most 900 to test, 400 to validate a family
    cross_family   families with one another: at most 30 to test, 20 to validate two families

A pair is drawn where three points or more are seen in both, one of visibility 1 counting half on its side.
"""

from __future__ import annotations

import hashlib
import itertools
import os
import random
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import numpy as np

from sc_imagenet.core.errors import InputError
from sc_imagenet.sources.tables import read_lines

SEED = 42
TEST, VALIDATION = 30, 20  # images of a species
FEWEST_POINTS = 3
SPLITS = ("train", "validation", "test")
KINDS = ("intra", "cross_species", "cross_family")

Order = Mapping[str, tuple[list[str], list[str]]]  # folder below ImageAnnotation -> its folders, its files
Lists = dict[str, list[str]]  # "test_cross_family" -> stems "<source>-<target>:<group>"


@dataclass(frozen=True)
class Animal:
    """One image: its number, whose it is, and the visibility 0, 1 or 2 of its points, (17,)."""

    number: int
    family: str
    species: str
    visibility: tuple[int, ...]
    dropped: bool = False  # crowded: in no split

    @property
    def stem(self) -> str:
        """The image's name without its ending.

        >>> Animal(4, "Bovidae", "antelope", ()).stem
        '000000000004'
        """
        return f"{self.number:012d}"


def read_order(path: Path) -> Order:
    """The order in which a file system lists: a line a folder, ``folder|its folders|its files``, comma-separated.

    ``python -c "import os; [print(f'{a}|{\",\".join(b)}|{\",\".join(c)}') for a, b, c in os.walk('ImageAnnotation')]"``
    prints it; the first line is the folder that holds the families.

    Raises:
        InputError: missing, or a line that is none.
    """
    order: dict[str, tuple[list[str], list[str]]] = {}
    top: str | None = None
    for number, line in enumerate(read_lines(path), start=1):
        parts = line.split("|")
        if len(parts) != 3:
            raise InputError(f"line {number} is not 'folder|folders|files'", where=path)
        top = parts[0] if top is None else top
        below = os.path.relpath(PurePosixPath(parts[0]), PurePosixPath(top))
        order["" if below == "." else below] = ([n for n in parts[1].split(",") if n], parts[2].split(","))
    return order


def bytewise(animals: Iterable[Animal]) -> Order:
    """The order in which names are compared byte by byte."""
    order: dict[str, tuple[set[str], set[str]]] = {"": (set(), set())}
    for each in animals:
        order[""][0].add(each.family)
        order.setdefault(each.family, (set(), set()))[0].add(each.species)
        order.setdefault(f"{each.family}/{each.species}", (set(), set()))[1].add(f"{each.stem}.json")
    return {
        folder: (sorted(folders, key=os.fsencode), sorted(files, key=os.fsencode))
        for folder, (folders, files) in order.items()
    }


def species_splits(animals: Sequence[Animal], order: Order) -> dict[tuple[str, str], dict[str, list[Animal]]]:
    """Of each (family, species), in the order given, the images of every split in theirs.

    The last thirty are to test, twenty before them to validate, the rest to train.

    Raises:
        InputError: the order names an image that is not there, or lacks one that is.
    """
    by_place = {(each.family, each.species, f"{each.stem}.json"): each for each in animals}
    found: dict[tuple[str, str], dict[str, list[Animal]]] = {}
    listed = 0
    for family in order[""][0]:
        for species in order.get(family, ([], []))[0]:
            names = [name for name in order.get(f"{family}/{species}", ([], []))[1] if name.endswith(".json")]
            missing = next((name for name in names if (family, species, name) not in by_place), None)
            if missing is not None:
                raise InputError(f"the order names {family}/{species}/{missing[:40]}, no image of the annotations")
            listed += len(names)
            here = [by_place[family, species, name] for name in names]
            kept = [a for a in here if not a.dropped and np.count_nonzero(a.visibility) >= FEWEST_POINTS]
            test = min(TEST, len(kept))
            validation = min(VALIDATION, len(kept) - test)
            rest = len(kept) - test - validation
            found[family, species] = {
                "train": kept[:rest],
                "validation": kept[rest : rest + validation],
                "test": kept[rest + validation :],
            }
    if listed != len(by_place):
        raise InputError(f"the order lists {listed:,} images, the annotations have {len(by_place):,}")
    return found


def pair_lists(animals: Sequence[Animal], order: Order | None = None) -> Lists:
    """The stems of every split's pairs, sorted; with an ``order`` those that the notebook draws on its file system.

    Raises:
        InputError: the order is of other images.
    """
    species = species_splits(animals, order or bytewise(animals))
    lists: Lists = {}
    chance = random.Random(SEED)
    for split in ("train", "test", "validation"):
        drawn: list[str] = []
        for (_, name), images in species.items():
            mixed = list(images[split])
            chance.shuffle(mixed)
            kept = _enough(mixed)
            most = 50 * len(mixed) if split == "train" else len(kept)
            drawn += _stems(chance.sample(kept, min(most, len(kept))), name)
        lists[split] = sorted(drawn)
    families: dict[str, list[dict[str, list[Animal]]]] = {}
    for (family, _), images in species.items():
        families.setdefault(family, []).append(images)
    chance = random.Random(SEED)
    for split, most in (("validation", 400), ("test", 900)):
        drawn = []
        for family, members in families.items():
            kept = []
            for one, other in itertools.combinations(members, 2):
                first, second = one[split], other[split]
                for _ in range(len(first) * len(second)):
                    chance.random()  # the notebook draws a direction here, and does not use it
                kept += _enough(first, second)
            if len(members) > 1:
                drawn += _stems(chance.sample(kept, min(most, len(kept))), family)
        lists[f"{split}_cross_species"] = sorted(drawn)
    chance = random.Random(SEED)
    for split, most in (("test", 30), ("validation", 20)):
        drawn = []
        whole = [[animal for images in members for animal in images[split]] for members in families.values()]
        for first, second in itertools.combinations(whole, 2):
            kept = _enough(first, second)
            drawn += _stems(chance.sample(kept, min(most, len(kept))), "all")
        lists[f"{split}_cross_family"] = sorted(drawn)
    return lists


def fingerprint(stems: Iterable[str]) -> str:
    """The SHA-256 of a list of pairs: its stems, sorted, joined by newlines.

    >>> fingerprint(["b-c:cat", "a-b:cat"])[:12]
    'dcf93a041883'
    """
    return hashlib.sha256("\n".join(sorted(stems)).encode()).hexdigest()


def _enough(first: Sequence[Animal], second: Sequence[Animal] | None = None) -> list[tuple[Animal, Animal]]:
    """Every two of ``first``, or each of it with each of ``second``, that have enough points; in the order of loops."""
    others = first if second is None else second
    if not first or not others:
        return []
    one, two = (np.array([each.visibility for each in side]) / 2 for side in (first, others))
    enough = one @ two.T >= FEWEST_POINTS  # sums of quarters: exact
    return [(first[i], others[j]) for i, j in np.argwhere(np.triu(enough, 1) if second is None else enough)]


def _stems(pairs: Iterable[tuple[Animal, Animal]], group: str) -> list[str]:
    return [f"{source.stem}-{target.stem}:{group}" for source, target in pairs]
