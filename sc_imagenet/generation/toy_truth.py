"""The generator on the toy set: photographs whose labels can be compared with the truth.

Labels are made from class names alone; the truth comes from the renderer's geometry and is looked at afterwards.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from sc_imagenet.core.files import files_in
from sc_imagenet.data.shards import open_parquet
from sc_imagenet.generation.pipeline import PhotographSource
from sc_imagenet.sources import open_source
from sc_imagenet.toy.pairs import CATEGORIES
from sc_imagenet.toy.surface import carry, pictured

SPLIT = "train"
ALPHA = 0.1  # of PCK


def toy_photographs() -> PhotographSource:
    """The images of the toy set's training split, rendered now if they were not before."""
    source = open_source("toy")
    source.entries(SPLIT)
    root = source.image_root()
    assert root is not None
    return PhotographSource(root / SPLIT, CATEGORIES)


def label_errors(out: Path) -> dict[str, Any]:
    """How far the labels of a data set made from the toy set lie from the truth.

    Returns:
        points, and in percent of them: on the object; and with the true place seen in the target. Of the latter:
        mean and median error in pixels, and PCK@0.1 (of the longer side of the target object's box), percent; and
        PCK@0.1 of all points, where those beside the object or with a hidden target are wrong.
    """
    errors, on_object, visible, right = [], [], [], []
    for path in files_in(out / "pairs", ".parquet"):
        for row in open_parquet(path).read(["source", "target", "source_points", "target_points"]).to_pylist():
            source, target = (pictured(SPLIT, *_image(row[side]["path"])) for side in ("source", "target"))
            # The labels measure from the image's corner, the renderer from the middle of its first pixel.
            true = carry(source, target, np.array(row["source_points"]) - 0.5)
            error = np.linalg.norm(np.array(row["target_points"]) - 0.5 - true.points, axis=1)
            box = target.bbox
            on_object.append(true.on_object)
            visible.append(true.visible)
            errors.append(error)
            right.append(error <= ALPHA * max(box[2] - box[0], box[3] - box[1]))
    seen = np.concatenate(visible)
    error, correct = np.concatenate(errors), np.concatenate(right) & seen
    return {
        "points": len(seen),
        "on the object, percent": 100 * float(np.concatenate(on_object).mean()),
        "true place seen in the target, percent": 100 * float(seen.mean()),
        "mean, pixels": float(error[seen].mean()) if seen.any() else float("nan"),
        "median, pixels": float(np.median(error[seen])) if seen.any() else float("nan"),
        f"PCK@{ALPHA:g} of the seen": 100 * float(correct[seen].mean()) if seen.any() else float("nan"),
        f"PCK@{ALPHA:g} of all": 100 * float(correct.mean()),
    }


def _image(path: str) -> tuple[str, int]:
    category, name = path.split("/")
    return category, int(Path(name).stem)
