"""Data sets as the command line names them."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import datasets
import numpy as np

from sc_imagenet.core.errors import InputError, unknown_name
from sc_imagenet.core.files import sha256_of_all
from sc_imagenet.core.progress import library_bars
from sc_imagenet.data.catalog import canonical, catalog, info, reader
from sc_imagenet.data.convert import available_splits, convert, why_none
from sc_imagenet.data.imagenet import moved
from sc_imagenet.data.load import load_dataset, manifest_sha256
from sc_imagenet.data.pairs import PairDataset
from sc_imagenet.data.record import Record
from sc_imagenet.data.roots import open_source
from sc_imagenet.data.schema import set_name

# Data sets as the command line names them.

FORM = "sc-imagenet"  # of generated sets
ROWS = 4096  # looked at together


@dataclass(frozen=True)
class NamedPairs:
    """One split of a data set: ``pf-willow:images_test``, ``my-set``, or ``my-set:train``, a generated set's folder.

    dataset   the catalogue's name; a folder's pairs have SC-ImageNet's form, and so its protocol and recipes
    is_path   whether a folder was named
    """

    dataset: str
    split: str
    root: Path | None = None
    is_path: bool = False

    @classmethod
    def parse(cls, text: str, split: str, root: Path | None) -> NamedPairs:
        """Read NAME or NAME:SPLIT, where NAME may be the path of a folder written by ``scbench generate``.

        Where no SPLIT is named, ``split`` is taken; of a folder, which has no test split, "validation" for "test".

        >>> NamedPairs.parse("spair_71k:validation", "test", None).split
        'validation'

        Raises:
            InputError: unknown data set or split, or a folder that holds no such pairs.
        """
        name, given = (text, "") if _is_folder(text) or ":" not in text else text.rsplit(":", 1)
        is_path = _is_folder(name)
        if "/" in name and not is_path:
            fix = "Give one that 'scbench generate' wrote, or a name of 'scbench data list'."
            raise InputError("no such folder", where=name, fix=fix)
        try:
            dataset = FORM if is_path else canonical(name)
        except InputError as error:
            raise InputError(f"{error}, or the folder of a generated set") from error
        wanted = given or ("validation" if is_path and split == "test" else split)
        splits = info(dataset).splits
        if given and given not in splits:
            raise unknown_name(f"split of {name if is_path else dataset}", given, splits)
        if wanted not in splits:
            raise InputError(
                f"{dataset} has no {wanted!r} split",
                fix=f"Name one: {', '.join(f'{dataset}:{s}' for s in splits)}",
            )
        if is_path and open_source(FORM, Path(name)).missing(wanted):
            fix = "Give what 'scbench generate run PHOTOGRAPHS --out SET' made; given again, it finishes one."
            raise InputError(f"holds no data set with pairs of {wanted!r}", where=name, fix=fix)
        return cls(dataset, wanted, Path(name) if is_path else root, is_path)

    def __str__(self) -> str:
        return f"{self.dataset}:{self.split}"

    @property
    def validation(self) -> NamedPairs | None:
        """The validation split of the same data set, where it has one and this is its training split."""
        if self.split != "train" or "validation" not in info(self.dataset).splits:
            return None
        return NamedPairs(self.dataset, "validation", self.root, self.is_path)

    @property
    def items(self) -> type[PairDataset]:
        """What makes model input of the rows."""
        return PairDataset

    @property
    def defined_by(self) -> type:
        """The class that reads the data set."""
        return reader(self.dataset)

    def manifest(self) -> str:
        """The hash of the pairs and their annotations; cheap once converted."""
        return manifest_sha256(self.dataset, self.split, root=self.root)

    def record(self) -> Record:
        """Counts, classes and manifest of the split; converts it if that was not done before."""
        return convert(self.dataset, self.split, self.root)

    @property
    def form(self) -> str | None:
        """The catalogue's set that a set of another name is like; None for one of the catalogue."""
        return self.dataset if self.name != self.dataset else None

    @cached_property
    def name(self) -> str:
        """What records call the set: a generated one has its own name (see ``sc_imagenet/data/schema.py``)."""
        if self.dataset != FORM:
            return self.dataset
        return set_name(self.record(), self.root, self.is_path)

    @property
    def shortfall(self) -> str | None:
        """What a copy lacks of the published set, in words; None where nothing is missing or none is published."""
        entry, record = info(self.dataset), self.record()
        if self.name != self.dataset:
            return None
        published = entry.pairs.get(self.split)
        if published is not None and record.rows < published:
            return f"{record.rows:,} of the {published:,} pairs of {self.dataset}:{self.split}"
        if published is None and entry.classes is not None and len(record.categories) < entry.classes:
            return f"{len(record.categories)} of the {entry.classes} classes of {self.dataset}"
        return None

    def open(self, limit: int | None = None) -> datasets.Dataset:
        """The rows; with ``limit`` so many of them, evenly spread.

        Raises:
            InputError: the data is not here, or cannot be read.
        """
        if self.dataset == FORM:
            source = open_source(FORM, self.root)
            if source.image_root() is None:
                raise InputError(
                    moved(source.root / "JPEGImages"),
                    where=source.root,
                    fix="Let JPEGImages lead to them: scbench generate export --out SET --photographs FOLDER; or set "
                    "IMAGENET_ROOT where they are ImageNet's.",
                )
        with library_bars():
            rows = load_dataset(self.dataset, split=self.split, root=self.root)
        rows = evenly(rows, limit)
        if len(rows) == 0:
            raise InputError(f"{self} holds no pairs")
        return rows


