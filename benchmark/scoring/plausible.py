"""What makes predictions look wrong as a whole: another frame, or x and y exchanged."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from benchmark.scoring.frames import Frame
from benchmark.scoring.predictions import Predictions

FRAMES = ("original", "letterbox-840", "stretch-840", "stretch-768", "stretch-770", "corner-aligned-840", "stretch-256",
          "stretch-240", "stretch-224", "stretch-512", "unit-800")  # fmt: skip
_MOST = 0.5  # of all points


def suspicion(predictions: Predictions) -> str | None:
    """Why the predictions are probably not in the frame they are said to be in, with a hint; None if they may be."""
    rows = np.flatnonzero(predictions.mutual)
    if not len(rows):
        return None
    sizes = predictions.sizes[predictions.owner[rows]]
    said, true = predictions.predicted[rows], predictions.true[rows]
    placed = predictions.frame.original(said, sizes)
    outside = _outside(placed, sizes)
    better = _best_frame(predictions, rows)
    name = str(predictions.frame)
    if outside.mean() > _MOST:
        hint = f"They fit {better}: give --frame {better}." if better and better != name else ""
        if not hint and _outside(placed[:, ::-1], sizes).mean() < outside.mean() / 2:
            hint = "Exchange x and y: with y first they lie inside."
        return (
            f"{int(outside.sum()):,} of {len(rows):,} predicted points lie outside their images, taken as "
            f"{name}. {hint}".rstrip()
        )
    longer = sizes.max(axis=1)
    exchanged = predictions.frame.original(said[:, ::-1], sizes)
    as_is, swapped = ((np.hypot(*(points - true).T) <= 0.1 * longer).mean() for points in (placed, exchanged))
    if len(rows) >= 20 and swapped > 2 * as_is + 0.1:
        return (
            f"{100 * swapped:.0f} % of the points are right with x and y exchanged, {100 * as_is:.0f} % as they are. "
            "Write x first."
        )
    if better and better != name and predictions.frame.kind != "unit":
        near = {frame: _near(predictions, rows, Frame.parse(frame)) for frame in (name, better)}
        if len(rows) >= 20 and near[better] > 2 * near[name] + 0.1:
            return (
                f"{100 * near[better]:.0f} % of the points are right taken as {better}, {100 * near[name]:.0f} % "
                f"as {name}. Give --frame {better}."
            )
    return None


def _outside(points: np.ndarray, sizes: np.ndarray) -> np.ndarray:
    return np.asarray(((points < -1) | (points > sizes)).any(axis=1))


def _near(predictions: Predictions, rows: np.ndarray, frame: Frame) -> float:
    """The share of points within a tenth of the image of their true points, taken as in a frame."""
    taken = replace(predictions, frame=frame)
    sizes = taken.sizes[taken.owner[rows]]
    error = np.hypot(*(frame.original(taken.predicted[rows], sizes) - taken.true[rows]).T)
    return float((error <= 0.1 * sizes.max(axis=1)).mean())


def _best_frame(predictions: Predictions, rows: np.ndarray) -> str | None:
    """The frame in which most points are near their true ones, if that is many of them."""
    near = {name: _near(predictions, rows, Frame.parse(name)) for name in FRAMES}
    best = max(near, key=lambda name: near[name])
    return best if near[best] > 0.1 else None
