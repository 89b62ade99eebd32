"""The reference arrays: whole files of a folder outside the repository, and the extracts kept here."""

from __future__ import annotations

import gzip
import json
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike

from tests.parity.rounding import Measured

HERE = Path(__file__).parent / "references"
ROOT = "SC_PARITY_ROOT"
SMALLEST = 1e-12  # divides where a reference, or what is allowed, is zero
SHARE = 0.25  # of the norm of all roundings that may be left of them together
MOST = 100  # limits that float32 may lie from float64; further away, ours is not merely rounded

Arrays = Mapping[str, np.ndarray]


@dataclass(frozen=True)
class Tolerance:
    """How far ours may be from the reference.

    limit       largest deviation allowed
    relative    "to the largest": |a - b| / max |b|, |a - b| if b is all zeros; "each": |a - b| / |b|, element by
                element; "together": norm of a - b / norm of b; "no": |a - b|
    """

    limit: float
    relative: str = "to the largest"

    def compare(self, array: str, ours: np.ndarray, reference: np.ndarray, rounding: ArrayLike = 0.0) -> Comparison:
        """Ours beside the reference; infinitely far if the shapes differ.

        ``rounding`` is how far, in the units of the array, the reference may be for its float32 alone: it is
        allowed on top of the limit, unless it is beyond all measure itself. What is told is the element nearest to
        what is allowed, or beyond.
        """
        ours, reference = np.asarray(ours, np.float64), np.asarray(reference, np.float64)
        if ours.shape != reference.shape or not np.isfinite(ours).all():
            return Comparison(array, float("inf"), self.limit, self)
        if not reference.size:
            return Comparison(array, 0.0, self.limit, self)
        difference, rounding = np.abs(ours - reference), np.broadcast_to(rounding, ours.shape)
        if (lost := self._share(rounding, reference)) > MOST * self.limit:
            return Comparison(array, lost, MOST * self.limit, self)
        scale: ArrayLike = 1.0
        if self.relative == "each":
            scale = np.maximum(np.abs(reference), SMALLEST)
        elif self.relative == "to the largest":
            scale = np.abs(reference).max() or 1.0
        elif self.relative == "together":
            difference, rounding = np.linalg.norm(difference), SHARE * np.linalg.norm(rounding)
            scale = np.linalg.norm(reference) or 1.0
        deviation, allowed = (np.ravel(found) for found in (difference / scale, self.limit + rounding / scale))
        worst = (deviation / np.maximum(allowed, SMALLEST)).argmax()
        return Comparison(array, float(deviation[worst]), float(allowed[worst]), self)

    def _share(self, rounding: np.ndarray, reference: np.ndarray) -> float:
        if self.relative == "no":
            return float(rounding.max())
        return float(np.linalg.norm(rounding) / (np.linalg.norm(reference) or 1.0))


@dataclass(frozen=True)
class Comparison:
    """One array of ours beside the reference's: how far it is, and how far it may be."""

    array: str
    deviation: float
    allowed: float
    tolerance: Tolerance

    @property
    def holds(self) -> bool:
        """Whether the deviation is within the tolerance."""
        return self.deviation <= self.allowed


def beside(
    ours: Mapping[str, np.ndarray | Measured],
    theirs: Arrays,
    tolerances: Mapping[str, Tolerance],
    thin: Callable[[str, np.ndarray], np.ndarray],
) -> list[Comparison]:
    """Every array of theirs beside ours; one that we do not have deviates infinitely.

    Where theirs is an extract, ours is cut alike with ``thin``. Gradient norms are also compared together, as one
    vector: roundings of many tensors cancel there, a wrong factor does not.
    """
    comparisons = []
    for key, reference in theirs.items():
        mine, rounding = ours.get(key, np.empty(0)), np.zeros(())
        if isinstance(mine, Measured):
            mine, rounding = mine.values, mine.rounding
        if mine.shape != reference.shape:
            mine, rounding = thin(key, mine), thin(key, rounding) if rounding.shape else rounding
        comparisons.append(tolerances[key].compare(key, mine, reference, rounding))
        if ("grad_norms" in key or "gradient_norms" in key) and tolerances[key].relative == "each":
            together = Tolerance(tolerances[key].limit, "together")
            comparisons.append(together.compare(f"{key}/together", mine, reference, rounding))
    return comparisons


def full_root() -> Path | None:
    """The folder of the whole reference files: ``SC_PARITY_ROOT``, or ``../shared/parity`` where it is there."""
    beside = Path(__file__).parents[3] / "shared" / "parity"
    given = os.environ.get(ROOT)
    return Path(given) if given else beside if beside.is_dir() else None


def found_in(root: Path, file: str) -> Path | None:
    """Where a file lies in the folder of the reference files or in one of its folders; None if it does not."""
    return next((path for path in (root / file, *sorted(root.glob(f"*/{file}"))) if path.is_file()), None)


def load(name: str, root: Path = HERE) -> dict[str, np.ndarray]:
    """All arrays of a reference file."""
    with np.load(found_in(root, f"{name}.npz") or root / f"{name}.npz", allow_pickle=False) as file:
        return {key: file[key] for key in file.files}


def published_shapes(name: str) -> dict[str, list[int]]:
    """Keys and shapes of the published state dict."""
    return json.loads(gzip.decompress((HERE / f"{name}.keys.json.gz").read_bytes()))
