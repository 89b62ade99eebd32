"""PCK, defined once: the share of points whose prediction lies within alpha * d of the truth.

Every published variant is a pure function of the same stored predictions; what differs is the threshold d,
the frame distances are taken in, and the average. A metric's name says all three::

    pck@0.1/bbox/image        original pixels
    pck@0.1/img@256/image     points and predictions first scaled to 256 x 256, aspect not kept

Points that all lie in one place, a single one above all, have no box: under bbox-kp such a pair counts in none of the
averages (``pairs_without_box`` says how many there are). The padded rules give it a threshold, as their authors do.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np

from benchmark.predictions import Predictions
from sc_imagenet.errors import InputError, unknown_name

# What d is, in the frame of the metric, for the image that the prediction lies in.
THRESHOLDS = {
    "img": "longer side of the image",
    "bbox": "longer side of the object's box",
    "bbox-kp": "longer side of the tight box around the valid true points",
    "bbox-padded": "largest coordinate of the true points + 1 (points padded with -1 before max - min)",
    "bbox-padded2": "largest coordinate of the true points + 2 (the same with -2)",
}
_PAD = {"bbox-padded": 1.0, "bbox-padded2": 2.0}
AVERAGES = {
    "image": "mean over pairs of each pair's PCK",
    "point": "over all points at once",
    "category": "mean over categories of their pairs' mean",
}
_NAME = re.compile(r"pck@(?P<alpha>[0-9.]+)/(?P<threshold>[a-z0-9-]+)(@(?P<frame>\d+))?/(?P<average>[a-z]+)")
_CHUNK = 250  # bootstrap draws held at once


@dataclass(frozen=True)
class Metric:
    """One PCK protocol at one alpha.

    >>> print(Metric(0.1, "img", 256, "image"))
    pck@0.1/img@256/image
    >>> Metric.parse("pck@0.05/bbox-kp/point").frame is None
    True
    """

    alpha: float
    threshold: str = "img"
    frame: int | None = None  # side of the square frame; None: original pixels
    average: str = "image"

    def __post_init__(self) -> None:
        if self.threshold not in THRESHOLDS:
            raise unknown_name("PCK threshold", self.threshold, THRESHOLDS)
        if self.average not in AVERAGES:
            raise unknown_name("PCK average", self.average, AVERAGES)
        if not self.alpha > 0 or (self.frame is not None and self.frame < 1):
            raise InputError(f"{self}: alpha and the frame's side must be positive")

    def __str__(self) -> str:
        return f"pck@{self.alpha:g}/{self.protocol}"

    @property
    def protocol(self) -> str:
        """The name without alpha: ``img@256/image``."""
        return f"{self.threshold}{f'@{self.frame}' if self.frame else ''}/{self.average}"

    @property
    def legacy(self) -> bool:
        """Whether it is kept only to compare with published tables that used it."""
        return self.threshold in _PAD

    @classmethod
    def parse(cls, name: str) -> Metric:
        """The metric of a name.

        Raises:
            InputError: not a metric's name, or an unknown threshold or average (the valid ones are named).
        """
        found = _NAME.fullmatch(name.strip().lower())
        if found is None:
            raise InputError(
                f"{name!r} is not the name of a metric",
                fix="Write pck@ALPHA/THRESHOLD[@SIDE]/AVERAGE: pck@0.1/bbox/image, pck@0.1/img@256/image",
            )
        try:
            alpha = float(found["alpha"])
        except ValueError as error:
            raise InputError(f"{name!r}: {found['alpha']!r} is not a number") from error
        frame = int(found["frame"]) if found["frame"] else None
        return cls(alpha, found["threshold"], frame, found["average"])


@dataclass(frozen=True)
class Score:
    """A PCK in percent and the ends of its 95 % bootstrap interval over pairs."""

    value: float
    low: float
    high: float


def distances(predictions: Predictions, frame: int | None = None) -> np.ndarray:
    """|predicted - true| of every point (P,), in original pixels or in pixels of the frame."""
    difference = predictions.predicted - predictions.true
    scale = np.repeat(_scale(predictions, frame), predictions.counts, axis=0)
    return np.hypot(*(difference * scale).T)


def thresholds(predictions: Predictions, threshold: str, frame: int | None = None) -> np.ndarray:
    """d of every pair (N,), in original pixels or in pixels of the frame; NaN for a pair that has none.

    Raises:
        InputError: the threshold needs boxes and some pairs have none.
    """
    scale = _scale(predictions, frame)
    if threshold == "img":
        return (predictions.sizes * scale).max(axis=1)
    if threshold == "bbox":
        boxes = predictions.boxes
        without = np.isnan(boxes).any(axis=1)
        if without.any():
            raise InputError(
                f"threshold 'bbox' needs object boxes, which {without.sum()} of {len(predictions)} pairs of "
                f"{predictions.info.dataset} do not have",
                fix="Use bbox-kp, the tight box around the points.",
            )
        return ((boxes[:, 2:] - boxes[:, :2]) * scale).max(axis=1)
    high = _by_pair(np.maximum, predictions) * scale
    if threshold in _PAD:
        return high.max(axis=1) + _PAD[threshold]
    sides = (high - _by_pair(np.minimum, predictions) * scale).max(axis=1)
    return np.where(sides > 0, sides, np.nan)


def has_boxes(predictions: Predictions) -> bool:
    """Whether every pair has the object box that threshold 'bbox' needs."""
    return not np.isnan(predictions.boxes).any()


def pairs_without_box(predictions: Predictions) -> int:
    """How many pairs have points, but all in one place: threshold 'bbox-kp' leaves them out."""
    return int(((predictions.counts > 0) & np.isnan(thresholds(predictions, "bbox-kp"))).sum())


def points(predictions: Predictions, metrics: Sequence[Metric]) -> np.ndarray:
    """Points that count, by pair and metric: (N, M); 0 where the metric has no threshold for the pair."""
    without = {rule: np.isnan(thresholds(predictions, *rule)) for rule in {(m.threshold, m.frame) for m in metrics}}
    return np.stack([np.where(without[m.threshold, m.frame], 0, predictions.counts) for m in metrics], axis=1)


def measurable(predictions: Predictions, metrics: Sequence[Metric]) -> list[Metric]:
    """Those of the metrics that have what they need: object boxes of all pairs, two points apart in some."""
    boxes = has_boxes(predictions)
    apart = pairs_without_box(predictions) < (predictions.counts > 0).sum()
    return [
        metric
        for metric in metrics
        if (boxes or metric.threshold != "bbox") and (apart or metric.threshold != "bbox-kp")
    ]


def hits(predictions: Predictions, metrics: Sequence[Metric]) -> np.ndarray:
    """Points within alpha * d, by pair and metric: (N, M). The metric's average plays no part."""
    owner = np.repeat(np.arange(len(predictions)), predictions.counts)
    by_frame: dict[int | None, np.ndarray] = {}
    by_rule: dict[tuple[str, int | None], np.ndarray] = {}
    by_limit: dict[tuple[str, int | None, float], np.ndarray] = {}
    for metric in metrics:
        rule = (metric.threshold, metric.frame)
        if metric.frame not in by_frame:
            by_frame[metric.frame] = distances(predictions, metric.frame)
        if rule not in by_rule:
            by_rule[rule] = thresholds(predictions, *rule)
        limit = (*rule, metric.alpha)
        if limit not in by_limit:
            within = by_frame[metric.frame] <= np.repeat(metric.alpha * by_rule[rule], predictions.counts)
            by_limit[limit] = np.bincount(owner, within, len(predictions))
    return np.stack([by_limit[m.threshold, m.frame, m.alpha] for m in metrics], axis=1)


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


