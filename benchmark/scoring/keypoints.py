"""What keypoint ids stand for, and the points and pairs that published subsets take.

SPair-71k's ids are those of its files, AP-10K's 0 to 16, CUB's 0 to 14. Masks are over points (P,) or pairs (N,):
geometry-aware and flip subsets, azimuth, viewpoint and the other grades.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping

import numpy as np

from benchmark.scoring.predictions import PAIR_GRADES, Predictions

AP10K_NAMES = (
    "left eye", "right eye", "nose", "neck", "root of tail", "left shoulder", "left elbow", "left front paw",
    "right shoulder", "right elbow", "right front paw", "left hip", "left knee", "left back paw", "right hip",
    "right knee", "right back paw",
)  # fmt: skip


Groups = tuple[tuple[int, ...], ...]


def _groups(text: str) -> Groups:
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


def geometry_groups(dataset: str, category: str) -> Groups:
    """Groups of ids that look alike, of a category; none where nobody published any."""
    if is_ap10k(dataset):
        return AP10K_GEOMETRY
    return GEOMETRY.get(category, ()) if is_spair(dataset) else ()


def flip_pairs(dataset: str, category: str, tables: Mapping[str, Groups] = FLIPS) -> Groups:
    """Pairs of ids that a mirrored image exchanges."""
    if is_ap10k(dataset):
        return AP10K_FLIPS
    if dataset.startswith("cub"):
        return CUB_FLIPS
    return tables.get(category, ()) if is_spair(dataset) else ()


def geco_partners(dataset: str, category: str) -> Groups:
    """Pairs of ids that GECO takes for mirror partners."""
    return GECO_AP10K_PARTNERS if is_ap10k(dataset) else flip_pairs(dataset, category, GECO_PARTNERS)


def partner_of(ids: np.ndarray, pairs: Groups) -> np.ndarray:
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


def is_spair(dataset: str) -> bool:
    """Whether ids are taken to be those of SPair-71k: it, or a data set that is not said."""
    return dataset in ("", "spair-71k")


def is_ap10k(dataset: str) -> bool:
    """Whether ids are those of AP-10K."""
    return re.sub("[-_]", "", dataset.lower()).startswith("ap10k")


def geometry_ids(predictions: Predictions) -> np.ndarray:
    """The geometry-aware subset (P,): points of a group that has two members visible in the target.

    All mutual points of such a group belong, after GeoAware-SC's section on the subset. Points without ids do not.
    """
    return _members(predictions, lambda category: geometry_groups(predictions.dataset, category), "target")


def flip_ids(predictions: Predictions) -> np.ndarray:
    """GeoAware's flip subset (P,): as ``geometry_ids`` with the flip pairs, two members visible in the SOURCE.

    The table of bus is the released one, which does not fit its ids.
    """

    def pairs(category: str) -> Groups:
        return flip_pairs(predictions.dataset, category, FLIPS_AS_RELEASED)

    return _members(predictions, pairs, "source")


def geometry_live(predictions: Predictions) -> np.ndarray:
    """The geometry-aware subset as GeoAware's loop takes it (P,), DEFECTIVE: ids are renumbered wrongly.

    Its table lists every id, those of no group alone; it is filtered to the ids that the category's pairs use and
    renumbered in its own order. The numbers are then read as places among the used ids in ascending order. Wrong
    points are taken for bus, car, pottedplant, tvmonitor and AP-10K.
    """
    used = used_ids(predictions)

    def renumbered(category: str) -> Groups:
        here = used.get(category, np.empty(0, int)).tolist()
        groups = geometry_groups(predictions.dataset, category)
        alone = set(here).difference(i for group in groups for i in group)
        table = [tuple(i for i in group if i in here) for group in sorted((*groups, *((i,) for i in alone)))]
        place = {number: row for row, number in enumerate(i for group in table for i in group)}
        return tuple(tuple(here[place[i]] for i in group) for group in table)

    return _members(predictions, renumbered, "target")


def used_ids(predictions: Predictions) -> dict[str, np.ndarray]:
    """The ids that are visible in any image of a category's pairs, ascending."""
    visible = (predictions.true_visible | predictions.other_visible) & (predictions.ids >= 0)
    category = predictions.categories[predictions.owner]
    return {
        str(name): np.unique(predictions.ids[visible & (category == name)])
        for name in np.unique(predictions.categories)
    }


