"""Masks over points and pairs: geometry-aware and flip subsets, azimuth, viewpoint and the other grades."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np

from benchmark.scoring.keypoints import FLIPS_AS_RELEASED, flip_pairs, geometry_groups, partner_of
from benchmark.scoring.predictions import GRADES, Predictions

Groups = tuple[tuple[int, ...], ...]


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
    for column, name in enumerate(GRADES):
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
    """The id of each point's partner (P,): its own where it has none, -1 where ids are unknown."""
    found = np.full(len(predictions.ids), -1)
    category = predictions.categories[predictions.owner]
    for name in np.unique(predictions.categories).tolist():
        here = category == name
        found[here] = partner_of(predictions.ids[here], pairs_of(name))
    return found


def row_of(predictions: Predictions, ids: np.ndarray) -> np.ndarray:
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
