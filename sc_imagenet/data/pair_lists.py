"""Lists of pairs as text, known by their SHA-256, and how far two of them overlap.

A list is a stem or pair id a line, in any order; its fingerprint is that of the sorted stems joined by newlines. Two
laboratories whose lists differ test on other pairs, and their scores differ by that alone.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from sc_imagenet.core.errors import InputError
from sc_imagenet.core.files import atomic_path, files_in
from sc_imagenet.data.catalog import canonical, info
from sc_imagenet.data.convert import available_splits, why_none
from sc_imagenet.data.roots import open_source
from sc_imagenet.sources.ap_10k import Ap10k
from sc_imagenet.sources.ap_10k_pairs import fingerprint, pair_lists, read_order
from sc_imagenet.sources.tables import read_lines

SUMS = "SHA256SUMS"
WORST_SPREAD = 50.0  # points: the standard deviation that shares between 0 and 100 % cannot exceed


@dataclass(frozen=True)
class PairList:
    """A list of pairs of one split."""

    name: str
    stems: tuple[str, ...]  # sorted

    @property
    def sha256(self) -> str:
        """The fingerprint."""
        return fingerprint(self.stems)


@dataclass(frozen=True)
class Overlap:
    """How far two lists are the same.

    shared, reversed_   pairs in both; and those that are in both with source and target exchanged
    images              images in both, in the first and in the second
    moves               points of a mean over pairs, between the lists, that chance alone exceeds once in twenty, where
                        the score of a pair spreads by ``WORST_SPREAD``; proportional to that spread
    """

    first: int
    second: int
    shared: int
    reversed_: int
    images: tuple[int, int, int]
    moves: float


def lists_of(name: str, root: Path | None = None, order: Path | None = None) -> list[PairList]:
    """The lists of a data set's splits that are here; AP-10K's also in the order that a file system lists.

    Raises:
        InputError: nothing of it is here, or an order is given for another data set or of other images.
    """
    name = canonical(name)
    source = open_source(name, root)
    splits = available_splits(source)
    here = [split for split, why in splits.items() if why is None]
    if not here:
        raise InputError(f"{info(name).title} cannot be read: {why_none({s: w for s, w in splits.items() if w})}")
    if order is not None:
        if not isinstance(source, Ap10k):
            raise InputError(f"the pairs of {name} hang on no order of files", fix="Leave --order out.")
        animals = [each.animal for each in source.photographs_by_id().values()]
        return [PairList(split, tuple(stems)) for split, stems in pair_lists(animals, read_order(order)).items()]
    return [PairList(split, tuple(sorted(entry.pair_id for entry in source.entries(split)))) for split in here]


def write_lists(lists: Iterable[PairList], folder: Path) -> None:
    """Write each list as ``<split>.txt``, and their fingerprints into ``SHA256SUMS``, which sha256sum can check."""
    folder.mkdir(parents=True, exist_ok=True)
    sums = []
    for each in lists:
        with atomic_path(folder / f"{each.name}.txt") as temporary:
            temporary.write_text("\n".join(each.stems), encoding="utf-8", newline="\n")
        sums.append(f"{each.sha256}  {each.name}.txt\n")
    with atomic_path(folder / SUMS) as temporary:
        temporary.write_text("".join(sums), encoding="utf-8")


def read_list(path: Path) -> PairList:
    """A list: a text file with a stem a line, or a folder of pair annotations named after their pairs.

    Raises:
        InputError: neither, empty, or a pair twice.
    """
    if path.is_dir():
        found = [each.stem for each in files_in(path, ".json")]
        if not found:
            raise InputError("holds no pair annotations (*.json)", where=path)
    else:
        found = [line.removesuffix(".json") for line in read_lines(path)]
    if len(set(found)) < len(found):
        twice = next(stem for stem in sorted(found) if found.count(stem) > 1)
        raise InputError(f"lists pair {twice[:80]!r} twice", where=path, fix="Remove one of them.")
    return PairList(path.name, tuple(sorted(found)))


def overlap(first: PairList, second: PairList) -> Overlap:
    """How far two lists are the same, and by how much a mean over one may differ from that over the other.

    Pairs are taken as drawn independently; they share images, so the true spread is larger.

    >>> overlap(PairList("a", ("1-2:cat", "1-3:cat")), PairList("b", ("1-2:cat", "3-1:cat"))).reversed_
    1
    """
    one, two = set(first.stems), set(second.stems)
    shared = len(one & two)
    turned = len({_turned(stem) for stem in one - two} & (two - one))
    images = [{image for stem in side for image in _images(stem)} for side in (one, two)]
    variance = 1 / len(one) + 1 / len(two) - 2 * shared / (len(one) * len(two))
    return Overlap(
        len(one),
        len(two),
        shared,
        turned,
        (len(images[0] & images[1]), len(images[0]), len(images[1])),
        1.96 * WORST_SPREAD * math.sqrt(max(0.0, variance)),
    )


def _images(stem: str) -> tuple[str, str]:
    one, _, two = stem.rpartition(":")[0].rpartition("-")
    return one, two


def _turned(stem: str) -> str:
    one, two = _images(stem)
    return f"{two}-{one}:{stem.rpartition(':')[2]}"
