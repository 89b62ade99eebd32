"""The one schema of a semantic correspondence pair, what must be true of one, and what a set of pairs is called."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from datasets import ClassLabel, Features, Image, List, Value

from sc_imagenet.core.errors import InputError, is_file_name
from sc_imagenet.core.files import read_json
from sc_imagenet.data.catalog import catalog, info
from sc_imagenet.data.imagenet import WNID
from sc_imagenet.data.images import open_image
from sc_imagenet.data.orientation import Stored
from sc_imagenet.data.record import Record
from sc_imagenet.data.roots import dataset_root
from sc_imagenet.sources.source import Annotation, Entry, Outside, Size

# The one schema of a semantic correspondence pair, whatever data set it comes from.
#
# Points are (x, y) in ORIGINAL pixels of the image, 0-based, and only those visible in both images; row k of
# ``source_points`` and row k of ``target_points`` are the same semantic point.
#
# The image is what ``sc_imagenet.data.images.open_image`` gives: upright, turned as its EXIF orientation says.
# Everything that opens an image does it so: these columns, models in training and evaluation, ``match``, pictures,
# the generator, and also plain ``datasets``, should columns have been saved and loaded without this package.
# Published data sets are annotated in pixels as stored, without heeding EXIF; their points, boxes and sizes are
# turned when they are converted (where the images are not at hand nothing is known of EXIF: they stay as published).
# SPair-style JSON is the one form that stays in pixels as stored, as its readers expect.

POINT = List(Value("float32"), length=2)  # x, y
BOX = List(Value("float32"), length=4)  # x_min, y_min, x_max, y_max
SIZE = List(Value("int32"), length=2)  # width, height
ADDED = {  # since version 2
    "keypoint_ids": List(Value("int16")),
    "keypoint_names": List(Value("string")),
    "symmetric_ids": List(Value("int16")),
    "unpaired_ids": List(Value("int16")),
    "unpaired_points": List(POINT),
    "unpaired_in_source": List(Value("bool")),
    "further_targets": List(List(POINT)),
    "source_category": Value("string"),
    "source_azimuth": Value("int8"),
    "target_azimuth": Value("int8"),
}
SCHEMA_VERSION = 2
UNKNOWN = -1  # of viewpoint_variation, scale_variation, truncation, occlusion


class UprightImage(Image):
    """``datasets.Image``, decoded by ``open_image``: upright RGB whatever the file is, or one line for a damaged one.

    Stored as ``datasets.Image`` is. Features read back from a file are that: upright as well, in the file's own mode.
    """

    def decode_example(self, value: Any, token_per_repo_id: Any = None) -> Any:
        """A cell as an RGB image; ``filename`` is its path where it has one, as for an image that Pillow opened.

        Raises:
            InputError: the file is missing or cannot be decoded.
        """
        path: Any
        path, content = (value["path"], value["bytes"]) if isinstance(value, dict) else (None, None)
        if not self.decode or (content is None and (path is None or "://" in path)):  # decoded, or on the Hub
            return super().decode_example(value, token_per_repo_id)
        image: Any = open_image(path if content is None else content, name=path)
        if content is None:
            image.filename = path  # by which ``datasets`` writes it again, instead of by its pixels
        return image

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Image) and (self.mode, self.decode) == (other.mode, other.decode)


def pair_features(categories: Sequence[str]) -> Features:
    """The columns of a pair; ``categories`` are the class names in the data set's published order.

    ``source``/``target``   images, decoded when read, ``path`` kept
    ``source_size``         (width, height) of the upright image; null where the image is not at hand
    ``source_bbox``         object box, null where the data set has none
    ``mirrored``            both images and their points are to be mirrored before use (PF-PASCAL's flip
                            rows); the stored points are those of the image before
    ``viewpoint_variation`` and its three companions: SPair-71k's difficulty grades, or -1
    ``confidence``, ``loop_offset``, ``pair_score``: generated pairs only, else null

    Since version 2, each null where the data set does not tell; shards without these columns are read as if all were:

    ``keypoint_ids``, ``keypoint_names``   of the points; the same id is the same part of any object of its category
    ``symmetric_ids``       of each point, the id of its left-right partner; its own id where it has none
    ``unpaired_ids``, ``unpaired_points``, ``unpaired_in_source``   points that one of the images alone shows
    ``further_targets``     of each point, target points that are right as well
    ``source_category``     where the source shows another category than the target, its name
    ``source_azimuth``, ``target_azimuth``   view of the objects in SPair-71k's eighths of a turn

    >>> list(pair_features(["cat"]))[:5]
    ['pair_id', 'dataset', 'category', 'source', 'target']
    """
    return Features(
        {
            "pair_id": Value("string"),
            "dataset": Value("string"),
            "category": ClassLabel(names=list(categories)),
            "source": UprightImage(),
            "target": UprightImage(),
            "source_size": SIZE,
            "target_size": SIZE,
            "source_points": List(POINT),
            "target_points": List(POINT),
            "source_bbox": BOX,
            "target_bbox": BOX,
            "mirrored": Value("bool"),
            "viewpoint_variation": Value("int8"),
            "scale_variation": Value("int8"),
            "truncation": Value("int8"),
            "occlusion": Value("int8"),
            "confidence": List(Value("float32")),
            "loop_offset": List(Value("float32")),
            "pair_score": Value("float32"),
            **ADDED,
        }
    )


def upright_images(features: Features) -> Features:
    """The same columns where images are decoded by ``open_image``, as ``pair_features`` has them.

    >>> type(upright_images(Features({"photo": Image()}))["photo"]).__name__
    'UprightImage'
    """
    return Features(
        {
            name: UprightImage(kind.mode) if isinstance(kind, Image) and kind.decode else kind
            for name, kind in features.items()
        }
    )


def without_images(features: Features) -> Features:
    """The same columns where the images may be elsewhere: a cell is its path, and nothing opens it.

    >>> without_images(pair_features(["cat"]))["source"].decode
    False
    """
    return Features({name: Image(decode=False) if isinstance(kind, Image) else kind for name, kind in features.items()})


def image_features(categories: Sequence[str]) -> Features:
    """The columns of an image listing: one row an image, no pairs."""
    return Features(
        {
            "image_id": Value("string"),
            "dataset": Value("string"),
            "category": ClassLabel(names=list(categories)),
            "image": UprightImage(),
            "size": SIZE,
        }
    )


# What must be true of a pair before it is stored; each error names the file, the pair and the point.

TOLERANCE = 1.0  # px: annotations round, some count pixels from 1


FLOAT32 = 3.4e38  # the largest number that is stored
MOST_IDS = 10_000  # of keypoints of a data set


def check_pair(
    entry: Entry, found: Annotation, source_size: Size | None, target_size: Size | None, outside: Outside
) -> int:
    """Check the points of a pair and count those more than 1 px outside their image.

    A point is inside up to 1 px left of 0 and up to 1 px beyond the last pixel. Where the size of an image
    is not known only the lower bounds are looked at.

    Raises:
        InputError: no points, unequal numbers of points, NaN or infinity, a box, a grade or an id that is none, an
            image of another size than was annotated, or, with ``outside="error"``, a point that lies outside.
    """
    check_sizes(entry, found, source_size, target_size)
    pair = f"pair {entry.pair_id}"
    source, target = found.source_points, found.target_points
    if len(source) != len(target):
        raise InputError(
            f"{pair} has {len(source)} source points and {len(target)} target points; they must be as many",
            where=found.where,
        )
    if not source:
        raise InputError(f"{pair} has no points", where=found.where)
    if not all(-128 <= grade <= 127 for grade in found.grades):
        raise InputError(f"{pair} has the grades {found.grades}", where=found.where)
    ids = [*(found.keypoint_ids or ()), *(number for number, *_ in found.unpaired)]
    if not all(0 <= number < MOST_IDS for number in ids):
        raise InputError(f"{pair} has a keypoint id beyond 0 to {MOST_IDS - 1}", where=found.where)
    further = [point for points in found.further_targets or () for point in points]
    for x, y in (*further, *((x, y) for _, x, y, _ in found.unpaired)):
        if not (abs(x) < FLOAT32 and abs(y) < FLOAT32):
            raise InputError(f"{pair}: a further point is ({x}, {y}), not a number", where=found.where)
    for side, box in (("source", found.source_bbox), ("target", found.target_bbox)):
        if box is not None and not (len(box) == 4 and all(abs(value) < FLOAT32 for value in box)):
            raise InputError(f"{pair}: the {side} box is {box}, not four numbers", where=found.where)
    count = 0
    for side, points, size in (("source", source, source_size), ("target", target, target_size)):
        right, bottom = size if size is not None else (math.inf, math.inf)
        for index, (x, y) in enumerate(points):
            if not (abs(x) < FLOAT32 and abs(y) < FLOAT32):  # NaN is not less than anything
                raise InputError(f"{pair}: {side} point {index} is ({x}, {y}), not a number", where=found.where)
            if -TOLERANCE <= x <= right and -TOLERANCE <= y <= bottom:
                continue
            count += 1
            if outside == "error":
                extent = f" of {size[0]} x {size[1]}" if size is not None else ""
                raise InputError(
                    f"{pair}: {side} point {index} at ({x:g}, {y:g}) lies outside its image{extent}",
                    where=found.where,
                    fix="Mend the file, or give outside='keep' to count and keep such points.",
                )
    return count


def check_sizes(entry: Entry, found: Annotation, source_size: Size | None, target_size: Size | None) -> None:
    """Raise InputError if an image has another size, as stored, than it had when it was annotated."""
    for image, size, annotated in (
        (entry.source, source_size, found.annotated_source_size),
        (entry.target, target_size, found.annotated_target_size),
    ):
        if size is not None and annotated is not None:
            check_size(image, size, annotated, f"pair {entry.pair_id}")


def check_size(image: object, size: Sequence[int], annotated: Sequence[int], pair: str) -> None:
    """Raise InputError if an image is not of the size that its points were given for."""
    if tuple(size) != tuple(annotated):
        raise InputError(
            f"is {size[0]} x {size[1]} pixels, the points of {pair} are for {annotated[0]} x {annotated[1]}",
            where=image,
            fix="Get the image again in its own size: points are in its pixels. Was it exchanged here, convert the "
            "data set again (scbench data convert NAME --force), or make a generated one again.",
        )


def known_size(entry: Entry, image: str, root: object, sizes: dict[str, Stored | str]) -> Stored:
    """Size and orientation of an image of a pair.

    Raises:
        InputError: the image is missing, empty or unreadable; the message names the pair.
    """
    size = sizes[image]
    if isinstance(size, str):
        raise InputError(f"{size}, named by pair {entry.pair_id}", where=f"{root}/{image}", fix="Get the image again.")
    return size


def check_unique(entries: list[Entry], where: object) -> None:
    """Raise InputError if two entries share a pair id."""
    seen: set[str] = set()
    for entry in entries:
        if entry.pair_id in seen:
            raise InputError(f"lists pair {entry.pair_id} twice", where=where, fix="Remove one of them.")
        seen.add(entry.pair_id)


# What a set of pairs is called in records: SC-ImageNet's name is for SC-ImageNet alone.

GENERATED = "generation.json"  # what ``scbench generate`` leaves beside the pairs it made


def set_name(record: Record, root: Path | str | None, is_path: bool) -> str:
    """The name of a set of SC-ImageNet's form.

    A generated one has the name in its ``generation.json``, else its folder's; so does any other, unless it has
    SC-ImageNet's classes. "own" stands before a name that is another set's.

    Args:
        record: of one of its splits.
        root: as given to ``load_dataset``.
        is_path: whether its folder was named, rather than "sc-imagenet".
    """
    entry = info("sc-imagenet")
    folder = dataset_root(entry.name, root).absolute()
    made = generated_name(folder)
    if made is None:
        whole = len(record.categories) == entry.classes and all(map(WNID.fullmatch, record.categories))
        if whole or not is_path or folder.name in (entry.name, *entry.folders):
            return entry.name
    name = made or folder.name
    taken = {known for each in catalog().values() for known in (each.name, *each.folders)}
    return f"own {name}" if name in taken else name


def generated_name(folder: Path) -> str | None:
    """The name of a generated set, by its own folder or the one of its JSON export; None if it is none."""
    for home in (folder, folder.parent) if folder.name == "spair" else (folder,):
        if (home / GENERATED).is_file():
            try:
                content = read_json(home / GENERATED)
            except InputError:  # damaged, and yet a sign that it was generated
                content = None
            name = content.get("name") if isinstance(content, dict) else None
            return name if isinstance(name, str) and is_file_name(name) else home.name
    return None
