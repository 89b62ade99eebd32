"""The reference arrays: whole files of a folder outside the repository, and the extracts kept here."""

from __future__ import annotations

import gzip
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

HERE = Path(__file__).parent / "references"
ROOT = "SC_PARITY_ROOT"

Arrays = Mapping[str, np.ndarray]


@dataclass(frozen=True)
class Tolerance:
    """How far ours may be from the reference.

    limit       largest deviation allowed
    relative    "to the largest": |a - b| / max |b|; "each": |a - b| / |b|, element by element; "no": |a - b|
    """

    limit: float
    relative: str = "to the largest"

    def deviation(self, ours: np.ndarray, reference: np.ndarray) -> float:
        """The deviation that ``limit`` is compared with; infinite if the shapes differ."""
        ours, reference = np.asarray(ours, np.float64), np.asarray(reference, np.float64)
        if ours.shape != reference.shape or not np.isfinite(ours).all():
            return float("inf")
        difference = np.abs(ours - reference)
        if self.relative == "each":
            return float((difference / np.maximum(np.abs(reference), 1e-12)).max())
        if self.relative == "to the largest":
            return float(difference.max() / np.abs(reference).max())
        return float(difference.max())


@dataclass(frozen=True)
class Comparison:
    """One array of ours beside the reference's."""

    array: str
    deviation: float
    tolerance: Tolerance

    @property
    def holds(self) -> bool:
        """Whether the deviation is within the tolerance."""
        return self.deviation <= self.tolerance.limit


def full_root() -> Path | None:
    """The folder of the whole reference files: ``SC_PARITY_ROOT``, or ``../shared/parity`` where it is there."""
    beside = Path(__file__).parents[3] / "shared" / "parity"
    given = os.environ.get(ROOT)
    return Path(given) if given else beside if beside.is_dir() else None


def load(name: str, root: Path = HERE) -> dict[str, np.ndarray]:
    """All arrays of a reference file."""
    with np.load(root / f"{name}.npz", allow_pickle=False) as file:
        return {key: file[key] for key in file.files}


def published_shapes(name: str) -> dict[str, list[int]]:
    """Keys and shapes of the published state dict."""
    return json.loads(gzip.decompress((HERE / f"{name}.keys.json.gz").read_bytes()))
