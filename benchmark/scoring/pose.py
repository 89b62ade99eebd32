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


def chosen(
    plain: np.ndarray, turned: np.ndarray, visible: np.ndarray, target_visible: np.ndarray, pairs: Pairs
) -> np.ndarray:
    """Predictions (K, 2) where the mirrored source is nearer: its own for points that all sides show.

    ``plain`` and ``turned`` are the predictions of the source and of its mirror image, ``visible`` (K,) in the
    source; a point of the mirror image is visible where its partner is.
    """
    partner = np.arange(len(plain))
    for one, two in pairs:
        if max(one, two) < len(plain):
            partner[one], partner[two] = two, one
    taken = visible[partner] & target_visible & visible
    return np.where(taken[:, None], turned, plain)


def instance_distance(
    source: np.ndarray, target: np.ndarray, source_mask: np.ndarray, target_mask: np.ndarray, empty: float = _NOTHING
) -> float:
    """Mean over the source's object of the smallest distance to a cell of the target, of features (C, h, w)."""
    one, two, inside = _masked(source, target, source_mask, target_mask, empty)
    return float(_distances(one[inside], two).min(axis=1).mean())


def mutual_distance(
    source: np.ndarray, target: np.ndarray, source_mask: np.ndarray, target_mask: np.ndarray, empty: float = _NOTHING
) -> float:
    """Mean distance of cells that are each other's nearest (DistillDIFT)."""
    one, two, _ = _masked(source, target, source_mask, target_mask, empty)
    apart = _distances(one, two)
    there, back = apart.argmin(axis=1), apart.argmin(axis=0)
    cells = np.arange(len(one))
    both = back[there] == cells
    return float(apart[cells[both], there[both]].mean())


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
