"""AP-10K correspondence: AP-10K (Yu et al., 2021), pairs as GeoAware-SC (Zhang et al., CVPR 2024) draws them.

    annotations/ap10k-{train,val,test}-split1.json   COCO: images, annotations, categories
    data/<12 digits>.jpg
    ap-10k_is_crowd.txt                              ids of images with several animals, which are in no split

Of an image the first annotation counts. Which images are whose split and which pairs there are is ``ap_10k_pairs``'s,
in bytewise order: the same list on every file system. A folder that a notebook prepared is read as ``ap-10k-prepared``.
Points are those of visibility 1 and 2, numbered 0 to 16; of a pair across species both are named.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from sc_imagenet.core.errors import InputError, check_inside, check_name
from sc_imagenet.core.files import FileState, read_json, sha256_of, state_of
from sc_imagenet.sources.ap_10k_pairs import Animal, Lists, pair_lists
from sc_imagenet.sources.source import Annotation, DataSet, Entry, Size, Source, lacking
from sc_imagenet.sources.tables import read_lines, recorded_size

NAMES = (
    "left eye", "right eye", "nose", "neck", "root of tail", "left shoulder", "left elbow", "left front paw",
    "right shoulder", "right elbow", "right front paw", "left hip", "left knee", "left back paw", "right hip",
    "right knee", "right back paw",
)  # fmt: skip
PARTNERS = (1, 0, 2, 3, 4, 8, 9, 10, 5, 6, 7, 14, 15, 16, 11, 12, 13)
PARTS = ("train", "test", "val")  # of split 1, in the order in which the first annotation of an image is looked for
CROWDED = "ap-10k_is_crowd.txt"
CROWDED_SHA256 = "64444a59008ec9402b9409dce6234af946a2f480a8348d1751d22af10c812ee6"
PUBLISHED_IMAGES = 10_015
SPLITS = (
    *("train", "validation", "test", "validation_cross_species", "test_cross_species"),
    *("validation_cross_family", "test_cross_family"),
)

DATA_SET = DataSet(
    name="ap-10k",
    title="AP-10K correspondence",
    paper="Yu et al., 2021; pairs: Zhang et al., CVPR 2024",
    licence="CC BY 4.0",
    homepage="https://github.com/AlexTheBad/AP-10K",
    splits=SPLITS,
    pairs={},
    images=None,
    classes=54,
    points="3 to 17",
    threshold="bbox",
    manual=(
        "1. pip install gdown, then gdown 1-FNNGcdtAQRehYYkGY1y4wzFNg4iWNad; unpack it so that ap-10k/annotations and "
        "ap-10k/data lie in your data root.\n"
        f"2. Put {CROWDED} (in github.com/Junyi42/GeoAware-SC, folder data; SHA-256 {CROWDED_SHA256}) beside them."
    ),
    folders=("AP-10K", "ap10k", "ap_10k"),
    layout=f"ap-10k/annotations/ap10k-{{train,val,test}}-split1.json\nap-10k/data/<image>.jpg\nap-10k/{CROWDED}",
)


@dataclass(frozen=True)
class Photograph:
    """One image of AP-10K: its file below the root, its size, box (x_min, y_min, x_max, y_max) and points (x, y, v)."""

    animal: Animal
    file: str
    size: Size
    box: tuple[float, ...]
    points: tuple[tuple[float, float, int], ...]


class Ap10k(Source):
    """AP-10K's pairs within species, across species of a family, and across families."""

    name = "ap-10k"

    def missing(self, split: str) -> str | None:
        needed = (*self._parts(), self.root / CROWDED, self.root / "data")
        return next((why for path in needed if (why := lacking(path))), None)

    def categories(self) -> tuple[str, ...]:
        return species_of(self._parts()[0])

    def image_root(self) -> Path | None:
        return self.root

    def entries(self, split: str) -> list[Entry]:
        photographs = self.photographs_by_id()
        entries = []
        for stem in self.lists()[split]:
            one, two = (photographs[int(part)] for part in stem.partition(":")[0].split("-"))
            entries.append(Entry(stem, two.animal.species, one.file, two.file, (one, two)))
        return entries

    def annotation(self, entry: Entry, source_size: Size | None, target_size: Size | None) -> Annotation:
        source, target = entry.annotation
        return pair_annotation(source, target, self.root / "annotations")

    def fingerprint(self, split: str) -> tuple[list[Path], list[Path]]:
        return [*self._parts(), self.root / CROWDED], [self.root / "data"]

    def lists(self) -> Lists:
        """The stems of all splits' pairs, in bytewise order."""
        return _lists(*self._states())

    def photographs_by_id(self) -> Mapping[int, Photograph]:
        """All images by their numbers.

        Raises:
            InputError: a file is damaged, or the list of crowded images is not the published one.
        """
        return _photographs(*self._states())

    def _parts(self) -> list[Path]:
        return [self.root / "annotations" / f"ap10k-{part}-split1.json" for part in PARTS]

    def _states(self) -> tuple[tuple[Path, ...], tuple[FileState | None, ...]]:
        paths = (*self._parts(), self.root / CROWDED)
        return paths, tuple(map(state_of, paths))


