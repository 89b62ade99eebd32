"""Which points a protocol counts as found, and its averages of them."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from benchmark.scoring.bootstrap import Averages, Quantity
from benchmark.scoring.predictions import Predictions
from benchmark.scoring.protocol import Protocol
from sc_imagenet.core.errors import InputError

_PAD = {"padded": 1.0, "padded2": 2.0}


@dataclass(frozen=True)
class Evaluation:
    """The R points that a protocol evaluates of N pairs, at A alphas.

    ``threshold`` is d of each pair in the protocol's frame, ``error`` |predicted - true| there; ``categories``
    those that averages over categories are taken of.
    """

    protocol: Protocol
    rows: np.ndarray  # (R,) points of the predictions
    owner: np.ndarray  # (R,) their pairs
    error: np.ndarray  # (R,)
    threshold: np.ndarray  # (N,)
    hits: np.ndarray  # (R, A) bool
    categories: np.ndarray  # (N,) str

    @property
    def counts(self) -> np.ndarray:
        """Evaluated points of each pair, (N,)."""
        return np.bincount(self.owner, minlength=len(self.threshold))

    @property
    def found(self) -> np.ndarray:
        """Hits of each pair, (N, A)."""
        return sums(self.owner, self.hits, len(self.threshold))

    @property
    def shares(self) -> np.ndarray:
        """Hits over points of each pair, (N, A); NaN for a pair without points."""
        with np.errstate(invalid="ignore", divide="ignore"):
            return self.found / self.counts[:, None]

    def where(self, points: np.ndarray | None = None, pairs: np.ndarray | None = None) -> Evaluation:
        """The same on a subset: a mask over all P points of the predictions, over the N pairs, or both."""
        kept = np.full(len(self.rows), True)
        if points is not None:
            kept &= points[self.rows]
        if pairs is not None:
            kept &= pairs[self.owner]
        return replace(self, rows=self.rows[kept], owner=self.owner[kept], error=self.error[kept], hits=self.hits[kept])

    def value(self, average: str) -> np.ndarray:
        """One of ``protocol.AVERAGES`` at each alpha, (A,), as a fraction; NaN where there is no point.

        Where the protocol's code rounds the categories' values first, so is done here.
        """
        found, counts = self.found, self.counts
        dtype = self.protocol.category_dtype
        if dtype == "float64" or not len(self.rows):
            return Averages([Quantity("", column, counts, average) for column in found.T], self.categories).value()
        names, index = np.unique(self.categories, return_inverse=True)
        member = np.eye(len(names))[:, index]  # (C, N)
        pairs, points = member @ (counts > 0), member @ counts
        here = pairs > 0
        hits, total = (
            (member @ (found / np.maximum(counts, 1)[:, None]), pairs)
            if "image" in average
            else (member @ found, points)
        )
        each = (hits[here] / total[here, None]).astype(dtype).astype(float)
        weights = {"image": pairs, "point": points, "pair-weighted": pairs}.get(average, np.ones(len(names)))[here]
        return np.asarray(weights @ each / weights.sum())

    def by_category(self, average: str) -> dict[str, np.ndarray]:
        """``image`` or ``point`` average of each category that has points, at each alpha."""
        names, index = np.unique(self.categories, return_inverse=True)
        found = {}
        for number, name in enumerate(names.tolist()):
            part = self.where(pairs=index == number)
            if len(part.rows):
                found[name] = part.value(average)
        return found


def evaluate_predictions(predictions: Predictions, protocol: Protocol) -> Evaluation:
    """Hits of predictions under a protocol that is resolved for their data set (``Protocol.for_data``).

    Raises:
        InputError: the threshold needs object boxes and some pairs have none.
    """
    chosen = predictions.mutual if protocol.points == "mutual" else predictions.other_visible
    threshold = pair_thresholds(predictions, protocol)
    without = np.isnan(threshold)
    if without.any():
        chosen = chosen & ~without[predictions.owner]
    rows = np.flatnonzero(chosen)
    owner = predictions.owner[rows]
    error = errors(predictions, protocol, rows, owner)
    hits = protocol.comparison.within(error, threshold[owner], protocol.alphas)
    if protocol.validity == "dagger":
        hits &= nearest_is_own(predictions, protocol)[rows][:, None]
    return Evaluation(protocol, rows, owner, error, threshold, hits, predictions.categories)


def errors(predictions: Predictions, protocol: Protocol, rows: np.ndarray, owner: np.ndarray) -> np.ndarray:
    """|predicted - true| (R,) in the protocol's frame; the smallest where a point has several valid targets."""
    dtype, frame = protocol.comparison.distance, protocol.frame
    sizes = predictions.sizes[owner]
    if dtype == frame.dtype == "float64" and frame.kind == "stretch" and predictions.frame.kind == "original":
        # In double precision the difference is scaled, not the points: a tie in pixels stays one.
        difference = (predictions.predicted[rows] - predictions.true[rows]) * frame.scale(sizes)
        error = np.hypot(*difference.T)
        predicted = predictions.predicted_in(frame)
    else:
        predicted = predictions.predicted_in(frame).astype(dtype)
        error = distance(predicted[rows], frame.place(predictions.true[rows], sizes).astype(dtype))
    if predictions.further is not None and predictions.further_of is not None:
        of = predictions.further_of
        placed = protocol.frame.place(predictions.further, predictions.sizes[predictions.owner[of]]).astype(dtype)
        nearest = np.full(len(predictions.true), np.inf, dtype)
        np.minimum.at(nearest, of, distance(predicted[of], placed))
        error = np.minimum(error, nearest[rows])
    return error