def score(predictions: Predictions, metrics: Sequence[Metric], draws: int = 1000, seed: int = 0) -> dict[str, Score]:
    """PCK under each metric, in percent, with 95 % bootstrap intervals over pairs, by the metric's name.

    All metrics share the draws. Pairs without points count in none of the averages.

    Raises:
        InputError: no pair has a point, a metric needs boxes that are not there, or has a threshold for no pair.
    """
    if not metrics:
        return {}
    check(predictions, metrics)
    low, high = np.nanpercentile(bootstrap(predictions, metrics, draws, seed), (2.5, 97.5), axis=0)
    return {
        str(metric): Score(*(float(x) for x in _exact(np.array(scores))))
        for metric, *scores in zip(metrics, values(predictions, metrics), low, high)
    }


def check(predictions: Predictions, metrics: Sequence[Metric]) -> None:
    """Raise InputError unless every metric has a threshold for some pair, and boxes where it needs them."""
    name = predictions.info.dataset
    if not len(predictions.true):
        raise InputError(f"no pair of {name} has a point to score")
    for metric, counts in zip(metrics, points(predictions, metrics).T):
        if not counts.any():
            raise InputError(
                f"{metric}: no pair of {name} has two points apart, so none has a box around them",
                fix="Score by img, or by bbox where there are object boxes.",
            )


