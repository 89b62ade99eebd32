"""Keypoint average precision (KAP), in its three definitions: is a point's best similarity within alpha * d?"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from benchmark.scoring.bootstrap import Quantity


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


def quantities(precisions: np.ndarray, alphas: Sequence[float], name: str = "kap") -> list[Quantity]:
    """KAP's image mode, the mean over pairs of their average precisions (N, A), for intervals over pairs."""
    ones = np.ones(len(precisions))
    return [Quantity(f"{name}@{alpha:g}/image", column, ones) for alpha, column in zip(alphas, precisions.T)]


def normalised(maps: np.ndarray) -> np.ndarray:
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


def jamais_vu(within: np.ndarray, beyond: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Labels and scores as released, DEFECTIVE: points that the target does not show are taken for positives."""
    ones = np.ones(len(within), int)
    return np.concatenate([ones, 0 * ones]), np.concatenate([within, beyond])


def visibility_aware(within: np.ndarray, beyond: np.ndarray, visible: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Labels and scores as the paper's text has it; ``visible`` (K,) in the target."""
    negative = np.where(visible, beyond, np.maximum(within, beyond))
    labels = np.concatenate([np.ones(int(visible.sum()), int), np.zeros(len(within), int)])
    return labels, np.concatenate([within[visible], negative])


def spherical_maps(
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
