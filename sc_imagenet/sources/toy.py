"""The embedded default: pairs rendered by ``sc_imagenet.toy``, once, into the cache."""

from __future__ import annotations

import json
from pathlib import Path

from filelock import FileLock

from sc_imagenet.core.files import atomic_path
from sc_imagenet.core.locks import unwatched
from sc_imagenet.sources.source import Annotation, Entry, Size, Source
from sc_imagenet.sources.tables import GRADES, read_lines


class RenderedToy(Source):
    """The toy set; its root is the cache folder, with a folder for every version of the renderer."""

    name = "toy"

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
        row = entry.annotation
        viewpoint, scale, truncation, occlusion = (int(row[grade]) for grade in GRADES)
        return Annotation(
            row["source_points"],
            row["target_points"],
            entry.source,
            row["source_bbox"],
            row["target_bbox"],
            (viewpoint, scale, truncation, occlusion),
        )

    def fingerprint(self, split: str) -> tuple[list[Path], list[Path]]:
        return [self._rows(split)], []

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
