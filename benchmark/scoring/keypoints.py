"""What keypoint ids of the benchmarks stand for: groups that geometry tells apart, left-right partners, sides.

SPair-71k's ids are those of its files, AP-10K's 0 to 16, CUB's 0 to 14.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

import numpy as np

AP10K_NAMES = (
    "left eye", "right eye", "nose", "neck", "root of tail", "left shoulder", "left elbow", "left front paw",
    "right shoulder", "right elbow", "right front paw", "left hip", "left knee", "left back paw", "right hip",
    "right knee", "right back paw",
)  # fmt: skip


def _groups(text: str) -> tuple[tuple[int, ...], ...]:
    return tuple(tuple(int(i) for i in group.split("-")) for group in text.split())


# Ids whose appearance alone does not tell them apart (legs, wings, lamps, corners).
GEOMETRY = {
    "aeroplane": _groups("4-5 6-7 8-9 10-11 12-13 14-15 16-17 18-19 20-21"),
    "bicycle": _groups("2-3 6-7 9-10"),
    "bird": _groups("1-2 10-11 12-13 14-15"),
    "boat": _groups("1-2 3-4 5-6 7-8 9-10 11-12"),
    "bottle": _groups("0-1 2-3 4-5 6-7 8-9"),
    "bus": _groups("0-1 2-3-5-6 4-7 10-13-20-23 11-14-21-24 12-15-22-25 16-17-26-27 18-19-28-29"),
    "car": _groups("0-1 2-3-6-7 4-8 5-9 10-13-20-23 11-14-21-24 12-15-22-25 16-17-26-27 18-19-28-29"),
    "cat": _groups("2-3 9-10-11-12"),
    "chair": _groups("0-1 2-3 4-5-6-7 8-9 10-11 12-13"),
    "cow": _groups("2-3 9-10-11-12 15-16-17-18 19-20"),
    "dog": _groups("2-3 9-10-11-12"),
    "horse": _groups("2-3 10-11-12-13 16-17-18-19"),
    "motorbike": _groups("0-1 2-3"),
    "person": _groups("8-9 10-11 12-13 14-15 16-17 18-19"),
    "pottedplant": _groups("0-1-2-3 4-5 6-8"),
    "sheep": _groups("2-3 9-10-11-12 15-16-17-18 19-20"),
    "train": _groups("0-1 2-3 4-5 6-7 8-9 10-11 12-13 14-15 16-17"),
    "tvmonitor": _groups("0-2-4-6 1-3-5-7 8-10-12-14 9-11-13-15"),
}
AP10K_GEOMETRY = _groups("5-8 6-9-12-15 7-10-13-16 11-14")

_PAIRS = {name: tuple(group for group in groups if len(group) == 2) for name, groups in GEOMETRY.items()}
# Pairs of ids that a mirrored image exchanges.
FLIPS = _PAIRS | {
    "bird": _groups("1-2 4-5 7-8 10-11 12-13 14-15"),
    "car": _groups("0-1 2-3 6-7 10-20 13-23 11-21 14-24 12-22 15-25 16-17 26-27 18-19 28-29"),
    "bus": _groups("0-1 2-3 5-6 10-20 13-23 11-21 14-24 12-22 15-25 16-17 26-27 18-19 28-29"),
    "cat": _groups("0-1 2-3 4-5 6-7 9-10 11-12"),
    "chair": _groups("0-1 2-3 4-5 6-7 8-9 10-11 12-13"),
    "cow": _groups("0-1 2-3 4-5 6-7 9-10 11-12 15-16 17-18 19-20"),
    "dog": _groups("0-1 2-3 4-5 9-10 11-12"),
    "horse": _groups("0-1 2-3 4-5 6-7 10-11 12-13 16-17 18-19"),
    "person": _groups("0-1 2-3 8-9 10-11 12-13 14-15 16-17 18-19"),
    "pottedplant": _groups("0-2 4-5 6-8"),
    "sheep": _groups("0-1 2-3 4-5 6-7 9-10 11-12 15-16 17-18 19-20"),
    "tvmonitor": _groups("0-2 4-6 3-7 8-10 12-14 11-15"),
}
# GeoAware's table for tests numbers bus without its two dummies, and applies it to raw ids: kept, marked defective.
FLIPS_AS_RELEASED = FLIPS | {"bus": _groups("0-1 2-3 5-6 8-18 11-21 9-19 12-22 10-20 13-23 14-15 24-25 16-17 26-27")}
AP10K_FLIPS = _groups("0-1 5-8 6-9 12-15 7-10 13-16 11-14")
CUB_FLIPS = _groups("6-10 7-11 8-12")

# GECO counts front and back parts that look alike as partners, too.
GECO_PARTNERS = FLIPS | {
    "bicycle": _groups("0-1 2-3 6-7 9-10"),
    "bus": _groups("0-1 2-3 4-7 5-6 10-20 11-21 12-22 13-23 14-24 15-25 16-17 18-19 26-27 28-29"),
    "car": _groups("0-1 2-3 4-8 5-9 6-7 10-20 11-21 12-22 13-23 14-24 15-25 16-17 18-19 26-27 28-29"),
    "motorbike": _groups("0-1 2-3 4-5 6-7 11-12"),
    "pottedplant": _groups("0-2 1-3 4-5 6-8"),
    "tvmonitor": _groups("0-2 3-7 4-6 8-10 11-15 12-14"),
}

GECO_AP10K_PARTNERS = _groups("0-1 6-9 12-15")  # eyes, elbows and knees alone

# N neutral, L left, R right, by id.
SIDES = {
    "aeroplane": "NNNNRLRLRLRLRLRLRLRLRLNNN", "bicycle": "NNRLNNRLNRLNNN", "bird": "NRLNRLNRLNRLRLRLN",
    "boat": "NRLRLRLRLRLRLN", "bottle": "LRLRLRLRLR", "bus": "RLRLNRLNNNRRRRRRRLRLLLLLLLRLRL",
    "car": "RLRLNNRLNNRRRRRRRLRLLLLLLLRLRL", "cat": "RLRLRLRLNRLRLNN", "chair": "RLRLRLRLRLRLRL",
    "cow": "RLRLRLRLNRLRLNNRLRLRL", "dog": "RLRLRLNNNRLRLNNN", "horse": "RLRLRLRLNNRLRLNNRLRL",
    "motorbike": "RLRLNNNNNNNNN", "person": "RLRLNNNNRLRLRLRLRLRL", "pottedplant": "RNLNRLRNL",
    "sheep": "RLRLRLRLNRLRLNNRLRLRL", "train": "LRLRLRLRLRLRLRLRLR", "tvmonitor": "RNLRRNLLRNLRRNLL",
}  # fmt: skip


def geometry_groups(dataset: str, category: str) -> tuple[tuple[int, ...], ...]:
    """Groups of ids that look alike, of a category; none where nobody published any."""
    return AP10K_GEOMETRY if is_ap10k(dataset) else GEOMETRY.get(category, ())


def flip_pairs(
    dataset: str, category: str, tables: Mapping[str, tuple[tuple[int, ...], ...]] = FLIPS
) -> tuple[tuple[int, ...], ...]:
    """Pairs of ids that a mirrored image exchanges."""
    if is_ap10k(dataset):
        return AP10K_FLIPS
    return CUB_FLIPS if dataset.startswith("cub") else tables.get(category, ())


def geco_partners(dataset: str, category: str) -> tuple[tuple[int, ...], ...]:
    """Pairs of ids that GECO takes for mirror partners."""
    return GECO_AP10K_PARTNERS if is_ap10k(dataset) else flip_pairs(dataset, category, GECO_PARTNERS)


def partner_of(ids: np.ndarray, pairs: tuple[tuple[int, ...], ...]) -> np.ndarray:
    """The partner of each id, the id itself where it has none.

    >>> import numpy as np
    >>> partner_of(np.array([0, 1, 2, 5]), ((0, 1), (5, 8))).tolist()
    [1, 0, 2, 8]
    """
    largest = max([int(ids.max(initial=0)), *(i for pair in pairs for i in pair)])
    table = np.arange(largest + 2)  # the last row: id -1, unknown
    table[-1] = -1
    for one, two in pairs:
        table[one], table[two] = two, one
    return table[ids]


def is_ap10k(dataset: str) -> bool:
    """Whether ids are those of AP-10K."""
    return re.sub("[-_]", "", dataset.lower()).startswith("ap10k")
