"""MP-100's pairs, as MARCO drew them (2026), on MP-100 (Xu et al., ECCV 2022).

    pairs_{clothing,animal_face,animal_body_unseen,human_face,furniture}.json
                                          a list of episode_idx, category_id, src_file, trg_file
    annotations/mp100_split*_test.json    COCO; of an image that several splits have, each annotation counts once
    images/<file_name>                    of 300W, DeepFashion2, AP-10K, MacaquePose and others, each by its own licence

A split is a pair file. Points are paired by their index within one annotation each: the first of the pair's category.
``<split>_marco`` has what MARCO scores: visible points of all annotations of an image joined, the k-th with the k-th,
an annotation as often as the test files have it; its box is the one with the largest side in MARCO's square frame,
against which MARCO measures errors. Where visibility differs those are not the same part.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sc_imagenet.core.errors import InputError, check_inside
from sc_imagenet.core.files import FileState, files_in, read_json, state_of
from sc_imagenet.sources.source import Annotation, DataSet, Entry, Size, Source, lacking
from sc_imagenet.sources.tables import recorded_size

GROUPS = ("clothing", "animal_face", "animal_body_unseen", "human_face", "furniture")
MARCO = "_marco"
CLASSES = 100

DATA_SET = DataSet(
    name="mp-100",
    title="MP-100 pairs",
    paper="Xu et al., ECCV 2022; pairs: MARCO, CVPR 2026",
    licence="repository of the annotations Apache-2.0; images of seven sets, each by its own",
    homepage="https://github.com/luminxu/Pose-for-Everything",
    splits=(*GROUPS, *(f"{group}{MARCO}" for group in GROUPS)),
    pairs={f"{group}{ending}": 2_000 for group in GROUPS for ending in ("", MARCO)},
    images=None,
    classes=None,
    points="varies",
    threshold="bbox",
    manual=(
        "1. Fetch visinf.github.io/MARCO/annotations/mp100_pairs.zip; its pairs_*.json go to mp-100 in your data "
        "root.\n"
        "2. pip install gdown, then gdown --folder 1pzC5uEgi4AW9RO9_T1J-0xSKF12mdj1_; its mp100_split*_test.json go to "
        "mp-100/annotations.\n"
        "3. Get the images as Pose-for-Everything's README says; they go to mp-100/images."
    ),
    folders=("MP-100", "mp100", "MP100"),
    layout="mp-100/pairs_<group>.json\nmp-100/annotations/mp100_split*_test.json\nmp-100/images/<image>",
)

Point = tuple[float, float, int]  # x, y, visibility


@dataclass(frozen=True)
class Instance:
    """One annotation."""

    category: str
    box: tuple[float, float, float, float]
    points: tuple[Point, ...]


@dataclass
class Photograph:
    """An image: its size, and its annotations in the order of the files, repeated ones included."""

    size: Size | None
    instances: list[Instance] = field(default_factory=list)


class Mp100(Source):
    """The five groups of pairs, paired by index, and as MARCO's evaluation pairs them."""

    name = "mp-100"
    version = 2
    outside = "keep"

    def missing(self, split: str) -> str | None:
        if not self._annotations():
            return f"{self.root / 'annotations'} holds no mp100_split*_test.json"
        return lacking(self._pairs(split)) or lacking(self.root / "images")

    def categories(self) -> tuple[str, ...]:
        return tuple(str(number) for number in range(1, CLASSES + 1))

    def image_root(self) -> Path | None:
        return self.root / "images"

    def entries(self, split: str) -> list[Entry]:
        where = self._pairs(split)
        content = read_json(where)
        entries = []
        try:
            for row in content:
                category = str(int(row["category_id"]))
                one, two = (check_inside(row[side], where) for side in ("src_file", "trg_file"))
                pair_id = f"{int(row['episode_idx']):06d}-{Path(one).stem}-{Path(two).stem}:{category}"
                if category not in self.categories():
                    raise ValueError(f"category {category}")
                entries.append(Entry(pair_id, category, one, two, split))
        except (KeyError, TypeError, ValueError, OverflowError) as error:
            if isinstance(error, InputError):
                raise
            raise InputError(f"is not a list of MP-100's pairs ({error!r:.80})", where=where) from error
        return entries

    def annotation(self, entry: Entry, source_size: Size | None, target_size: Size | None) -> Annotation:
        photographs = self._photographs()
        sides = []
        for image in (entry.source, entry.target):
            if image not in photographs:
                fix = "Put the test files of all five splits into annotations."
                raise InputError(f"pair {entry.pair_id}: no annotation of {image}", self._pairs(entry.annotation), fix)
            sides.append(photographs[image])
        where = self.root / "annotations"
        if entry.annotation.endswith(MARCO):
            return _joined(sides[0], sides[1], where)
        one, two = (_first(side, entry, where) for side in sides)
        if len(one.points) != len(two.points):
            raise InputError(f"pair {entry.pair_id} has {len(one.points)} and {len(two.points)} keypoints", where)
        ids = [k for k, (a, b) in enumerate(zip(one.points, two.points)) if a[2] and b[2]]
        alone = [
            (k, *mine[:2], side == 0)
            for k, pair in enumerate(zip(one.points, two.points))
            for side, (mine, other) in enumerate((pair, pair[::-1]))
            if mine[2] and not other[2]
        ]
        return Annotation(
            [list(one.points[k][:2]) for k in ids],
            [list(two.points[k][:2]) for k in ids],
            where,
            list(one.box),
            list(two.box),
            keypoint_ids=ids,
            unpaired=tuple(alone),
            annotated_source_size=sides[0].size,
            annotated_target_size=sides[1].size,
        )

    def fingerprint(self, split: str) -> tuple[list[Path], list[Path]]:
        return [self._pairs(split), *self._annotations()], [self.root / "images"]

    def _pairs(self, split: str) -> Path:
        return self.root / f"pairs_{split.removesuffix(MARCO)}.json"

    def _annotations(self) -> list[Path]:
        return [path for path in files_in(self.root / "annotations", ".json") if "test" in path.name]

    def _photographs(self) -> Mapping[str, Photograph]:
        paths = tuple(self._annotations())
        return _photographs(paths, tuple(map(state_of, paths)))


