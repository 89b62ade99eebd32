"""What is taken from similarity maps and features beside points: keypoint average precision, the adaptive pose.

Maps are (K, h, w), one a source point; cells and points (K, 2) are (column, row) and (x, y). Features are
(C, h, w). All is float32, as in the authors' codes.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from benchmark.scoring.bootstrap import Quantity
from benchmark.scoring.keypoints import Groups
from sc_imagenet.geometry.map_points import upsampled

# Keypoint average precision (KAP), in its three definitions: is a point's best similarity within alpha * d?


def average_precision(labels: np.ndarray, scores: np.ndarray) -> float:
    """Sum of (R_n - R_(n-1)) * P_n over the distinct scores, from the highest; 0 without a positive.

    >>> import numpy as np
    >>> average_precision(np.array([1, 0, 1]), np.array([0.9, 0.8, 0.7])).__round__(4)
    0.8333
    """
    labels = np.asarray(labels) > 0
    order = np.argsort(-np.asarray(scores, float), kind="stable")
    scores, labels = np.asarray(scores, float)[order], labels[order]
    if not labels.any():
        return 0.0
    last = np.append(np.flatnonzero(np.diff(scores)), len(scores) - 1)  # of each distinct score
    true = np.cumsum(labels)[last]
    precision, recall = true / (last + 1), true / labels.sum()
    return float((np.diff(recall, prepend=0) * precision).sum())


def kap_quantities(precisions: np.ndarray, alphas: Sequence[float], name: str = "kap") -> list[Quantity]:
    """KAP's image mode, the mean over pairs of their average precisions (N, A), for intervals over pairs."""
    ones = np.ones(len(precisions))
    return [Quantity(f"{name}@{alpha:g}/image", column, ones) for alpha, column in zip(alphas, precisions.T)]


def normalised_maps(maps: np.ndarray) -> np.ndarray:
    """Similarities (K, n, n) of a pair, scaled so that its smallest is 0 and its largest 1."""
    maps = maps.astype(np.float32)
    low, high = maps.min(), maps.max()
    return (maps - low) / (high - low)


def within_and_beyond(
    maps: np.ndarray, targets: np.ndarray, threshold: float, alpha: float, side: int = 840
) -> tuple[np.ndarray, np.ndarray]:
    """Largest similarity within alpha * d of the target point and beyond it, (K,) each (Jamais Vu).

    Args:
        maps: normalised similarities (K, n, n) of the pair's points that are visible in the source.
        targets: target points (K, 2) in the frame of ``side``; an invisible one lies at (0, 0).
        threshold: d in the frame.
        alpha: of the metric.
        side: of the frame.
    """
    grid = maps.shape[2]
    center = targets.astype(np.float32) * np.float32(grid / side)
    columns = (np.arange(grid, dtype=np.float32) - center[:, :1]) ** 2
    rows = (np.arange(grid, dtype=np.float32) - center[:, 1:]) ** 2
    near = rows[:, :, None] + columns[:, None, :] <= (alpha * threshold * grid / side) ** 2
    within = np.where(near, maps, 0).reshape(len(maps), -1).max(axis=1)
    beyond = np.where(near, 0, maps).reshape(len(maps), -1).max(axis=1)
    return within, beyond


