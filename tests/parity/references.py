"""The reference arrays: whole files of a folder outside the repository, and the extracts kept here."""

from __future__ import annotations

import gzip
import json
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

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


def beside(
    ours: Arrays, theirs: Arrays, tolerances: Mapping[str, Tolerance], thin: Callable[[str, np.ndarray], np.ndarray]
) -> list[Comparison]:
    """Every array of theirs beside ours; one that we do not have deviates infinitely.

    Where theirs is an extract, ours is cut alike with ``thin``.
    """
    comparisons = []
    for key, reference in theirs.items():
        mine = ours.get(key, np.empty(0))
        if mine.shape != reference.shape:
            mine = thin(key, mine)
        comparisons.append(Comparison(key, tolerances[key].deviation(mine, reference), tolerances[key]))
    return comparisons


@contextmanager
def on_two_threads() -> Iterator[None]:
    """Compute on two threads, as the references were.

    Batch statistics of one pair under a sharp softmax magnify rounding: the order of summation of one thread
    moves single gradient norms of CATs' early layers by 8e-3, with the same code.
    """
    threads = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


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
