"""What the authors' own functions returned: a folder outside the repository, or the copy kept here."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

HERE = Path(__file__).parent / "references"
ROOT = "SC_GOLDEN_ROOT"
EXACT, FRACTION, PIXELS = 0.0, 1e-6, 1e-3  # tolerances: integers, hits, lists, printed; float32 means; soft read-outs

Arrays = Mapping[str, np.ndarray]


@dataclass(frozen=True)
class Compared:
    """One array of ours beside theirs; ``limit`` None: an input of the case, read and not compared."""

    array: str
    deviation: float
    limit: float | None

    @property
    def holds(self) -> bool:
        return self.limit is None or self.deviation <= self.limit


def beside(name: str, ours: object, theirs: object, limit: float = EXACT) -> Compared:
    """Ours beside theirs: absent where theirs is absent (NaN), the largest difference elsewhere."""
    one, two = np.asarray(ours), np.asarray(theirs)
    if one.shape != two.shape:
        return Compared(name, float("inf"), limit)
    if one.dtype.kind in "US" or two.dtype.kind in "US":
        return Compared(name, float((one != two).sum()), limit)
    one, two = one.astype(float), two.astype(float)
    if not np.array_equal(np.isnan(one), np.isnan(two)):
        return Compared(name, float("inf"), limit)
    return Compared(name, float(np.nanmax(np.abs(one - two), initial=0)), limit)


def all_of(arrays: Arrays, found: Iterable[Compared], inputs: Iterable[str]) -> list[Compared]:
    """The comparisons in the file's order; an array nobody compared and that is no input deviates."""
    by_name = {compared.array: compared for compared in found}
    known = {name: Compared(name, 0.0, None) for name in inputs}
    return [by_name.get(name) or known.get(name) or Compared(name, float("inf"), EXACT) for name in arrays]


def full_root() -> Path | None:
    """The folder of the reference files: ``SC_GOLDEN_ROOT``, or ``../shared/golden`` where it is there."""
    beside_us = Path(__file__).parents[3] / "shared" / "golden"
    root = Path(os.environ.get(ROOT) or beside_us)
    return root if root.is_dir() else None


def load(name: str, root: Path = HERE) -> dict[str, np.ndarray]:
    """All arrays of a file."""
    if name.endswith(".json"):
        return {name: json.loads((root / name).read_text())}
    with np.load(root / f"{name}.npz", allow_pickle=False) as file:
        return {key: file[key] for key in file.files}
