"""CUB-200-2011 (Wah et al., 2011) and its 15 parts of birds; there are no agreed pairs, so these are ours, frozen.

    images.txt              ``<id> <class folder>/<image>.jpg``
    train_test_split.txt    ``<id> 0|1``, 1 to train
    bounding_boxes.txt      ``<id> x y width height``
    parts/part_locs.txt     ``<id> <part 1-15> x y 0|1``, 1 visible
    images/<class folder>/<image>.jpg

A split's pairs: its images by rising id, all combinations of two of one class, the lower id first, where both show
three parts or more. The list is the same for everyone; LDM, DistillDIFT and GECO each took others.
"""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from sc_imagenet.core.errors import InputError, check_inside
from sc_imagenet.core.files import FileState, state_of
from sc_imagenet.sources.source import Annotation, DataSet, Entry, Size, Source, lacking
from sc_imagenet.sources.tables import read_lines

NAMES = (
    "back", "beak", "belly", "breast", "crown", "forehead", "left eye", "left leg", "left wing", "nape", "right eye",
    "right leg", "right wing", "tail", "throat",
)  # fmt: skip
PARTNERS = tuple(
    NAMES.index(name.replace("left", "right") if "left" in name else name.replace("right", "left")) for name in NAMES
)
FEWEST_POINTS = 3
LISTS = ("images.txt", "train_test_split.txt", "bounding_boxes.txt", "parts/part_locs.txt")

DATA_SET = DataSet(
    name="cub-200-2011",
    title="CUB-200-2011 parts",
    paper="Wah et al., 2011; pairs: this project's",
    licence="non-commercial research, by Caltech; images: their photographers'",
    homepage="https://www.vision.caltech.edu/datasets/cub_200_2011/",
    splits=("train", "test"),
    pairs={},
    images=None,
    classes=200,
    points="3 to 15",
    threshold="bbox",
    manual="1. Fetch CUB_200_2011.tgz from the homepage; unpack it as cub-200-2011 in your data root.",
    folders=("CUB_200_2011", "cub_200_2011"),
    layout="\n".join(("cub-200-2011/images/<class>/<image>.jpg", *(f"cub-200-2011/{name}" for name in LISTS))),
)


@dataclass(frozen=True)
class Bird:
    """An image: its file below images/, whether it is to train, its box and its visible parts by number from 0."""

    file: str
    to_train: bool
    box: tuple[float, float, float, float]
    parts: dict[int, tuple[float, float]]


class Cub(Source):
    """All combinations within a class; the parts' own left and right."""

    name = "cub-200-2011"
    outside = "keep"  # some parts were clicked just beside their image

    def missing(self, split: str) -> str | None:
        needed = (*self._lists(), self.root / "images")
        return next((why for path in needed if (why := lacking(path))), None)

    def categories(self) -> tuple[str, ...]:
        return tuple(sorted({_class_of(bird.file) for bird in self._birds().values()}))

    def image_root(self) -> Path | None:
        return self.root / "images"

    def entries(self, split: str) -> list[Entry]:
        by_class: dict[str, list[Bird]] = {}
        for _, bird in sorted(self._birds().items()):
            if bird.to_train == (split == "train"):
                by_class.setdefault(_class_of(bird.file), []).append(bird)
        return [
            Entry(f"{Path(one.file).stem}-{Path(two.file).stem}:{name}", name, one.file, two.file, (one, two))
            for name, birds in sorted(by_class.items())
            for one, two in itertools.combinations(birds, 2)
            if len(one.parts.keys() & two.parts.keys()) >= FEWEST_POINTS
        ]

    def annotation(self, entry: Entry, source_size: Size | None, target_size: Size | None) -> Annotation:
        one, two = entry.annotation
        ids = sorted(one.parts.keys() & two.parts.keys())
        alone = [(k, *one.parts[k], True) for k in sorted(one.parts.keys() - two.parts.keys())]
        alone += [(k, *two.parts[k], False) for k in sorted(two.parts.keys() - one.parts.keys())]
        return Annotation(
            [list(one.parts[k]) for k in ids],
            [list(two.parts[k]) for k in ids],
            self.root / LISTS[-1],
            list(one.box),
            list(two.box),
            keypoint_ids=ids,
            keypoint_names=[NAMES[k] for k in ids],
            symmetric_ids=[PARTNERS[k] for k in ids],
            unpaired=tuple(alone),
        )

    def fingerprint(self, split: str) -> tuple[list[Path], list[Path]]:
        return self._lists(), [self.root / "images"]

    def _lists(self) -> list[Path]:
        return [self.root / name for name in LISTS]

    def _birds(self) -> dict[int, Bird]:
        return _birds(tuple(self._lists()), tuple(map(state_of, self._lists())))


def _class_of(file: str) -> str:
    return file.partition("/")[0]


Row = TypeVar("Row")


def _rows(path: Path, width: int, read: Callable[[list[str]], Row]) -> list[Row]:
    found = []
    for number, line in enumerate(read_lines(path), start=1):
        values = line.split()
        try:
            if len(values) != width:
                raise ValueError(f"{len(values)} values, not {width}")
            found.append(read(values))
        except ValueError as error:
            raise InputError(f"line {number}: {error}", where=path, fix="Get the file again.") from error
    return found


@functools.lru_cache(maxsize=1)
def _birds(paths: tuple[Path, ...], states: tuple[FileState | None, ...]) -> dict[int, Bird]:
    images, split, boxes, parts = paths
    files = dict(_rows(images, 2, lambda v: (int(v[0]), check_inside(v[1], images))))
    to_train = dict(_rows(split, 2, lambda v: (int(v[0]), v[1] == "1")))
    box_of = dict(_rows(boxes, 5, lambda v: (int(v[0]), tuple(map(float, v[1:])))))
    seen: dict[int, dict[int, tuple[float, float]]] = {number: {} for number in files}
    for number, part, x, y, visible in _rows(
        parts, 5, lambda v: (int(v[0]), int(v[1]), float(v[2]), float(v[3]), int(v[4]))
    ):
        if number not in seen or not 1 <= part <= len(NAMES):
            raise InputError(f"has part {part} of image {number}, which there is not", where=parts)
        if visible:
            seen[number][part - 1] = (x, y)
    for path, found in ((split, to_train.keys()), (boxes, box_of.keys())):
        if absent := files.keys() - found:
            raise InputError(f"tells nothing of image {min(absent)}", where=path, fix="Get the file again.")
    birds = {}
    for number, file in files.items():
        x, y, width, height = box_of[number]
        birds[number] = Bird(file, to_train[number], (x, y, x + width, y + height), seen[number])
    return birds