def distance(one: np.ndarray, two: np.ndarray) -> np.ndarray:
    """Euclidean distance of points (..., 2), in their dtype."""
    x, y = np.moveaxis(one - two, -1, 0)
    if x.dtype == np.float64:
        return np.hypot(x, y)
    dtype = x.dtype
    x, y = x.astype(np.float32), y.astype(np.float32)  # half precision is summed in single
    return np.sqrt(x * x + y * y).astype(dtype)


def pair_thresholds(predictions: Predictions, protocol: Protocol) -> np.ndarray:
    """d of every pair (N,) in the protocol's frame; NaN for a pair that has none, which is left out.

    The box around points that all lie in one place is none.

    Raises:
        InputError: it needs boxes and some pairs have none.
    """
    frame, kind = protocol.frame, protocol.threshold
    scale = frame.scale(predictions.sizes)
    if kind == "image":
        if frame.kind in ("original", "unit", "centred-unit"):
            return (predictions.sizes * scale).max(axis=1)
        return np.full(len(predictions), float(frame.side))
    if kind.startswith("box"):
        without = np.isnan(predictions.boxes).any(axis=1)
        if without.any():
            raise InputError(
                f"threshold 'bbox' of {protocol} needs object boxes, which {without.sum()} of {len(predictions)} pairs "
                f"of {predictions.info.dataset or 'these predictions'} do not have",
                fix="Use bbox-kp, the tight box around the points.",
            )
        sides = predictions.boxes[:, 2:] - predictions.boxes[:, :2]
        if kind == "box":
            return (sides * scale).max(axis=1)
        if kind == "box-corners":
            return frame.box(predictions.boxes, predictions.sizes).max(axis=1).astype(float)
        if kind == "box-longer":
            return sides.max(axis=1) * frame.side / predictions.sizes.max(axis=1)
        return sides.max(axis=1) * (scale[:, 1] if kind == "box-y" else scale.min(axis=1))
    valid = predictions if predictions.mutual.all() else predictions.where(predictions.mutual)
    high = _by_pair(np.maximum, valid) * scale
    if kind in _PAD:
        return high.max(axis=1) + _PAD[kind]
    sides = (high - _by_pair(np.minimum, valid) * scale).max(axis=1)
    return np.where(sides > 0, sides, np.nan)


def nearest_is_own(predictions: Predictions, protocol: Protocol) -> np.ndarray:
    """Whether a point's own true point is the nearest of the pair's mutual ones to its prediction, (P,).

    As Jamais Vu takes it: to every target that is not mutual the largest distance of the pair is added, over all
    points that its category uses, invisible ones lying at (0, 0).
    """
    slots, table = category_slots(predictions)
    dtype = protocol.comparison.distance
    predicted = predictions.predicted_in(protocol.frame).astype(dtype)
    placed = protocol.frame.place(predictions.true, predictions.sizes[predictions.owner]).astype(dtype)
    placed = np.where(predictions.true_visible[:, None], placed, np.array(0, dtype))
    pairs, width = table.shape
    true = np.zeros((pairs, width, 2), dtype)
    mutual = np.full((pairs, width), False)
    said = np.zeros((pairs, width, 2), dtype)
    here = np.full((pairs, width), False)  # rows that were given: others predict nothing
    where = (predictions.owner, slots)
    true[where], mutual[where], said[where], here[where] = placed, predictions.mutual, predicted, True
    own = np.full((pairs, width), False)
    for start in range(0, pairs, 2048):
        part = slice(start, start + 2048)
        apart = distance(said[part][:, :, None], true[part][:, None])  # (B, predictions, targets)
        used = table[part]
        finite = np.where(used[:, None] & here[part][:, :, None] & np.isfinite(apart), apart, -np.inf)
        apart = apart + np.where(mutual[part], 0, finite.max(axis=(1, 2))[:, None])[:, None]
        apart = np.where(used[:, None], apart, np.inf)
        own[part] = apart.argmin(axis=2) == np.arange(width)
    return own[where]


def category_slots(predictions: Predictions) -> tuple[np.ndarray, np.ndarray]:
    """A place for each point among those its category uses, (P,), and which places a pair has, (N, width) bool.

    With ids a place is the rank of the id among all that are visible somewhere in the category's pairs, without
    ids the row within the pair.
    """
    owner = predictions.owner
    slots = np.arange(len(owner)) - predictions.offsets[:-1][owner]
    if not len(owner) or (predictions.ids < 0).any():
        width = int(predictions.counts.max(initial=0))
        return slots, np.arange(width) < predictions.counts[:, None]
    _, category = np.unique(predictions.categories, return_inverse=True)
    key = category[owner] * (1 << 20) + predictions.ids
    known, rank = np.unique(key, return_inverse=True)
    first = np.searchsorted(known, np.arange(category.max() + 2) * (1 << 20))
    slots = rank - first[category[owner]]
    used = np.diff(first)[category]
    return slots, np.arange(int(used.max())) < used[:, None]


def sums(owner: np.ndarray, values: np.ndarray, pairs: int) -> np.ndarray:
    """Sums of the columns of ``values`` (R, A) by their pair, (pairs, A)."""
    return np.stack([np.bincount(owner, column, pairs) for column in values.T], axis=1)


def _by_pair(reduce: np.ufunc, predictions: Predictions) -> np.ndarray:
    """The largest or smallest true x and y of each pair, (N, 2); NaN for a pair without points."""
    found = np.full((len(predictions), 2), np.nan)
    filled = predictions.counts > 0
    if filled.any():  # starts of the filled pairs alone: reduceat misreads empty stretches
        found[filled] = reduce.reduceat(predictions.true, predictions.offsets[:-1][filled], axis=0)
    return found
