"""A vectorised z-buffer: which face each pixel sees, how far it is, and where on the face it lies."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

NOTHING = -1


@dataclass(frozen=True)
class Buffers:
    """What each pixel of an image sees."""

    face: np.ndarray  # (H, W) index of the nearest face, or NOTHING
    depth: np.ndarray  # (H, W) distance along the optical axis, inf where nothing is seen
    weights: np.ndarray  # (H, W, 3) barycentric weights on the face, perspective-correct; 0 where nothing


def rasterise(pixels: np.ndarray, depth: np.ndarray, faces: np.ndarray, width: int, height: int) -> Buffers:
    """Draw triangles with a depth test; pixel (i, j) is sampled at exactly x = i, y = j.

    ``pixels`` (V, 2) and ``depth`` (V,) > 0 are the projected vertices, ``faces`` (F, 3) their indices.
    Every triangle is cut into rows and every row into the span that its three edges leave, all at once;
    1/depth is linear in the image, so the nearest face has the largest.
    """
    corners = pixels[faces]
    inverse = 1.0 / depth[faces]
    edges = _edges(corners)  # (F, 3 edges, 3): weight of each corner = a x + b y + c
    plane = (edges * inverse[:, :, None]).sum(1)  # 1/depth = a x + b y + c

    face, y = _rows(corners[..., 1], height)
    a, b, c = (edges[face, :, k] for k in range(3))
    rest = b * y[:, None] + c
    with np.errstate(divide="ignore", invalid="ignore"):
        cut = -rest / a
    low = np.where(a > 0, cut, np.where((a == 0) & (rest < 0), np.inf, -np.inf)).max(1)
    high = np.where(a < 0, cut, np.inf).min(1)
    first = np.ceil(np.clip(low - 1e-9, 0, width)).astype(np.int64)
    last = np.floor(np.clip(high + 1e-9, -1, width - 1)).astype(np.int64)

    span, step = _expand(np.maximum(last - first + 1, 0))
    face, y, x = face[span], y[span], first[span] + step
    near = plane[face, 0] * x + plane[face, 1] * y + plane[face, 2]
    place = y * width + x
    best = np.zeros(height * width)
    np.maximum.at(best, place, near)
    won = near == best[place]
    face, x, y, place = face[won], x[won], y[won], place[won]

    seen = np.full(height * width, NOTHING)
    seen[place] = face
    weights = np.zeros((height * width, 3))
    linear = edges[face, :, 0] * x[:, None] + edges[face, :, 1] * y[:, None] + edges[face, :, 2]
    weights[place] = np.clip(linear * inverse[face] / best[place, None], 0, 1)
    with np.errstate(divide="ignore"):
        depths = 1.0 / best
    return Buffers(seen.reshape(height, width), depths.reshape(height, width), weights.reshape(height, width, 3))


def _edges(corners: np.ndarray) -> np.ndarray:
    """Coefficients (F, 3, 3) of the barycentric weights of triangles (F, 3, 2); faces seen edge-on get none."""
    following, last = np.roll(corners, -1, 1), np.roll(corners, -2, 1)
    a = following[..., 1] - last[..., 1]
    b = last[..., 0] - following[..., 0]
    c = following[..., 0] * last[..., 1] - last[..., 0] * following[..., 1]
    area = c.sum(1)
    flat = np.abs(area) < 1e-9
    edges = np.stack([a, b, c], -1) / np.where(flat, 1.0, area)[:, None, None]
    edges[flat] = (0.0, 0.0, -1.0)
    return edges


def _rows(y: np.ndarray, height: int) -> tuple[np.ndarray, np.ndarray]:
    """For each image row that a triangle touches: the triangle and the row."""
    top = np.ceil(np.clip(y.min(1), 0, height)).astype(np.int64)
    bottom = np.floor(np.clip(y.max(1), -1, height - 1)).astype(np.int64)
    face, step = _expand(np.maximum(bottom - top + 1, 0))
    return face, top[face] + step


def _expand(counts: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Index i repeated counts[i] times, and the position 0 .. counts[i] - 1 within each run."""
    index = np.repeat(np.arange(len(counts)), counts)
    starts = np.cumsum(counts) - counts
    return index, np.arange(len(index)) - starts[index]
