"""What is taken from similarity maps and features: points, keypoint average precision, and the adaptive pose.

Maps are (K, h, w), one a source point; cells and points (K, 2) are (column, row) and (x, y). Features are
(C, h, w). All is float32, as in the authors' codes.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from benchmark.scoring.bootstrap import Quantity
from benchmark.scoring.keypoints import Groups


def unit_vectors(features: np.ndarray, eps: float = 1e-10, axis: int = 0) -> np.ndarray:
    """Features over their norm + eps."""
    features = features.astype(np.float32)
    return features / (np.sqrt((features * features).sum(axis=axis, keepdims=True)) + np.float32(eps))


def cell_of(points: np.ndarray, side: int, grid: int) -> np.ndarray:
    """The cell index row * grid + column of points in a frame of ``side``, truncated (GeoAware-SC)."""
    cells = np.trunc(np.float32(grid / side) * points.astype(np.float32)).astype(int)
    return grid * cells[:, 1] + cells[:, 0]


def aligned_cells(points: np.ndarray, side: int, cells: int) -> np.ndarray:
    """Fractional cells (K, 2) of points in a frame of ``side``: first and last cell on first and last pixel.

    They go through coordinates from -1 to 1 in float32, as a sampling grid does.
    """
    last = np.float32(cells - 1)
    place = points.astype(np.float32) / np.float32(side - 1) * last
    return (place / last * np.float32(2) - np.float32(1) + np.float32(1)) / np.float32(2) * last


def similarity_maps(source: np.ndarray, target: np.ndarray) -> np.ndarray:
    """Dot products (K, h, w) of source vectors (K, C) with target features (C, h, w)."""
    channels, height, width = target.shape
    return (source.astype(np.float32) @ target.reshape(channels, -1).astype(np.float32)).reshape(-1, height, width)


def nearest(maps: np.ndarray) -> np.ndarray:
    """The first largest cell of each map, (K, 2) integers."""
    index = maps.reshape(len(maps), -1).argmax(axis=1)
    return np.stack([index % maps.shape[2], index // maps.shape[2]], axis=1)


def window_soft_argmax(maps: np.ndarray, window: int, temperature: float = 0.02) -> np.ndarray:
    """Expected cell (K, 2) of the softmax over the whole map with all but a window set to ZERO (GeoAware-SC).

    ``window`` w > 0: the (2w + 1) x (2w + 1) cells around the first maximum; 0: nothing is set to zero; below 0:
    the map times a Gaussian of sigma -w around the maximum.
    """
    maps = maps.astype(np.float32)
    if window > 0:
        maps = maps * _within(maps, window)
    elif window < 0:
        maps = maps * _gauss(maps, -window)
    return _expected(maps, temperature)


def inner_soft_argmax(maps: np.ndarray, window: int, temperature: float = 0.02) -> np.ndarray:
    """As ``window_soft_argmax``, but cells outside the window have no part in the softmax (OmniProbe)."""
    maps = maps.astype(np.float32)
    if window > 0:
        maps = np.where(_within(maps, window), maps, -np.inf)
    elif window < 0:
        maps = maps * _gauss(maps, -window)
    return _expected(maps, temperature)


def kernel_softmax(maps: np.ndarray, sigma: float, temperature: float) -> np.ndarray:
    """Expected cell (K, 2) of the softmax of the map times a Gaussian around its first maximum (SD4Match, MARCO)."""
    return _expected(maps.astype(np.float32) * _gauss(maps, sigma), temperature)


def softmax(maps: np.ndarray, temperature: float) -> np.ndarray:
    """Expected cell (K, 2) of the softmax over the whole map."""
    return _expected(maps.astype(np.float32), temperature)


def sample(features: np.ndarray, points: np.ndarray, zeros: bool = False) -> np.ndarray:
    """Features (K, C) at fractional cells (K, 2), bilinear; beyond the border zeros, or the border's."""
    height, width = features.shape[1:]
    low = np.floor(points).astype(int)
    part = (points - low).astype(np.float32)
    found = np.zeros((len(points), len(features)), np.float32)
    for dx in (0, 1):
        for dy in (0, 1):
            x, y = low[:, 0] + dx, low[:, 1] + dy
            weight = (part[:, 0] if dx else 1 - part[:, 0]) * (part[:, 1] if dy else 1 - part[:, 1])
            if zeros:
                weight = weight * ((x >= 0) & (x < width) & (y >= 0) & (y < height))
            found += weight[:, None] * features[:, np.clip(y, 0, height - 1), np.clip(x, 0, width - 1)].T
    return found