def azimuth_difference(predictions: Predictions) -> np.ndarray:
    """Steps of 45 degrees between the two azimuths, 0 to 4 (N,); -1 where they are unknown."""
    if predictions.azimuths is None:
        return np.full(len(predictions), -1)
    one, two = predictions.azimuths.T
    apart = np.abs(one - two)
    return np.where((one < 0) | (two < 0), -1, np.minimum(apart, 8 - apart))


def mirrored_azimuth(predictions: Predictions) -> np.ndarray:
    """Whether one image shows azimuth 0 to 3 and the other 4 to 7, (N,)."""
    if predictions.azimuths is None:
        return np.full(len(predictions), False)
    one, two = predictions.azimuths.T
    return ((one <= 3) != (two <= 3)) & (one >= 0) & (two >= 0)


def grade_masks(predictions: Predictions) -> dict[str, np.ndarray]:
    """Masks over pairs (N,) by ``viewpoint_variation 0`` and so on, of what the data set grades."""
    if predictions.grades is None:
        return {}
    found: dict[str, np.ndarray] = {}
    for column, name in enumerate(PAIR_GRADES):
        grades = predictions.grades[:, column]
        found |= {f"{name} {grade}": grades == grade for grade in np.unique(grades[grades >= 0]).tolist()}
    return found


def azimuth_masks(predictions: Predictions) -> dict[str, np.ndarray]:
    """Masks over pairs (N,) by ``azimuth 0`` to ``azimuth 4``; none where azimuths are unknown."""
    steps = azimuth_difference(predictions)
    return {f"azimuth {step}": steps == step for step in range(5) if (steps == step).any()}


POINT_SUBSETS: Mapping[str, Callable[[Predictions], np.ndarray]] = {
    "geo-ids": geometry_ids,
    "geo-live": geometry_live,
    "flip": flip_ids,
}


def partners(predictions: Predictions, pairs_of: Callable[[str], Groups]) -> np.ndarray:
    """The id of each point's partner (P,): its own where it has none, -1 where ids are unknown.

    What the data set says of a category goes before the published tables, ``pairs_of``.
    """
    found = np.full(len(predictions.ids), -1)
    told = np.full(len(found), -1) if predictions.symmetric_ids is None else predictions.symmetric_ids
    category = predictions.categories[predictions.owner]
    for name in np.unique(predictions.categories).tolist():
        here = category == name
        rows = here & (told >= 0) & (predictions.ids >= 0)
        own = {(int(one), int(two)) for one, two in zip(predictions.ids[rows], told[rows])}
        found[here] = partner_of(predictions.ids[here], tuple(own) or pairs_of(name))
    return found


def partner_rows(predictions: Predictions, ids: np.ndarray) -> np.ndarray:
    """The row (P,) in the same pair that has the id asked for at each row; -1 where the pair has none."""
    key = predictions.owner.astype(np.int64) << 24
    known = key + predictions.ids
    order = np.argsort(known, kind="stable")
    wanted = key + ids
    place = np.minimum(np.searchsorted(known[order], wanted), max(len(order) - 1, 0))
    if not len(order):
        return np.empty(0, int)
    row = order[place]
    return np.where((known[row] == wanted) & (ids >= 0), row, -1)


def _members(predictions: Predictions, groups_of: Callable[[str], Groups], side: str) -> np.ndarray:
    """Mutual points of groups with two members visible on a side."""
    visible = predictions.true_visible if side == "target" else predictions.other_visible
    member = np.full(len(predictions.ids), False)
    owner = predictions.owner
    category = predictions.categories[owner]
    for name in np.unique(predictions.categories).tolist():
        here = category == name
        groups = [group for group in groups_of(name) if len(group) > 1]
        if not groups:
            continue
        table = np.full(max(i for group in groups for i in group) + 2, -1)
        for number, group in enumerate(groups):
            table[list(group)] = number
        rows = np.flatnonzero(here & (predictions.ids >= 0) & (predictions.ids < len(table) - 1))
        group_of = table[predictions.ids[rows]]
        rows, group_of = rows[group_of >= 0], group_of[group_of >= 0]
        key = owner[rows] * len(groups) + group_of
        several = np.bincount(key, visible[rows], len(predictions) * len(groups)) >= 2
        member[rows] = several[key] & predictions.mutual[rows]
    return member