def evenly(rows: datasets.Dataset, limit: int | None) -> datasets.Dataset:
    """So many of the rows, evenly spread; all of them with None, or where there are fewer."""
    if limit is None or limit >= len(rows):
        return rows
    return rows.select(np.linspace(0, len(rows) - 1, limit).round().astype(int))


def images_sha256(rows: datasets.Dataset, report: Callable[[int, int], None] = lambda done, total: None) -> str | None:
    """A hash of the content of the images of pairs, wherever they lie; None where one of them is not at hand.

    Args:
        rows: as ``NamedPairs.open`` gives them.
        report: called with (images read, images in all); those read before are not read again.
    """
    paths: dict[str, None] = {}
    digests = []
    for side in ("source", "target"):
        for image in _images(rows, side):
            if image["bytes"] is None:
                paths[image["path"]] = None
            else:
                digests.append(hashlib.sha256(image["bytes"]).hexdigest())
    digests += sha256_of_all([Path(path) for path in paths], report)
    return hashlib.sha256("\n".join(digests).encode()).hexdigest() if all(digests) else None


def image_contents(rows: datasets.Dataset) -> dict[str, list[str]]:
    """The SHA-256 of every pair's images, by side; of one that cannot be read that of its path, which is told later."""
    found: dict[str, list[str]] = {}
    known: dict[str, str] = {}
    for side in ("source", "target"):
        cells = [(image["path"], image["bytes"]) for image in _images(rows, side)]
        new = [path for path in dict.fromkeys(path for path, content in cells if content is None) if path not in known]
        known |= {path: digest or f"unread {path}" for path, digest in zip(new, sha256_of_all([Path(p) for p in new]))}
        found[side] = [
            known[path] if content is None else hashlib.sha256(content).hexdigest() for path, content in cells
        ]
    return found


def _images(rows: datasets.Dataset, side: str) -> Iterator[dict[str, Any]]:
    """The cells, path and bytes, of one side of pairs."""
    column = rows.select_columns([side]).cast_column(side, datasets.Image(decode=False)).with_format("arrow")
    for start in range(0, len(rows), ROWS):
        yield from column[start : start + ROWS][side].to_pylist()


def is_generated(text: str) -> bool:
    """Whether a person named a generated set: FOLDER, or FOLDER:SPLIT."""
    return _is_folder(text) or _is_folder(text.rpartition(":")[0])


def _is_folder(text: str) -> bool:
    return text != "" and Path(text).is_dir() and text.lower().replace("_", "-") not in catalog()


# Which splits of a data set a command is to work on.

FIRST_SHOWN = ("test", "validation", "train")


def readable_splits(name: str, root: str | Path | None = None) -> tuple[str, list[str]]:
    """The data set's name and its splits: the one of ``NAME:SPLIT``, else all that are on this machine.

    The one most often looked at comes first.

    Raises:
        InputError: unknown name or split, or nothing of it is here.
    """
    name, _, split = name.partition(":")
    name = canonical(name)
    entry = info(name)
    if split and split not in entry.splits:
        raise unknown_name(f"split of {name}", split, entry.splits)
    reasons = available_splits(open_source(name, root))
    here = [each for each, reason in reasons.items() if reason is None and split in ("", each)]
    if not here:
        absent = {each: reason for each, reason in reasons.items() if reason is not None and split in ("", each)}
        raise InputError(
            f"{entry.title} cannot be read: {why_none(absent)}",
            fix=f"'scbench data info {name}' tells the layout and how to get it.",
        )
    return name, sorted(here, key=lambda each: FIRST_SHOWN.index(each) if each in FIRST_SHOWN else 9)
