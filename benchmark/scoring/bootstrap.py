"""Averages over pairs with 95 % intervals from a bootstrap that everything scored together shares."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

_CHUNK = 250  # draws held at once


@dataclass(frozen=True)
class Score:
    """A percentage and the ends of its 95 % bootstrap interval over pairs; NaN where it cannot be had."""

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class Difference:
    """What two models score in percent, and second minus first in points.

    ``low`` and ``high`` end the 95 % interval of the difference over the bootstrap draws; ``in_favour`` is the
    share of draws in which the second is ahead, a tie counting half.
    """

    first: float
    second: float
    low: float
    high: float
    in_favour: float

    @property
    def value(self) -> float:
        """Second minus first, in points."""
        return self.second - self.first


@dataclass(frozen=True, eq=False)
class Quantity:
    """A share to be averaged over pairs: ``found`` of ``counts`` in each, (N,), under one of ``AVERAGES``.

    ``value``, a fraction, stands in for the average itself where a protocol rounds on the way to it.
    """

    name: str
    found: np.ndarray
    counts: np.ndarray
    average: str = "image"
    value: float | None = None


def bootstrap_weights(pairs: int, draws: int, seed: int = 0) -> Iterator[np.ndarray]:
    """How often each pair is drawn, (at most 250, pairs) at a time, ``draws`` rows in all.

    A draw takes as many pairs as there are, with replacement. The same arguments give the same weights, so
    two models scored on the same pairs can be compared draw by draw.
    """
    random = np.random.default_rng(seed)
    for start in range(0, draws, _CHUNK):
        rows = min(_CHUNK, draws - start)
        drawn = random.integers(pairs, size=(rows, pairs))
        drawn += np.arange(rows)[:, None] * pairs
        yield np.bincount(drawn.ravel(), minlength=rows * pairs).reshape(rows, pairs).astype(float)


class Averages:
    """The averages of quantities for any weights over N pairs; pairs without points count in none of them."""

    def __init__(self, quantities: Sequence[Quantity], categories: np.ndarray) -> None:
        names, category = np.unique(categories, return_inverse=True)
        order = np.argsort(category, kind="stable")  # pairs of a category next to each other
        ends = np.cumsum(np.bincount(category, minlength=len(names)))
        self.order = order
        self.slices = [slice(start, end) for start, end in zip((0, *ends[:-1].tolist()), ends.tolist())]
        self.quantities = quantities
        self.empty = len(category) == 0
        columns: list[np.ndarray] = []
        place: dict[tuple[str, int, int], int] = {}

        def column(kind: str, found: np.ndarray, counts: np.ndarray) -> int:
            """Quantities that differ in their average alone share columns, those with the same counts too."""
            key = (kind, 0 if kind in ("pairs", "points") else id(found), id(counts))
            if key not in place:
                place[key] = len(columns)
                values = {
                    "shares": lambda: found / np.maximum(counts, 1),
                    "hits": lambda: found,
                    "pairs": lambda: counts > 0,
                    "points": lambda: counts,
                }
                columns.append(np.asarray(values[kind](), float)[order])
            return place[key]

        wanted = {
            "image": ("shares", "pairs"),
            "macro-image": ("shares", "pairs"),
            "point": ("hits", "points"),
            "macro-point": ("hits", "points"),
            "pair-weighted": ("hits", "points"),
        }
        parts = [(*wanted[each.average], each) for each in quantities]
        above = np.array([column(a, each.found, each.counts) for a, _, each in parts], int)
        below = np.array([column(b, each.found, each.counts) for _, b, each in parts], int)
        pairs = np.array([column("pairs", each.found, each.counts) for *_, each in parts], int)
        self.above, self.below, self.pairs = above, below, pairs
        self.columns = np.stack(columns, axis=1) if columns else np.zeros((len(order), 0))
        averages = np.array([each.average for each in quantities])
        self.pooled = np.isin(averages, ("image", "point"))
        self.weighted = averages == "pair-weighted"

    def __call__(self, weights: np.ndarray) -> np.ndarray:
        """Fractions (R, M) for weights (R, N); NaN where there is nothing to average."""
        weights = weights[:, self.order]
        value = np.full((len(weights), len(self.quantities)), np.nan)
        with np.errstate(invalid="ignore", divide="ignore"):  # a draw may miss a category, or every point
            if self.pooled.any():
                total = weights @ self.columns
                value[:, self.pooled] = total[:, self.above[self.pooled]] / total[:, self.below[self.pooled]]
            if not self.pooled.all():
                value[:, ~self.pooled] = self._over_categories(weights, np.flatnonzero(~self.pooled))
        return value

    def _over_categories(self, weights: np.ndarray, which: np.ndarray) -> np.ndarray:
        """Averages of quantities ``which`` over categories, one category after another."""
        used, where = np.unique([self.above[which], self.below[which], self.pairs[which]], return_inverse=True)
        above, below, pairs = where.reshape(3, -1)
        sums = np.zeros((len(weights), len(which)))
        parts = np.zeros_like(sums)
        for rows in self.slices:
            total = weights[:, rows] @ self.columns[rows][:, used]
            here = total[:, below] > 0
            weight = np.where(self.weighted[which], total[:, pairs], here)
            sums += np.where(here, weight * total[:, above] / np.where(here, total[:, below], 1), 0)
            parts += np.where(here, weight, 0)
        return sums / parts

    def value(self) -> np.ndarray:
        """Fractions (M,), every pair taken once."""
        found = self(np.ones((1, len(self.order))))[0]
        given = np.array([np.nan if each.value is None else each.value for each in self.quantities], float)
        return np.where(np.isnan(given), found, given)

    def drawn(self, draws: int, seed: int = 0) -> np.ndarray:
        """Fractions of every bootstrap draw, (draws, M)."""
        return np.concatenate([self(weights) for weights in bootstrap_weights(len(self.order), draws, seed)])


def scores(
    quantities: Sequence[Quantity], categories: np.ndarray, draws: int = 1000, seed: int = 0
) -> dict[str, Score]:
    """Each quantity in percent with its interval, by name; all share the draws. No draws: no intervals.

    Args:
        quantities: over the same N pairs.
        categories: (N,) str.
        draws: of the bootstrap.
        seed: of the draws.
    """
    if not quantities:
        return {}
    averages = Averages(quantities, categories)
    value = percent(averages.value())
    low = high = np.full(len(quantities), np.nan)
    if draws:
        low, high = (percent(ends) for ends in percentiles(averages.drawn(draws, seed)))
    return {each.name: Score(*map(float, row)) for each, *row in zip(quantities, value, low, high)}


def paired_differences(
    first: Sequence[Quantity], second: Sequence[Quantity], categories: np.ndarray, draws: int = 1000, seed: int = 0
) -> dict[str, Difference]:
    """Second minus first of two models on the same pairs, by the quantities' names; both on the same draws.

    What both share, easy pairs and hard ones, does not blur the difference.
    """
    one, two = (Averages(each, categories) for each in (first, second))
    values = percent(one.value()), percent(two.value())
    drawn = percent(two.drawn(draws, seed)) - percent(one.drawn(draws, seed))
    return {each.name: difference_of_draws(*row) for each, *row in zip(first, *values, drawn.T)}


def difference_of_draws(first: float, second: float, drawn: np.ndarray) -> Difference:
    """Two percentages, and the differences of their bootstrap draws."""
    drawn = drawn[np.isfinite(drawn)]  # a draw may miss a rare category
    low, high = np.percentile(drawn, (2.5, 97.5)) if len(drawn) else (np.nan, np.nan)
    in_favour = np.mean((drawn > 0) + 0.5 * (drawn == 0)) if len(drawn) else np.nan
    return Difference(float(first), float(second), float(low), float(high), float(in_favour))


def percent(fraction: np.ndarray) -> np.ndarray:
    """Percent without what the order of a sum adds in the last bits: equal shares are equal, and print alike."""
    return np.asarray(100 * fraction).round(9)


def percentiles(drawn: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The 2.5th and 97.5th percentile of each column of draws, over those that are numbers."""
    if not np.isnan(drawn).any():
        low, high = np.percentile(drawn, (2.5, 97.5), axis=0)
        return low, high
    ends = [np.percentile(c[~np.isnan(c)], (2.5, 97.5)) if not np.isnan(c).all() else (np.nan,) * 2 for c in drawn.T]
    low, high = np.array(ends).reshape(-1, 2).T
    return low, high