def values(predictions: Predictions, metrics: Sequence[Metric]) -> np.ndarray:
    """PCK under each metric, (M,) in percent, without intervals."""
    return _Averages(predictions, metrics)(np.ones((1, len(predictions))))[0]


def bootstrap(predictions: Predictions, metrics: Sequence[Metric], draws: int, seed: int = 0) -> np.ndarray:
    """PCK of every bootstrap draw under each metric, (draws, M) in percent.

    Row r of two predictions of the same pairs, in the same order, comes from the same draw.
    """
    averages = _Averages(predictions, metrics)
    return np.concatenate([averages(w) for w in bootstrap_weights(len(predictions), max(draws, 1), seed)])


def per_category(predictions: Predictions, metric: Metric) -> dict[str, float]:
    """PCK in percent of each category's pairs: over their points for average ``point``, else over pairs."""
    found = hits(predictions, [metric])[:, 0]
    counts = points(predictions, [metric])[:, 0]
    if metric.average != "point":
        found, counts = found / np.maximum(counts, 1), counts > 0
    names, index = np.unique(predictions.categories, return_inverse=True)
    total = np.bincount(index, counts)
    share = 100 * np.bincount(index, found) / np.maximum(total, 1)
    return {str(name): float(value) for name, value, n in zip(names, _exact(share), total) if n}


def category_pairs(predictions: Predictions) -> dict[str, int]:
    """How many pairs each category has."""
    names, counts = np.unique(predictions.categories, return_counts=True)
    return dict(zip(names.tolist(), counts.tolist()))


class _Averages:
    """The metrics' averages, in percent, for weights over pairs: one matrix product a category."""

    def __init__(self, predictions: Predictions, metrics: Sequence[Metric]) -> None:
        rules = list(dict.fromkeys(replace(metric, average="image") for metric in metrics))
        found = hits(predictions, rules)  # metrics that differ in the average alone share a column
        counts = points(predictions, rules)
        _, category = np.unique(predictions.categories, return_inverse=True)
        self.order = np.argsort(category, kind="stable")  # pairs of a category next to each other
        self.ends = np.cumsum(np.bincount(category))
        self.columns = np.hstack([found / np.maximum(counts, 1), found, counts > 0, counts])[self.order]
        self.metrics = [(metric.average, rules.index(replace(metric, average="image"))) for metric in metrics]

    def __call__(self, weights: np.ndarray) -> np.ndarray:
        """Values (R, M) for weights (R, N)."""
        weights = weights[:, self.order]
        sums = np.stack(
            [weights[:, start:end] @ self.columns[start:end] for start, end in zip((0, *self.ends[:-1]), self.ends)],
            axis=1,
        )  # (R, categories, 4m)
        ratios, found, pairs, counted = np.split(sums, 4, axis=2)
        with np.errstate(invalid="ignore", divide="ignore"):  # a draw may miss a category, or every point
            by_average = {
                "image": ratios.sum(axis=1) / pairs.sum(axis=1),
                "point": found.sum(axis=1) / counted.sum(axis=1),
            }
            by_category = np.where(pairs > 0, ratios / pairs, 0).sum(axis=1)
            by_average["category"] = by_category / (pairs > 0).sum(axis=1)
        return _exact(100 * np.stack([by_average[average][:, rule] for average, rule in self.metrics], axis=1))


def _exact(percent: np.ndarray) -> np.ndarray:
    """Percent without what the order of a sum adds in the last bits: equal shares are equal, and print alike."""
    return percent.round(9)


def _scale(predictions: Predictions, frame: int | None) -> np.ndarray:
    """Factors (N, 2) from original pixels to the frame's."""
    return frame / predictions.sizes if frame else np.ones_like(predictions.sizes, dtype=float)


def _by_pair(reduce: np.ufunc, predictions: Predictions) -> np.ndarray:
    """The largest or smallest true x and y of each pair, (N, 2); NaN for a pair without points."""
    found = np.full((len(predictions), 2), np.nan)
    filled = predictions.counts > 0
    if filled.any():  # starts of the filled pairs alone: reduceat misreads empty stretches
        found[filled] = reduce.reduceat(predictions.true, predictions.offsets[:-1][filled], axis=0)
    return found
