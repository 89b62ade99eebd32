"""Training on photographs without keypoints, as the command line names it: ``synthetic:PHOTOGRAPHS``,
``same-class:PHOTOGRAPHS``."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import datasets

from baselines import registry
from baselines.recipe import SYNTHETIC
from benchmark.running.data import NamedPairs, evenly
from sc_imagenet.core.errors import InputError
from sc_imagenet.data.catalog import canonical, catalog
from sc_imagenet.data.pairs import PairDataset
from sc_imagenet.data.photograph_pairs import manifest_of, of_one_class, with_themselves
from sc_imagenet.data.roots import open_source
from sc_imagenet.data.synthetic import SyntheticPairs

SAME_CLASS = "same-class"
ROWS = {SYNTHETIC: with_themselves, SAME_CLASS: of_one_class}
WEAK = ("weak",)  # what models learn from whose pairs have no keypoints


def training_pairs(text: str, model: str, root: Path | None) -> NamedPairs:
    """What a person gave to ``--pretrain`` or ``--finetune``: NAME[:SPLIT], a generated set's folder, or photographs.

    Raises:
        InputError: unknown data set or folder, or the model learns nothing of such pairs.
    """
    kind, _, where = text.partition(":")
    if kind not in ROWS:
        return NamedPairs.parse(text, "train", root)
    card = registry.card(model)
    if kind == SAME_CLASS and card.supervision not in WEAK:
        raise InputError(
            f"{card.name} learns nothing of pairs that only show the same class",
            where=text,
            fix=f"Give {SYNTHETIC}:{where}, or a data set with keypoints.",
        )
    folder, data_set = photograph_folder(where, root)
    return PhotographPairs(kind, "train", folder, is_path=data_set is None, data_set=data_set)


def photograph_folder(where: str, root: Path | None) -> tuple[Path, str | None]:
    """The folder of photographs that a person named, and the data set where that was named.

    Of a data set it is where its images lie; toy's are those of its training pairs.

    Raises:
        InputError: no such folder or data set, or none of its images is here.
    """
    if where and Path(where).expanduser().is_dir():
        return Path(where).expanduser(), None
    if where.strip().lower().replace("_", "-") not in catalog():
        fix = "Give a folder of photographs, or the name of a data set."
        raise InputError("no such folder of photographs", where=where or "''", fix=fix)
    data_set = canonical(where)
    source = open_source(data_set, root)
    named = source.photographs()
    folder = named[0] if named is not None else source.image_root()
    if folder is None:
        raise InputError("its images are not here", where=where, fix=f"See 'scbench data info {data_set}'.")
    return folder, data_set


@dataclass(frozen=True)
class PhotographPairs(NamedPairs):
    """All photographs of a folder, ``root``: with random transformations of themselves, or with others of their class.

    dataset    "synthetic" or "same-class"
    data_set   whose images they are, where one was named
    """

    data_set: str | None = None

    def __str__(self) -> str:
        return self.name

    @cached_property
    def rows(self) -> datasets.Dataset:
        """A row for each pair, see ``sc_imagenet/data/photograph_pairs.py``."""
        assert self.root is not None
        return ROWS[self.dataset](self.root)

    @property
    def validation(self) -> None:
        """None: no PCK is known of such pairs, and the last weights are taken."""
        return None

    @cached_property
    def name(self) -> str:
        """What records call the pairs: kind and data set, or kind and folder."""
        assert self.root is not None
        own = "own " if self.root.name in catalog() else ""
        return f"{self.dataset}:{self.data_set or own + self.root.absolute().name}"

    @property
    def shortfall(self) -> None:
        """None: there is no published number of them."""
        return None

    @property
    def items(self) -> type[PairDataset]:
        """What makes model input of the rows."""
        return SyntheticPairs if self.dataset == SYNTHETIC else PairDataset

    @property
    def defined_by(self) -> type:
        """The class that says what the pairs are."""
        return type(self)

    def manifest(self) -> str:
        """The hash of which photographs make the pairs."""
        return manifest_of(self.rows)

    def open(self, limit: int | None = None) -> datasets.Dataset:
        """The rows; with ``limit`` so many of them, evenly spread."""
        return evenly(self.rows, limit)
