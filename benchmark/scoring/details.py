"""What can be said of predictions under a protocol: PCK, also of parts of the points and pairs, and errors by kind.

Functions that give ``Quantity`` objects get intervals from the same draws (``benchmark.scoring.bootstrap.scores``).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence

import numpy as np

from benchmark.scoring.bootstrap import Quantity
from benchmark.scoring.evaluation import Evaluation, distance, evaluate_predictions, pair_thresholds, sums
from benchmark.scoring.keypoints import (
    POINT_SUBSETS,
    azimuth_masks,
    flip_pairs,
    geco_partners,
    grade_masks,
    partner_rows,
    partners,
)
from benchmark.scoring.predictions import Predictions
from benchmark.scoring.protocol import Protocol
from sc_imagenet.core.errors import unknown_name

CURVE_ALPHAS = tuple(round(0.01 * step, 2) for step in range(1, 21))


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
    evaluation = evaluate_predictions(predictions, protocol.at(*CURVE_ALPHAS))
    found, counts, average = evaluation.found.T, evaluation.counts, protocol.averages[0]
    return [
        Quantity(f"curve@{alpha:g}/{average}", column, counts, average) for alpha, column in zip(CURVE_ALPHAS, found)
    ]


def by_subset(predictions: Predictions, protocol: Protocol) -> list[Quantity]:
    """PCK of the geometry-aware subset by id and as GeoAware's loop takes it (defective), and of the flip subset."""
    evaluation = evaluate_predictions(predictions, protocol)
    found: list[Quantity] = []
    for name, mask_of in POINT_SUBSETS.items():
        part = evaluation.where(points=mask_of(predictions))
        if len(part.rows):
            found += pck(part, f"/{name}", exact=False)
    return found


def by_pair_group(predictions: Predictions, protocol: Protocol) -> list[Quantity]:
    """PCK by difference of azimuth and by SPair-71k's grades, of what the data set says."""
    evaluation = evaluate_predictions(predictions, protocol)
    masks = azimuth_masks(predictions) | grade_masks(predictions)
    return [
        quantity
        for name, mask in masks.items()
        for quantity in pck(evaluation.where(pairs=mask), f"/{name}", exact=False)
    ]


def by_category(predictions: Predictions, protocol: Protocol) -> list[Quantity]:
    """PCK of every category that has points: ``pck@0.1/image/cat``."""
    evaluation = evaluate_predictions(predictions, protocol)
    return [
        quantity
        for name in np.unique(predictions.categories[evaluation.owner]).tolist()
        for quantity in pck(evaluation.where(pairs=predictions.categories == name), f"/{name}", exact=False)
    ]