def bilinear(source: np.ndarray, target: np.ndarray, queries: np.ndarray, eps: float | None = 1e-6) -> np.ndarray:
    """Mean of the nearest cells of the four source cells around each query, by opposite areas (SD4Match).

    ``source`` and ``target`` are features (C, h, w), ``queries`` fractional cells (K, 2); ``eps`` None: as they are.
    """
    height, width = source.shape[1:]
    queries = np.clip(queries, 1e-5, np.array([width, height]) - 1 - 1e-5).astype(np.float32)
    low = np.floor(queries).astype(int)
    part = queries - low
    targets = target.astype(np.float32) if eps is None else unit_vectors(target, eps)
    found = np.zeros((len(queries), 2), np.float32)
    for dx in (0, 1):
        for dy in (0, 1):
            vectors = source[:, low[:, 1] + dy, low[:, 0] + dx].T.astype(np.float32)
            cells = nearest(similarity_maps(vectors if eps is None else unit_vectors(vectors, eps, axis=1), targets))
            weight = (part[:, 0] if dx else 1 - part[:, 0]) * (part[:, 1] if dy else 1 - part[:, 1])
            found += weight[:, None] * cells
    return found


def upsampled(features: np.ndarray, width: int, height: int) -> np.ndarray:
    """Features (C, height, width), bilinear, pixel centres kept (align_corners false)."""
    features = _along(features.astype(np.float32), height, 1)
    return _along(features, width, 2)


def _along(features: np.ndarray, size: int, axis: int) -> np.ndarray:
    cells = features.shape[axis]
    half = np.float32(0.5)
    place = np.maximum((np.arange(size, dtype=np.float32) + half) * np.float32(cells / size) - half, 0)
    low = np.minimum(place.astype(int), cells - 1)
    part = (place - low.astype(np.float32)).reshape([-1 if a == axis else 1 for a in range(3)])
    one, two = np.take(features, low, axis), np.take(features, np.minimum(low + 1, cells - 1), axis)
    return one * (1 - part) + two * part


def _within(maps: np.ndarray, window: int) -> np.ndarray:
    cells = nearest(maps)
    columns = np.abs(np.arange(maps.shape[2]) - cells[:, :1]) <= window
    rows = np.abs(np.arange(maps.shape[1]) - cells[:, 1:]) <= window
    return rows[:, :, None] & columns[:, None, :]


def _gauss(maps: np.ndarray, sigma: float) -> np.ndarray:
    cells = nearest(maps).astype(np.float32)
    columns = (np.arange(maps.shape[2], dtype=np.float32) - cells[:, :1]) ** 2
    rows = (np.arange(maps.shape[1], dtype=np.float32) - cells[:, 1:]) ** 2
    return np.exp(-(rows[:, :, None] + columns[:, None, :]) / np.float32(2 * sigma**2)).astype(np.float32)


def _expected(maps: np.ndarray, temperature: float) -> np.ndarray:
    """Expected column and row under the softmax of each map, (K, 2) float32."""
    count, height, width = maps.shape
    flat = maps.reshape(count, -1)
    likely = np.exp((flat - flat.max(axis=1, keepdims=True)) / np.float32(temperature)).astype(float)
    likely = (likely / likely.sum(axis=1, keepdims=True)).reshape(maps.shape)
    x = likely.sum(axis=1) @ np.arange(width)
    y = likely.sum(axis=2) @ np.arange(height)
    return np.stack([np.clip(x, 0, width - 1), np.clip(y, 0, height - 1)], axis=1).astype(np.float32)


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
