"""How an image lies in a square frame that it is enlarged or made smaller to fit; on numpy alone.

Sizes (N, 2) are widths and heights of images in pixels. The fits:

    stretch           the image fills the square, its shape is not kept
    letterbox         the longer side fills the square, the image lies in its middle, at whole pixels
    corner-letterbox  the same, at the top left
"""

from __future__ import annotations

import numpy as np

FITS = ("stretch", "letterbox", "corner-letterbox")


def longer_sides(sizes: np.ndarray) -> np.ndarray:
    """The larger of width and height, (N,)."""
    return np.maximum(sizes[:, 0], sizes[:, 1])


def resized(fit: str, side: int, sizes: np.ndarray) -> np.ndarray:
    """Width and height (N, 2) of images in a square of ``side``, whole pixels; rounding is half to even.

    >>> resized("letterbox", 840, np.array([[420.0, 300.0]])).tolist()
    [[840.0, 600.0]]
    """
    if fit == "letterbox":
        shorter = np.round(side * np.minimum(sizes[:, 0], sizes[:, 1]) / longer_sides(sizes))
        wide = sizes[:, 1] <= sizes[:, 0]
        return np.stack([np.where(wide, side, shorter), np.where(wide, shorter, side)], axis=1)
    if fit == "corner-letterbox":
        return np.round(side / longer_sides(sizes)[:, None] * sizes)
    return np.full_like(sizes, side)


def scale(fit: str, side: int, sizes: np.ndarray) -> np.ndarray:
    """Factors (N, 2) by which x and y of points are multiplied.

    >>> scale("letterbox", 840, np.array([[420.0, 300.0]])).tolist()
    [[2.0, 2.0]]
    """
    if fit == "letterbox":
        return np.repeat(side / longer_sides(sizes)[:, None], 2, axis=1)
    if fit == "corner-letterbox":
        return resized(fit, side, sizes) / sizes
    return side / sizes


def offset(fit: str, side: int, sizes: np.ndarray) -> np.ndarray:
    """Where the images' corners lie in the square, (N, 2).

    >>> offset("letterbox", 840, np.array([[420.0, 300.0]])).tolist()
    [[0.0, 120.0]]
    """
    if fit == "letterbox":
        return np.floor((side - resized(fit, side, sizes)) / 2)
    return np.zeros((len(sizes), 2))
