"""GeoAware-SC's adaptive pose: the mirrored source is taken where its features lie nearer to the target's.

It uses true visibility and keypoint identity, so it is no blind method. Points are in the 840 frame.
"""

from __future__ import annotations

import numpy as np

from benchmark.scoring.readouts import upsampled

Pairs = tuple[tuple[int, ...], ...]
_GRID = 64
_NOTHING = -100_000.0  # GeoAware-SC writes it where a masked feature is 0; DIY-SC leaves 0


def mirrored(
    points: np.ndarray, visible: np.ndarray, mutual: np.ndarray, pairs: Pairs, side: int = 840
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


def chosen(plain: np.ndarray, turned: np.ndarray, mutual: np.ndarray, pairs: Pairs) -> np.ndarray:
    """Predictions (K, 2) where the mirrored source is nearer: its own for points that are mutual with their partner.

    ``plain`` and ``turned`` are the predictions of the source and of its mirror image.
    """
    partner = np.arange(len(plain))
    for one, two in pairs:
        if max(one, two) < len(plain):
            partner[one], partner[two] = two, one
    return np.where((mutual & mutual[partner])[:, None], turned, plain)


def positions(pairs: Pairs, count: int, used: np.ndarray) -> Pairs:
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
