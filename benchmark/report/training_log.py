"""A run's training as its log tells it, thinned for a picture."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from pathlib import Path

Points = tuple[tuple[float, float], ...]
LARGEST = 1e15  # beyond, no axis has ticks that can be told apart
MOST = 120  # points of a curve: more cannot be seen, and a long training logs thousands


@dataclass(frozen=True)
class TrainingLog:
    """Loss and validation PCK by step."""

    loss: Points
    validation: Points

    def __bool__(self) -> bool:
        return len(self.loss) > 1 or len(self.validation) > 1


def read_log(file: Path) -> TrainingLog:
    """Read a ``log.jsonl``; lines that are cut or of another kind are passed over, a missing file is empty."""
    loss: list[tuple[float, float]] = []
    validation: list[tuple[float, float]] = []
    try:
        lines = file.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        lines = []
    for line in lines:
        try:
            entry = json.loads(line)
            for name, points in (("loss", loss), ("validation_pck", validation)):
                if name in entry:
                    point = float(entry["step"]), float(entry[name])
                    if max(map(abs, point)) < LARGEST and not any(map(math.isnan, point)):
                        points.append(point)
        except (ValueError, TypeError, KeyError, OverflowError, RecursionError):
            continue
    return TrainingLog(thinned(loss), thinned(validation))


def thinned(points: list[tuple[float, float]], most: int = MOST) -> Points:
    """At most ``most`` points: means of runs of neighbours, in order; the last point stays as it is.

    >>> thinned([(1, 4.0), (2, 2.0), (3, 1.0), (4, 0.0)], most=3)
    ((1.5, 3.0), (3.0, 1.0), (4, 0.0))
    """
    if len(points) <= most:
        return tuple(points)
    body, step = points[:-1], math.ceil((len(points) - 1) / (most - 1))
    runs = [body[start : start + step] for start in range(0, len(body), step)]
    means = [(sum(x for x, _ in run) / len(run), sum(y for _, y in run) / len(run)) for run in runs]
    return (*means, points[-1])