def jamais_vu_kap(within: np.ndarray, beyond: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Labels and scores as released, DEFECTIVE: points that the target does not show are taken for positives."""
    ones = np.ones(len(within), int)
    return np.concatenate([ones, 0 * ones]), np.concatenate([within, beyond])


def visibility_aware_kap(within: np.ndarray, beyond: np.ndarray, visible: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Labels and scores as the paper's text has it; ``visible`` (K,) in the target."""
    negative = np.where(visible, beyond, np.maximum(within, beyond))
    labels = np.concatenate([np.ones(int(visible.sum()), int), np.zeros(len(within), int)])
    return labels, np.concatenate([within[visible], negative])


def spherical_maps_kap(
    maps: np.ndarray, targets: np.ndarray, visible: np.ndarray, threshold: float, alpha: float, side: int = 840
) -> tuple[np.ndarray, np.ndarray]:
    """Labels and scores of a pair as Spherical Maps takes them ("mAP"), in the order of its points.

    Distances are taken at every (side / n)-th pixel; the cell nearest to the target is always positive.
    """
    grid = maps.shape[2]
    pixel = np.floor(np.arange(grid) * (side / grid))
    targets = targets.astype(np.float32)
    columns, rows = (pixel - targets[:, :1]) ** 2, (pixel - targets[:, 1:]) ** 2
    apart = rows[:, :, None] + columns[:, None, :]
    near = apart < (alpha * threshold) ** 2
    flat = near.reshape(len(maps), -1)
    flat[np.arange(len(maps)), apart.reshape(len(maps), -1).argmin(axis=1)] = True
    flat &= np.asarray(visible)[:, None]
    values = maps.reshape(len(maps), -1)
    positive = flat.any(axis=1)
    labels, scores = [], []
    for k in range(len(maps)):
        if positive[k]:
            labels += [1, 0]
            scores += [values[k][flat[k]].max(), values[k][~flat[k]].max()]
        else:
            labels += [0]
            scores += [values[k].max()]
    return np.array(labels, int), np.array(scores, np.float32)


# GeoAware-SC's adaptive pose: the mirrored source is taken where its features lie nearer to the target's. It uses true
# visibility and keypoint identity, so it is no blind method. Points are in the 840 frame.

_GRID = 64
_NOTHING = -100_000.0  # GeoAware-SC writes it where a masked feature is 0; DIY-SC leaves 0


def mirrored_source(
    points: np.ndarray, visible: np.ndarray, mutual: np.ndarray, pairs: Groups, side: int = 840
) -> tuple[np.ndarray, np.ndarray]:
    """Points (K, 2) and visibility (K,) of the mirrored source; invisible ones lie at (side, 0).

    Partners are exchanged where both are ``mutual``.
    """
    order = np.arange(len(points))
    for one, two in pairs:
        if max(one, two) < len(points) and mutual[one] and mutual[two]:
            order[one], order[two] = two, one
    turned = np.where(visible[:, None], points, 0)[order].astype(np.float32)
    turned[:, 0] = side - turned[:, 0]
    return turned, visible[order]


def pose_predictions(plain: np.ndarray, turned: np.ndarray, mutual: np.ndarray, pairs: Groups) -> np.ndarray:
    """Predictions (K, 2) where the mirrored source is nearer: its own for points that are mutual with their partner.

    ``plain`` and ``turned`` are the predictions of the source and of its mirror image.
    """
    partner = np.arange(len(plain))
    for one, two in pairs:
        if max(one, two) < len(plain):
            partner[one], partner[two] = two, one
    return np.where((mutual & mutual[partner])[:, None], turned, plain)


def flip_places(pairs: Groups, count: int, used: np.ndarray) -> Groups:
    """Flip pairs of ids as places among the ids that a category uses, as GeoAware-SC takes them.

    Its table has ``count`` ids; where as many are used they are taken for places as they are, else those not used
    are dropped and the rest is renumbered in the table's order.
    """
    if count == len(used):
        return pairs
    here = set(used.tolist())
    alone = set(range(count)).difference(i for pair in pairs for i in pair)
    table = [tuple(i for i in group if i in here) for group in sorted((*pairs, *((i,) for i in alone)))]
    place = {number: row for row, number in enumerate(i for group in table for i in group)}
    return tuple((place[group[0]], place[group[1]]) for group in table if len(group) == 2)


def instance_distance(
    source: np.ndarray, target: np.ndarray, source_mask: np.ndarray, target_mask: np.ndarray, empty: float = _NOTHING
) -> float:
    """Mean over the source's object of the smallest distance to a cell of the target, of features (C, h, w)."""
    one, two, inside = _masked(source, target, source_mask, target_mask, empty)
    return float(_distances(one[inside], two).min(axis=1).mean())


def mutual_distance(source: np.ndarray, target: np.ndarray) -> float:
    """Mean distance of cells that are each other's most similar, of features (C, h, w); no masks (DistillDIFT)."""
    one, two = (features.reshape(len(features), -1).T.astype(np.float32) for features in (source, target))
    similar = one @ two.T
    there, back = similar.argmax(axis=1), similar.argmax(axis=0)
    cells = np.flatnonzero(back[there] == np.arange(len(one)))
    return float(np.sqrt(((one[cells] - two[there[cells]]) ** 2).sum(axis=1)).mean())


def _masked(
    source: np.ndarray, target: np.ndarray, source_mask: np.ndarray, target_mask: np.ndarray, empty: float
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Vectors (4096, C) of both, and which cells lie on the source's object."""
    vectors, masks = [], []
    for features, mask in ((source, source_mask), (target, target_mask)):
        rows = np.floor(np.arange(_GRID) * (mask.shape[0] / _GRID)).astype(int)
        columns = np.floor(np.arange(_GRID) * (mask.shape[1] / _GRID)).astype(int)
        small = (mask[rows][:, columns] > 0).ravel()
        flat = upsampled(features, _GRID, _GRID).reshape(len(features), -1).T * small[:, None]
        vectors.append(np.where(flat == 0, np.float32(empty), flat))
        masks.append(small)
    return vectors[0], vectors[1], masks[0]


def _distances(one: np.ndarray, two: np.ndarray) -> np.ndarray:
    one, two = one.astype(float), two.astype(float)
    square = (one**2).sum(axis=1)[:, None] + (two**2).sum(axis=1) - 2 * one @ two.T
    return np.sqrt(np.maximum(square, 0))
