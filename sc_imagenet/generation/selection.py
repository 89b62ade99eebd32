"""What of a class becomes data: the images, pairs and points whose loops close best.

The paper keeps the top 30 % of images and 32 points a pair; 113,516 images * 7 = 794,612 pairs exactly, so every kept
image is the source of 7 pairs, and since no other image is in its set their targets are kept images too. [R] So a
class of n images keeps floor(0.3 n); these are matched anew with one another, in groups of their own, and each is the
source of its 7 best pairs with 32 points.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sc_imagenet.generation.loops import CliqueLoops, Floats, Grid

Bools = NDArray[np.bool_]


@dataclass(frozen=True)
class Rules:
    """How much is kept; the defaults are the paper's.

    share    of a class's images
    pairs    of each kept image, as their source
    points   of each pair
    """

    share: float = 0.3
    pairs: int = 7
    points: int = 32


@dataclass(frozen=True)
class LabelledPair:
    """A pair of images, numbers within the class, and its points in cells of their grids.

    offset  (K,) cells: mean |P - P'| of each point's loops
    score   their mean over the whole foreground; smaller is better
    """

    source: int
    target: int
    source_places: Floats
    target_places: Floats
    confidence: Floats
    offset: Floats
    score: float


def keep_images(scores: Floats, share: float) -> list[int]:
    """The floor(share * n) images whose loops close best, in their order.

    >>> keep_images(np.float32([3, 1, 2, 5, 4, 9, 8, 7, 6, 1]), 0.3)
    [1, 2, 9]
    """
    count = math.floor(share * len(scores) + 1e-9)  # 0.3 * 10 is 3
    return sorted(np.argsort(scores, kind="stable")[:count].tolist())


def choose_pairs(groups: Sequence[CliqueLoops], foreground: Bools, grid: Grid, rules: Rules) -> list[LabelledPair]:
    """The best pairs of every image, by source, each with its best points.

    Args:
        groups: loops of groups of the kept images; a pair that is in several takes the mean of its offsets.
        foreground: (images, N).
        grid: of the images.
        rules: how many.
    """
    by_pair: dict[tuple[int, int], list[tuple[CliqueLoops, int, int]]] = {}
    for group in groups:
        for i, s in enumerate(group.images):
            for j, t in enumerate(group.images):
                if i != j:
                    by_pair.setdefault((s, t), []).append((group, i, j))
    by_source: dict[int, list[LabelledPair]] = {}
    for (s, t), places in sorted(by_pair.items()):
        offset = np.stack([group.offset[i, j] for group, i, j in places]).mean(0)
        group, i, j = places[0]
        score = float(offset[foreground[s]].mean()) if foreground[s].any() else math.inf
        pair = _with_points(s, t, group.places[i, j], group.confidence[i, j], offset, score, foreground, grid, rules)
        if len(pair.offset):
            by_source.setdefault(s, []).append(pair)
    chosen = []
    for pairs in by_source.values():
        pairs.sort(key=lambda pair: (len(pair.offset) < rules.points, pair.score))  # sort is stable
        chosen += pairs[: rules.pairs]
    return chosen


def _with_points(
    source: int,
    target: int,
    places: Floats,
    confidence: Floats,
    offset: Floats,
    score: float,
    foreground: Bools,
    grid: Grid,
    rules: Rules,
) -> LabelledPair:
    """The pair with its points of the least offset, those between foreground and foreground alone."""
    rows, columns = grid
    column = np.clip(np.rint(places[:, 0]), 0, columns - 1).astype(int)
    row = np.clip(np.rint(places[:, 1]), 0, rows - 1).astype(int)
    allowed = np.flatnonzero(foreground[source] & foreground[target][row * columns + column])
    best = allowed[np.lexsort((-confidence[allowed], offset[allowed]))[: rules.points]]
    own = np.stack((best % columns, best // columns), -1).astype(np.float32)
    within = np.clip(places[best], -0.5, np.array([columns - 0.5, rows - 0.5], np.float32))
    return LabelledPair(source, target, own, within, confidence[best], offset[best], score)


def shortfalls(images: int, kept: int, pairs: Sequence[LabelledPair], rules: Rules) -> list[str]:
    """In words where a class falls short of the rules; empty where it does not.

    >>> shortfalls(20, 6, [], Rules())[0]
    '6 of 20 images are kept: at most 5 pairs an image, not 7'
    """
    said = []
    if kept - 1 < rules.pairs:
        said.append(f"{kept} of {images} images are kept: at most {max(kept - 1, 0)} pairs an image, not {rules.pairs}")
    wanted = kept * min(rules.pairs, max(kept - 1, 0))
    if len(pairs) < wanted:
        said.append(f"{wanted - len(pairs)} pairs have no point between foreground and foreground")
    few = sum(len(pair.offset) < rules.points for pair in pairs)
    if few:
        said.append(f"{few} of {len(pairs)} pairs have fewer than {rules.points} points between foregrounds")
    return said