def by_keypoint(predictions: Predictions, protocol: Protocol) -> list[Quantity]:
    """The share of hits of every keypoint of every category: ``pck@0.1/point/cat 3``."""
    evaluation = evaluate_predictions(predictions, protocol)
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
    swap        else within alpha * d of its left-right partner's true point; left out where no partner is known
    other part  else within alpha * d of another true point of the target
    near        else within 2 * alpha * d of its own
    background  else
    """
    evaluation = evaluate_predictions(predictions, protocol)
    rows, owner, d = evaluation.rows, evaluation.owner, evaluation.threshold[evaluation.owner]
    alphas, comparison, pairs = protocol.alphas, protocol.comparison, len(predictions)
    near = comparison.within(evaluation.error / 2, d, alphas)
    partner = partners(predictions, lambda name: flip_pairs(predictions.dataset, name))
    mirror = partner_rows(predictions, partner)
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
    if not ((partner >= 0) & (partner != predictions.ids)).any():
        del kinds["swap"]  # nothing is known of partners: such points are among the other parts
    return [
        Quantity(f"{name}@{alpha:g}/point", column, totals, "point")
        for name in kinds
        for alpha, column in zip(alphas, sums(owner, kinds[name], pairs).T)
    ]


# GECO's metrics: every point visible in the source, by whether the target shows it and its mirror partner. Classes of a
# source point k: 11 the target shows k and its partner, 10 k alone, 1x k, which has no partner, 01 the partner alone,
# 00 neither.

GECO_CLASSES = ("10", "01", "11", "00", "1x")
GECO_COUNTERS = (*GECO_CLASSES, "1x_hat", "10_hat", "11_hat", "11_overline", "01_overline", "11_tilde")
# Each ratio: counters over counters.
GECO_RATIOS = {
    "PCK": (("10_hat", "11_hat", "1x_hat"), ("10", "11", "1x")),
    "hat_10": (("10_hat",), ("10",)),
    "hat_11": (("11_hat",), ("11",)),
    "hat_1x": (("1x_hat",), ("1x",)),
    "overline_11": (("11_overline",), ("11",)),
    "tilde_11": (("11_tilde",), ("11",)),
    **{f"share_{name}": ((name,), GECO_CLASSES) for name in GECO_CLASSES},
}


def geco_counters(predictions: Predictions, protocol: Protocol) -> dict[str, np.ndarray]:
    """GECO's counters of each pair at each alpha, (N, A), by their names.

    ``_hat`` within alpha * d of the true point; ``11_overline`` not, but of the partner; ``11_tilde`` of both;
    ``01_overline`` of the partner although the target does not show the point.
    """
    rows = np.flatnonzero(predictions.other_visible)
    owner = predictions.owner[rows]
    partner = partners(predictions, lambda category: geco_partners(predictions.dataset, category))
    oriented = (partner != predictions.ids)[rows] & (predictions.ids[rows] >= 0)
    mirror = partner_rows(predictions, partner)[rows]
    shown = predictions.true_visible[rows]
    mirror_shown = oriented & (mirror >= 0) & predictions.true_visible[mirror]
    d = pair_thresholds(predictions, protocol)[owner]
    predicted = predictions.predicted_in(protocol.frame)[rows]
    sizes = predictions.sizes[owner]

    def near(points: np.ndarray, valid: np.ndarray) -> np.ndarray:
        error = distance(predicted, protocol.frame.place(points, sizes))
        return protocol.comparison.within(error, d, protocol.alphas) & valid[:, None]

    hit = near(predictions.true[rows], shown)
    other = near(predictions.true[mirror], mirror_shown)
    kinds = {
        "11": shown & mirror_shown,
        "10": shown & ~mirror_shown & oriented,
        "1x": shown & ~oriented,
        "01": ~shown & mirror_shown,
        "00": ~shown & ~mirror_shown,
    }
    pairs, width = len(predictions), len(protocol.alphas)
    found = {name: sums(owner, np.repeat(kinds[name][:, None], width, axis=1), pairs) for name in GECO_CLASSES}
    for name in ("1x", "10", "11"):
        found[f"{name}_hat"] = sums(owner, hit & kinds[name][:, None], pairs)
    found["11_overline"] = sums(owner, other & ~hit & kinds["11"][:, None], pairs)
    found["01_overline"] = sums(owner, other & kinds["01"][:, None], pairs)
    found["11_tilde"] = sums(owner, other & hit & kinds["11"][:, None], pairs)
    return found


def geco_ratio(found: Mapping[str, np.ndarray], name: str) -> np.ndarray:
    """One of ``GECO_RATIOS`` of summed counters, as a fraction; 0 where there is nothing, as GECO has it."""
    above, below = GECO_RATIOS[name]
    total = sum(found[part] for part in below)
    hits = sum(found[part] for part in above)
    return np.asarray(np.divide(hits, total, out=np.zeros(np.shape(total)), where=np.asarray(total) > 0))


def geco_cub_pairs(images: int, pairs: int = 10_000, seed: int = 123) -> np.ndarray:
    """GECO's pairs of CUB, (2, pairs): shuffles of all images, the first half against the last.

    Each shuffle is seeded with ``seed`` + the number of pairs so far.
    """
    found: list[np.ndarray] = []
    count = 0
    while count < pairs:
        order = np.random.RandomState(seed + count).permutation(images)
        half = images // 2
        found.append(np.stack([order[:half], order[-half:]]))
        count += half
    return np.concatenate(found, axis=1)[:, :pairs]


def geco_classes(predictions: Predictions, protocol: Protocol) -> list[Quantity]:
    """GECO's ratios, pooled over points, by whether the target shows a point and its mirror partner."""
    found = geco_counters(predictions, protocol)
    made = []
    for name, (above, below) in GECO_RATIOS.items():
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


def protocol_quantities(
    predictions: Predictions, protocol: Protocol, details: Sequence[str] = ()
) -> Iterator[Quantity]:
    """A protocol's own numbers, and of the ``DETAILS`` asked for; the protocol is resolved for the data set.

    Raises:
        InputError: there is no such detail, or the protocol needs boxes that are not there.
    """
    yield from pck(evaluate_predictions(predictions, protocol))
    for name in details:
        if name not in DETAILS:
            raise unknown_name("detail", name, DETAILS)
        yield from DETAILS[name](predictions, protocol)


def notes_on_details(predictions: Predictions, details: Sequence[str]) -> tuple[str, ...]:
    """What a reader of these ``DETAILS`` must know: what the predictions do not tell, and what is missing for it."""
    by_id = [name for name in ("subsets", "keypoints", "errors", "geco") if name in details]
    notes = []
    if by_id and (predictions.ids < 0).all():
        notes.append(
            f"{', '.join(by_id)}: these predictions have no keypoint ids, so no subset, keypoint or partner is known"
        )
    elif "geco" in details and predictions.mutual.all():
        notes.append(
            "geco: only points that both images show are here; classes 01 and 00 need those that one image alone "
            "shows, and without them a point whose partner only the target shows counts as 10"
        )
    groups = {**azimuth_masks(predictions), **grade_masks(predictions)}
    if "groups" in details and not groups:
        notes.append("groups: these predictions have neither grades nor azimuths")
    return tuple(notes)
