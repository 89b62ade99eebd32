"""What can be said of predictions under a protocol: PCK, and PCK of parts of the points and pairs.

Every function gives ``Quantity`` objects, so that all of them get intervals from the same draws
(``benchmark.scoring.bootstrap.scores``).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence

import numpy as np

from benchmark.scoring import geco, subsets
from benchmark.scoring.bootstrap import Quantity
from benchmark.scoring.evaluation import Evaluation, distance, evaluate, sums
from benchmark.scoring.keypoints import flip_pairs
from benchmark.scoring.predictions import Predictions
from benchmark.scoring.protocol import Protocol
from sc_imagenet.core.errors import unknown_name

CURVE = tuple(round(0.01 * step, 2) for step in range(1, 21))


def pck(evaluation: Evaluation, suffix: str = "", exact: bool = True) -> list[Quantity]:
    """PCK at each alpha under each average of the protocol: ``pck@0.1/image``.

    ``exact``: the value is what the protocol's code would print, category means rounded where it rounds them.
    """
    found, counts = evaluation.found.T, evaluation.counts
    made = []
    for average in evaluation.protocol.averages:
        rounded = evaluation.protocol.category_dtype != "float64" and exact
        values = evaluation.value(average).tolist() if rounded else [None] * len(found)
        made += [
            Quantity(f"pck@{alpha:g}/{average}{suffix}", column, counts, average, value)
            for alpha, column, value in zip(evaluation.protocol.alphas, found, values)
        ]
    return made


def curve(predictions: Predictions, protocol: Protocol) -> list[Quantity]:
    """PCK at 0.01 to 0.20 under the protocol's first average: the distribution of errors up to there."""
    evaluation = evaluate(predictions, protocol.at(*CURVE))
    found, counts, average = evaluation.found.T, evaluation.counts, protocol.averages[0]
    return [Quantity(f"curve@{alpha:g}/{average}", column, counts, average) for alpha, column in zip(CURVE, found)]


def by_subset(predictions: Predictions, protocol: Protocol) -> list[Quantity]:
    """PCK of the geometry-aware subset by id and as GeoAware's loop takes it (defective), and of the flip subset."""
    evaluation = evaluate(predictions, protocol)
    found: list[Quantity] = []
    for name, mask_of in subsets.POINT_SUBSETS.items():
        part = evaluation.where(points=mask_of(predictions))
        if len(part.rows):
            found += pck(part, f"/{name}", exact=False)
    return found


def by_pair_group(predictions: Predictions, protocol: Protocol) -> list[Quantity]:
    """PCK by difference of azimuth and by SPair-71k's grades, of what the data set says."""
    evaluation = evaluate(predictions, protocol)
    masks = subsets.azimuth_masks(predictions) | subsets.grade_masks(predictions)
    return [
        quantity
        for name, mask in masks.items()
        for quantity in pck(evaluation.where(pairs=mask), f"/{name}", exact=False)
    ]


def by_category(predictions: Predictions, protocol: Protocol) -> list[Quantity]:
    """PCK of every category that has points: ``pck@0.1/image/cat``."""
    evaluation = evaluate(predictions, protocol)
    return [
        quantity
        for name in np.unique(predictions.categories[evaluation.owner]).tolist()
        for quantity in pck(evaluation.where(pairs=predictions.categories == name), f"/{name}", exact=False)
    ]


def by_keypoint(predictions: Predictions, protocol: Protocol) -> list[Quantity]:
    """The share of hits of every keypoint of every category: ``pck@0.1/point/cat 3``."""
    evaluation = evaluate(predictions, protocol)
    category = predictions.categories[evaluation.owner]
    ids = predictions.ids[evaluation.rows]
    pairs, made = len(predictions), []
    for name in np.unique(category).tolist():
        for number in np.unique(ids[(category == name) & (ids >= 0)]).tolist():
            here = (category == name) & (ids == number)
            counts = np.bincount(evaluation.owner[here], minlength=pairs)
            found = sums(evaluation.owner[here], evaluation.hits[here], pairs)
            made += [
                Quantity(f"pck@{alpha:g}/point/{name} {number}", column, counts, "point")
                for alpha, column in zip(protocol.alphas, found.T)
            ]
    return made


