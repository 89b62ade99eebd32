"""What must be true of a pair before it is stored; each error names the file, the pair and the point."""

from __future__ import annotations

import math
from collections.abc import Sequence

from sc_imagenet.core.errors import InputError
from sc_imagenet.core.names import check_inside, check_name
from sc_imagenet.data.orientation import Stored
from sc_imagenet.sources.source import Annotation, Entry, Outside, Size

TOLERANCE = 1.0  # px: annotations round, some count pixels from 1


FLOAT32 = 3.4e38  # the largest number that is stored


def check_entry(entry: Entry, where: object) -> None:
    """Raise InputError if a pair's id cannot be printed, or its id or images lead out of the data set."""
    for name in (entry.pair_id, entry.source, entry.target):
        check_inside(name, where)
    check_name("class", entry.category, where)


def check_pair(
    entry: Entry, found: Annotation, source_size: Size | None, target_size: Size | None, outside: Outside
) -> int:
    """Check the points of a pair and count those more than 1 px outside their image.

    A point is inside up to 1 px left of 0 and up to 1 px beyond the last pixel. Where the size of an image
    is not known only the lower bounds are looked at.

    Raises:
        InputError: no points, unequal numbers of points, NaN or infinity, a box or a grade that is none, an image of
            another size than was annotated, or, with ``outside="error"``, a point that lies outside.
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
