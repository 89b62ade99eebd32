"""The embedded default: pairs rendered by ``sc_imagenet.toy``, once, into the cache."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from pathlib import Path
from typing import Any

from sc_imagenet.sources.source import Annotation, Entry, Size, Source
from sc_imagenet.sources.tables import GRADES, read_lines

ROWS = "pairs.jsonl"


class RenderedToy(Source):
    """The toy set; its root is the cache folder, one folder a version and split."""

    name = "toy"

    def missing(self, split: str) -> str | None:
        return None

    def categories(self) -> tuple[str, ...]:
        from sc_imagenet.toy import CATEGORIES

        return CATEGORIES

    def image_root(self) -> Path | None:
        from sc_imagenet.toy import TOY_VERSION

        return self.root / TOY_VERSION

    def entries(self, split: str) -> list[Entry]:
        names = self.categories()
        entries = []
        for line in read_lines(self._rendered(split) / ROWS):
            row = json.loads(line)
            category = row["category"]
            entries.append(
                Entry(
                    row["pair_id"],
                    names[category] if isinstance(category, int) else category,
                    f"{split}/{_path(row['source'])}",
                    f"{split}/{_path(row['target'])}",
                    row,
                )
            )
        return entries

    def annotation(self, entry: Entry, source_size: Size | None, target_size: Size | None) -> Annotation:
        row = entry.annotation
        viewpoint, scale, truncation, occlusion = (int(row.get(grade, -1)) for grade in GRADES)
        return Annotation(
            row["source_points"],
            row["target_points"],
            entry.source,
            row.get("source_bbox"),
            row.get("target_bbox"),
            (viewpoint, scale, truncation, occlusion),
        )

    def fingerprint(self, split: str) -> tuple[list[Path], list[Path]]:
        return [self._rendered(split) / ROWS], []

    def _rendered(self, split: str) -> Path:
        """The folder of a split's images and rows, rendered now if it was not before; whole or not at all."""
        from sc_imagenet.toy import TOY_VERSION, render_pairs

        folder = self.root / TOY_VERSION / split
        if (folder / ROWS).exists():
            return folder
        folder.parent.mkdir(parents=True, exist_ok=True)
        temporary = Path(tempfile.mkdtemp(prefix=f".{split}.", suffix=".tmp", dir=folder.parent))
        try:
            with open(temporary / ROWS, "w", encoding="utf-8") as file:
                for row in render_pairs(temporary, split):
                    file.write(json.dumps(row, default=_plain) + "\n")
            try:
                os.rename(temporary, folder)
            except OSError:  # another process was first; its rendering is the same
                if not (folder / ROWS).exists():
                    raise
        finally:
            shutil.rmtree(temporary, ignore_errors=True)
        return folder


def _path(image: Any) -> str:
    """The path of an image of a row, given as text or in the schema's {"path": ..., "bytes": None}."""
    return str(image["path"] if isinstance(image, dict) else image)


def _plain(value: Any) -> Any:
    """Numpy values of a row as JSON has them."""
    return value.tolist()