def kinds_of_error(predictions: Predictions, protocol: Protocol) -> list[Quantity]:
    """What becomes of every point, in shares that sum to 1: ``hit@0.1/point`` and so on.

    hit         as the protocol says
    swap        else within alpha * d of its left-right partner's true point; left out where ids are unknown
    other part  else within alpha * d of another true point of the target
    near        else within 2 * alpha * d of its own
    background  else
    """
    evaluation = evaluate(predictions, protocol)
    rows, owner, d = evaluation.rows, evaluation.owner, evaluation.threshold[evaluation.owner]
    alphas, comparison, pairs = protocol.alphas, protocol.comparison, len(predictions)
    near = comparison.within(evaluation.error / 2, d, alphas)
    partner = subsets.partners(predictions, lambda name: flip_pairs(predictions.dataset, name))
    mirror = subsets.row_of(predictions, partner)
    swap = np.full(evaluation.hits.shape, False)
    other = np.full(evaluation.hits.shape, False)
    placed = protocol.frame.place(predictions.true, predictions.sizes[predictions.owner])
    said = predictions.predicted_in(protocol.frame)
    starts, counts = predictions.offsets[:-1][owner], predictions.counts[owner]
    for step in range(int(counts.max(initial=0))):  # the pair's first, second, ... point
        there = np.flatnonzero(step < counts)
        row = starts[there] + step
        shown = predictions.true_visible[row] & (row != rows[there])
        there, row = there[shown], row[shown]
        error = distance(said[rows[there]], placed[row].astype(said.dtype))
        within = comparison.within(error, d[there], alphas)
        own = (mirror[rows[there]] == row)[:, None]
        swap[there] |= within & own
        other[there] |= within & ~own
    hit = evaluation.hits
    kinds = {
        "hit": hit,
        "swap": swap & ~hit,
        "other part": other & ~hit & ~swap,
        "near": near & ~hit & ~swap & ~other,
        "background": ~(hit | swap | other | near),
    }
    totals = evaluation.counts
    if (predictions.ids < 0).all():
        del kinds["swap"]  # nothing is known of partners: such points are among the other parts
    return [
        Quantity(f"{name}@{alpha:g}/point", column, totals, "point")
        for name in kinds
        for alpha, column in zip(alphas, sums(owner, kinds[name], pairs).T)
    ]


def geco_classes(predictions: Predictions, protocol: Protocol) -> list[Quantity]:
    """GECO's ratios, pooled over points, by whether the target shows a point and its mirror partner."""
    found = geco.counters(predictions, protocol)
    made = []
    for name, (above, below) in geco.RATIOS.items():
        hits, counts = sum(found[part] for part in above), sum(found[part] for part in below)
        made += [
            Quantity(f"geco {name}@{alpha:g}", np.asarray(hits)[:, a], np.asarray(counts)[:, a], "point")
            for a, alpha in enumerate(protocol.alphas)
        ]
    return made


DETAILS: Mapping[str, Callable[[Predictions, Protocol], list[Quantity]]] = {
    "curve": curve,
    "subsets": by_subset,
    "groups": by_pair_group,
    "categories": by_category,
    "keypoints": by_keypoint,
    "errors": kinds_of_error,
    "geco": geco_classes,
}


def quantities(predictions: Predictions, protocol: Protocol, details: Sequence[str] = ()) -> Iterator[Quantity]:
    """A protocol's own numbers, and of the ``DETAILS`` asked for; the protocol is resolved for the data set.

    Raises:
        InputError: there is no such detail, or the protocol needs boxes that are not there.
    """
    yield from pck(evaluate(predictions, protocol))
    for name in details:
        if name not in DETAILS:
            raise unknown_name("detail", name, DETAILS)
        yield from DETAILS[name](predictions, protocol)