@functools.lru_cache(maxsize=2)
def _lists(paths: tuple[Path, ...], states: tuple[FileState | None, ...]) -> Lists:
    return pair_lists([each.animal for each in _photographs(paths, states).values()])


@functools.lru_cache(maxsize=2)
def _photographs(paths: tuple[Path, ...], states: tuple[FileState | None, ...]) -> Mapping[int, Photograph]:
    *parts, listed = paths
    found = read_photographs(parts, frozenset(read_lines(listed)))
    if len(found) == PUBLISHED_IMAGES and sha256_of(listed) != CROWDED_SHA256:
        raise InputError(
            f"is not the published list of crowded images: SHA-256 {sha256_of(listed)[:12]}, not {CROWDED_SHA256[:12]}",
            where=listed,
            fix="Get the file again; with another list other pairs are drawn.",
        )
    return found


def read_photographs(parts: list[Path], crowded: frozenset[str] = frozenset()) -> dict[int, Photograph]:
    """The images of COCO files by their numbers; of several annotations of an image the first one counts.

    Raises:
        InputError: a file is damaged, or an image's annotation is not of AP-10K's form.
    """
    images: dict[int, Any] = {}
    annotations: dict[int, Any] = {}
    contents = [_content(path) for path in parts]
    species = {each["id"]: (each["supercategory"], each["name"]) for each in contents[0]["categories"]}
    where: dict[int, Path] = {}
    for path, content in zip(parts, contents):
        images.update((each["id"], each) for each in content["images"])
        for each in content["annotations"]:
            annotations.setdefault(each["image_id"], each)
            where.setdefault(each["image_id"], path)
    found = {}
    for number, annotation in annotations.items():
        try:
            family, name = species[annotation["category_id"]]
            found[number] = _photograph(images[number], annotation, family, name, crowded)
        except (KeyError, TypeError, ValueError, IndexError, OverflowError) as error:
            if isinstance(error, InputError):
                raise
            what = f"image {str(number)[:20]} has no annotation of AP-10K's form ({error!r:.80})"
            raise InputError(what, where=where[number], fix="Get the file again.") from error
    return found


def _content(path: Path) -> Any:
    content = read_json(path)
    try:
        for each in content["categories"]:
            check_name("family", each["supercategory"], path)
            check_name("species", each["name"], path)
            if len(each["keypoints"]) != len(NAMES):
                raise ValueError(f"{len(each['keypoints'])} keypoints, not {len(NAMES)}")
        if not all(isinstance(each["id"], int) for each in content["images"]):
            raise ValueError("an image's id is no number")
        if not all(isinstance(each["image_id"], int) for each in content["annotations"]):
            raise ValueError("an annotation's image_id is no number")
    except (KeyError, TypeError, ValueError) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(f"is not an annotation file of AP-10K ({error})", where=path) from error
    return content


def _photograph(image: Any, annotation: Any, family: str, species: str, crowded: frozenset[str]) -> Photograph:
    """An image with its annotation, both as COCO has them."""
    size, box, points = annotated(image, annotation)
    animal = Animal(int(image["id"]), family, species, tuple(v for *_, v in points))
    file = check_inside(f"data/{image['file_name']}", "AP-10K")
    return Photograph(replace(animal, dropped=animal.stem in crowded), file, size, box, points)


def annotated(image: Any, annotation: Any) -> tuple[Size, tuple[float, ...], tuple[tuple[float, float, int], ...]]:
    """Size, box (x_min, y_min, x_max, y_max) and points (x, y, v) of an image and its annotation as COCO has them.

    Raises:
        KeyError, TypeError, ValueError, OverflowError: they are of another form.
    """
    flat = annotation["keypoints"]
    points = tuple((float(x), float(y), int(v)) for x, y, v in zip(flat[::3], flat[1::3], flat[2::3]))
    if len(flat) != 3 * len(NAMES) or any(v not in (0, 1, 2) for *_, v in points):
        raise ValueError("keypoints that are not 17 times x, y and 0, 1 or 2")
    x, y, width, height = map(float, annotation["bbox"])
    size = recorded_size([image["width"], image["height"]])
    assert size is not None
    return size, (x, y, x + width, y + height), points


def species_of(path: Path) -> tuple[str, ...]:
    """The species of an annotation file, as its own numbers order them."""
    return tuple(each["name"] for each in sorted(_content(path)["categories"], key=lambda each: each["id"]))


def pair_annotation(source: Photograph, target: Photograph, where: object) -> Annotation:
    """The points of two images: those that both show, and those that one alone shows."""
    ids = [k for k in range(len(NAMES)) if source.points[k][2] and target.points[k][2]]
    unpaired = [
        (k, *side.points[k][:2], side is source)
        for k in range(len(NAMES))
        for side, other in ((source, target), (target, source))
        if side.points[k][2] and not other.points[k][2]
    ]
    across = source.animal.species != target.animal.species
    return Annotation(
        [list(source.points[k][:2]) for k in ids],
        [list(target.points[k][:2]) for k in ids],
        where,
        list(source.box),
        list(target.box),
        keypoint_ids=ids,
        keypoint_names=[NAMES[k] for k in ids],
        symmetric_ids=[PARTNERS[k] for k in ids],
        unpaired=tuple(unpaired),
        source_category=source.animal.species if across else None,
        annotated_source_size=source.size,
        annotated_target_size=target.size,
    )
