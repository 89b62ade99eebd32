"""PF-WILLOW (Ham et al., CVPR 2016), in both forms it is found in.

The authors' folder, with all ordered pairs of different images within a class, in sorted order:

    PF-dataset-WILLOW/<class>/<image>.png
    PF-dataset-WILLOW/<class>/<image>.mat      ``pts_coord`` (2, 10): row 0 = x, row 1 = y

and the copy of later codes, whose ``test_pairs.csv`` is preferred when there: columns 0 and 1 are image paths
``<top>/<class>/<file>``, 2 to 21 the source's ten x and ten y, 22 to 41 the target's.

Splits: ``test`` is all pairs, as published. ``images_train`` and ``images_test`` split each class by image:
its images sorted by file name, the first six train, the rest (four) test; all ordered pairs of each part
(30 and 12 a class), so that no test image was seen in training. Pair ids are the same in all splits.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from sc_imagenet.errors import InputError
from sc_imagenet.sources.source import Annotation, Entry, Size, Source, first_existing
from sc_imagenet.sources.tables import numbers, read_mat, read_rows

CATEGORIES = (
    "car(G)", "car(M)", "car(S)", "duck(S)", "motorbike(G)", "motorbike(M)", "motorbike(S)",
    "winebottle(M)", "winebottle(wC)", "winebottle(woC)",
)  # fmt: skip
TRAIN_IMAGES = 6  # of the ten of a class
POINTS = 10


class PfWillow(Source):
    """PF-WILLOW; a folder may hold some of the ten classes only."""

    name = "pf-willow"

    def __init__(self, root: Path, options: object) -> None:
        super().__init__(root, options)  # type: ignore[arg-type]
        nested = first_existing(root / "PF-dataset-WILLOW", root / "PF-WILLOW")
        self.folder = nested if nested is not None and not (root / "test_pairs.csv").exists() else root
        self.csv = self.folder / "test_pairs.csv"

    def missing(self, split: str) -> str | None:
        if self.csv.exists() or any((self.folder / category).is_dir() for category in CATEGORIES):
            return None
        return f"{self.folder} holds neither test_pairs.csv nor a class folder such as '{CATEGORIES[0]}'"

    def categories(self) -> tuple[str, ...]:
        return CATEGORIES

    def image_root(self) -> Path | None:
        return self.folder

    def entries(self, split: str) -> list[Entry]:
        pairs = self._listed() if self.csv.exists() else self._all_ordered()
        if split == "test":
            return pairs
        train = self._first_images(pairs)
        wanted = split == "images_train"
        return [
            pair for pair in pairs if (pair.source in train) == wanted and (pair.target in train) == wanted
        ]

    def annotation(self, entry: Entry, source_size: Size | None, target_size: Size | None) -> Annotation:
        if entry.annotation is not None:  # a line of the csv
            line, values = entry.annotation
            coordinates = numbers(values, self.csv, line)
            source, target = np.reshape(coordinates, (2, 2, POINTS))
            where: object = f"{self.csv} line {line}"
        else:
            source, target = (self._points(image) for image in (entry.source, entry.target))
            where = self._mat(entry.source)
        return Annotation(source.T.tolist(), target.T.tolist(), where)

    def fingerprint(self, split: str) -> tuple[list[Path], list[Path]]:
        files = sorted(path for category in CATEGORIES for path in (self.folder / category).glob("*.*"))
        return [self.csv] if self.csv.exists() else [], files

    def _listed(self) -> list[Entry]:
        entries = []
        for line, row in enumerate(read_rows(self.csv, columns=2 + 4 * POINTS), start=2):
            source, target = ("/".join(path.strip().split("/")[1:]) for path in row[:2])
            category = source.split("/")[0]
            if category not in CATEGORIES:
                raise InputError(f"line {line}: unknown class {category!r}", where=self.csv)
            points = (line, row[2 : 2 + 4 * POINTS])
            entries.append(Entry(_pair_id(source, target, category), category, source, target, points))
        return entries

    def _all_ordered(self) -> list[Entry]:
        return [
            Entry(_pair_id(source, target, category), category, source, target, None)
            for category in CATEGORIES
            for source in self._images(category)
            for target in self._images(category)
            if source != target
        ]

    def _images(self, category: str) -> list[str]:
        return sorted(
            f"{category}/{path.with_suffix('.png').name}" for path in (self.folder / category).glob("*.mat")
        )

    @staticmethod
    def _first_images(pairs: list[Entry]) -> set[str]:
        train: set[str] = set()
        for category in CATEGORIES:
            of_class = {pair.source for pair in pairs if pair.category == category}
            of_class |= {pair.target for pair in pairs if pair.category == category}
            train.update(sorted(of_class)[:TRAIN_IMAGES])
        return train

    def _mat(self, image: str) -> Path:
        return (self.folder / image).with_suffix(".mat")

    def _points(self, image: str) -> np.ndarray:
        points = read_mat(self._mat(image), "pts_coord")
        if points.ndim != 2 or points.shape[0] != 2:
            raise InputError(f"'pts_coord' is {points.shape}, not (2, {POINTS})", where=self._mat(image))
        return points


def _pair_id(source: str, target: str, category: str) -> str:
    """The same for a pair whatever the layout or the number of classes at hand."""
    return f"{Path(source).stem}-{Path(target).stem}:{category}"