def _first(photograph: Photograph, entry: Entry, where: Path) -> Instance:
    found = next((each for each in photograph.instances if each.category == entry.category), None)
    if found is None:
        raise InputError(f"pair {entry.pair_id}: an image has no annotation of category {entry.category}", where)
    return found


def _joined(one: Photograph, two: Photograph, where: Path) -> Annotation:
    """The k-th visible point of all annotations with the k-th, up to the shorter list."""
    seen = [[list(p[:2]) for each in side.instances for p in each.points if p[2] > 0] for side in (one, two)]
    count = min(map(len, seen))
    return Annotation(
        seen[0][:count],
        seen[1][:count],
        where,
        _largest_box(one),
        _largest_box(two),
        annotated_source_size=one.size,
        annotated_target_size=two.size,
    )


def _largest_box(photograph: Photograph) -> list[float]:
    """The box with the largest side where the image is a square; the image itself where it has none."""
    width, height = photograph.size or (1, 1)
    boxes = [each.box for each in photograph.instances] or [(0.0, 0.0, float(width), float(height))]
    sides = [max((right - left) * height, (bottom - top) * width) for left, top, right, bottom in boxes]
    return list(boxes[sides.index(max(sides))])


@functools.lru_cache(maxsize=1)
def _photographs(paths: tuple[Path, ...], states: tuple[FileState | None, ...]) -> Mapping[str, Photograph]:
    names: dict[int, str] = {}
    found: dict[str, Photograph] = {}
    for path in paths:
        content: Any = read_json(path)
        try:
            for each in content["images"]:  # of an image that several files have, the last one counts
                names[each["id"]] = each["file_name"]
                size = recorded_size([each["width"], each["height"]])
                found.setdefault(each["file_name"], Photograph(size)).size = size
            for each in content["annotations"]:
                if each["num_keypoints"] > 0:
                    found[names[each["image_id"]]].instances.append(_instance(each))
        except (KeyError, TypeError, ValueError, OverflowError) as error:
            raise InputError(f"is not an annotation file of MP-100 ({error!r:.80})", where=path) from error
    return found


def _instance(annotation: Mapping[str, Any]) -> Instance:
    x, y, width, height = map(float, annotation["bbox"])
    flat = annotation["keypoints"]
    points = tuple((float(x), float(y), int(v)) for x, y, v in zip(flat[::3], flat[1::3], flat[2::3], strict=True))
    return Instance(str(int(annotation["category_id"])), (x, y, x + width, y + height), points)
