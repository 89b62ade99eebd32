"""The embedded default: pairs rendered by ``sc_imagenet.toy``, once, into the cache.

Labels that are made for its photographs from class names alone can be compared with the renderer's geometry.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from filelock import FileLock

from sc_imagenet.core.files import atomic_path
from sc_imagenet.core.locks import unwatched
from sc_imagenet.sources.source import Annotation, DataSet, Entry, Size, Source
from sc_imagenet.sources.tables import GRADES, read_lines

DATA_SET = DataSet(
    name="toy",
    title="Toy",
    paper="rendered here",
    licence="Apache-2.0",
    homepage="",
    splits=("train", "validation", "test", "test_across"),
    pairs={"train": 2_500, "validation": 140, "test": 300, "test_across": 180},
    images=900,
    classes=10,
    points="4 to 11, of 10 or 11",
    manual="Nothing to get: it is rendered on this machine when it is first loaded.",
    layout="kept in the cache folder ($SC_CACHE)",
    embedded=True,
    config_of="sc-imagenet",
)
PHOTOGRAPHS = "train"  # the split whose images are
ALPHA = 0.1  # of PCK


class RenderedToy(Source):
    """The toy set; its root is the cache folder, with a folder for every version of the renderer."""

    name = "toy"
    version = 2

    def missing(self, split: str) -> str | None:
        return None

    def categories(self) -> tuple[str, ...]:
        from sc_imagenet.toy.pairs import CATEGORIES

        return CATEGORIES

    def image_root(self) -> Path:
        from sc_imagenet.toy.pairs import TOY_VERSION

        return self.root / TOY_VERSION

    def entries(self, split: str) -> list[Entry]:
        rows = map(json.loads, read_lines(self._rows(split)))
        return [Entry(row["pair_id"], row["category"], row["source"], row["target"], row) for row in rows]

    def annotation(self, entry: Entry, source_size: Size | None, target_size: Size | None) -> Annotation:
        from sc_imagenet.toy.pairs import point_names, symmetric_points

        row = entry.annotation
        viewpoint, scale, truncation, occlusion = (int(row[grade]) for grade in GRADES)
        if "source_category" in row:
            return _across(row, (viewpoint, scale, truncation, occlusion))
        points, visible = zip(*(self._seen(image) for image in (entry.source, entry.target)))
        ids = np.flatnonzero(visible[0] & visible[1]).tolist()
        names = point_names(entry.category)
        partners = symmetric_points(names)
        unpaired = (
            (number, *points[side][number].tolist(), side == 0)
            for side in (0, 1)
            for number in np.flatnonzero(visible[side] & ~visible[1 - side]).tolist()
        )
        return Annotation(
            row["source_points"],
            row["target_points"],
            entry.source,
            row["source_bbox"],
            row["target_bbox"],
            (viewpoint, scale, truncation, occlusion),
            keypoint_ids=ids,
            keypoint_names=[names[number] for number in ids],
            symmetric_ids=[partners[number] for number in ids],
            unpaired=tuple(unpaired),
        )

    def _seen(self, image: str) -> tuple[np.ndarray, np.ndarray]:
        from sc_imagenet.toy.pairs import seen_points

        return seen_points(self.image_root(), image)

    def fingerprint(self, split: str) -> tuple[list[Path], list[Path]]:
        return [self._rows(split)], []

    def photographs(self) -> tuple[Path, tuple[str, ...]]:
        self._rows(PHOTOGRAPHS)
        return self.image_root() / PHOTOGRAPHS, self.categories()

    def label_errors(self, pairs: Sequence[Path]) -> dict[str, Any]:
        """How far labels lie from the truth.

        Returns:
            points, and in percent of them: on the object; and with the true place seen in the target. Of the latter:
            mean and median error in pixels, and PCK@0.1 (of the longer side of the target object's box), percent; and
            PCK@0.1 of all points, where those beside the object or with a hidden target are wrong.
        """
        from sc_imagenet.data.shards import open_parquet
        from sc_imagenet.toy.surface import pictured, transfer

        errors, on_object, visible, right = [], [], [], []
        for path in pairs:
            for row in open_parquet(path).read(["source", "target", "source_points", "target_points"]).to_pylist():
                source, target = (pictured(PHOTOGRAPHS, *_image(row[side]["path"])) for side in ("source", "target"))
                # The labels measure from the image's corner, the renderer from the middle of its first pixel.
                true = transfer(source, target, np.array(row["source_points"]) - 0.5)
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

    def _rows(self, split: str) -> Path:
        """The file of a split's rows, rendered now if it was not before; an interrupted rendering goes on."""
        from sc_imagenet.toy.pairs import render_pairs

        folder = self.image_root()
        rows = folder / f"{split}.jsonl"
        if rows.exists():
            return rows
        folder.mkdir(parents=True, exist_ok=True)
        with unwatched(), FileLock(folder / f"{split}.lock"):
            if not rows.exists():  # else another process rendered while this one waited
                with atomic_path(rows) as temporary, open(temporary, "w", encoding="utf-8") as file:
                    file.writelines(json.dumps(row) + "\n" for row in render_pairs(folder, split))
        return rows


def _across(row: dict[str, Any], grades: tuple[int, int, int, int]) -> Annotation:
    """A pair of two categories; its points are numbered and named as the target's."""
    from sc_imagenet.toy.pairs import point_names, symmetric_points

    names = point_names(row["category"])
    partners = symmetric_points(names)
    return Annotation(
        row["source_points"],
        row["target_points"],
        row["source"],
        row["source_bbox"],
        row["target_bbox"],
        grades,
        keypoint_ids=row["points"],
        keypoint_names=[names[number] for number in row["points"]],
        symmetric_ids=[partners[number] for number in row["points"]],
        source_category=row["source_category"],
    )


def _image(path: str) -> tuple[str, int]:
    """Class and number of a photograph."""
    category, name = path.split("/")
    return category, int(Path(name).stem)
