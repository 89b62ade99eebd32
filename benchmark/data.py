"""Data sets as the command line names them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import datasets
import numpy as np

from benchmark.progress import library_bars
from sc_imagenet import load_dataset
from sc_imagenet.catalog import CATALOG, canonical, info
from sc_imagenet.convert import convert
from sc_imagenet.errors import InputError, unknown_name
from sc_imagenet.set_name import set_name
from sc_imagenet.shards import Record


@dataclass(frozen=True)
class Pairs:
    """One split of a data set: ``pf-willow:images_test``, or a folder that holds a generated set.

    dataset   the catalogue's name; a folder's pairs have SC-ImageNet's form, and so its protocol and recipes
    is_path   whether a folder was named
    """

    dataset: str
    split: str
    root: Path | None = None
    is_path: bool = False

    @classmethod
    def parse(cls, text: str, split: str, root: Path | None) -> Pairs:
        """Read NAME, NAME:SPLIT or the path of a folder written by ``scbench generate``.

        >>> Pairs.parse("spair_71k:validation", "test", None).split
        'validation'

        Raises:
            InputError: unknown data set or split.
        """
        if Path(text).is_dir() and text.lower().replace("_", "-") not in CATALOG:
            return cls("sc-imagenet", split, Path(text), is_path=True)
        name, _, given = text.partition(":")
        dataset = canonical(name)
        wanted = given or split
        splits = info(dataset).splits
        if given and given not in splits:
            raise unknown_name(f"split of {dataset}", given, splits)
        if wanted not in splits:
            raise InputError(
                f"{dataset} has no {wanted!r} split",
                fix=f"Name one: {', '.join(f'{dataset}:{s}' for s in splits)}",
            )
        return cls(dataset, wanted, root)

    def __str__(self) -> str:
        return f"{self.dataset}:{self.split}"

    @property
    def validation(self) -> Pairs | None:
        """The validation split of the same data set, where it has one and this is its training split."""
        if self.split != "train" or "validation" not in info(self.dataset).splits:
            return None
        return Pairs(self.dataset, "validation", self.root, self.is_path)

    def record(self) -> Record:
        """Counts, classes and manifest of the split; converts it if that was not done before."""
        return convert(self.dataset, self.split, self.root)

    @property
    def name(self) -> str:
        """What records call the set: a generated one has its own name (see ``sc_imagenet/set_name.py``)."""
        if self.dataset != "sc-imagenet":
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
        with library_bars():
            rows = load_dataset(self.dataset, split=self.split, root=self.root)
        if limit is not None and limit < len(rows):
            rows = rows.select(np.linspace(0, len(rows) - 1, limit).round().astype(int))
        if len(rows) == 0:
            raise InputError(f"{self} holds no pairs")
        return rows
