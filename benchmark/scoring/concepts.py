"""SOCO's pairs: points of several categories that share a name (semantic overlap) or a concept."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from benchmark.scoring.frames import Frame
from benchmark.scoring.predictions import PredictionInfo, Predictions, predictions_of_pairs
from sc_imagenet.core.errors import InputError

KINDS = ("semantic", "concept")


def concept_predictions(
    pairs: Sequence[Mapping[str, Any]],
    predicted: Sequence[Any],
    kind: str,
    frame: Frame,
    info: PredictionInfo,
) -> Predictions:
    """Predictions of SOCO's pairs, for its metric SOC (``semantic``) or CC (``concept``).

    Args:
        pairs: rows of its JSON Lines.
        predicted: for each, a point in ``frame`` for every source keypoint.
        kind: ``semantic``: the target is the point of the same name, of those that ``semantic_overlap`` lists;
            ``concept``: every target point of all groups of ``concept_matches`` that name the source point.
        frame: that the predictions lie in.
        info: where they come from.

    Raises:
        InputError: a pair lacks an entry or predictions do not fit it.
    """
    rows = []
    for pair, points in zip(pairs, predicted):
        where = f"pair {pair.get('pair_id')}"
        try:
            sources = {each["name"]: each["pos"] for each in pair["src_keypoints"]}
            targets = {each["name"]: each["pos"] for each in pair["trg_keypoints"]}
            said = dict(zip(sources, np.asarray(points, float).reshape(len(sources), 2)))
            valid = _valid(pair, kind)
            width, height = pair["trg_imsize"]
            # Without a box d is the longer side of the image.
            box = pair["trg_bndbox"] or [0, 0, width, height]
            rows.append(
                {
                    "pair_id": str(pair["pair_id"]),
                    "category": pair["pair_group"],
                    "source_points": [sources[name] for name in valid] or np.empty((0, 2)),
                    "target_points": [targets[names[0]] for names in valid.values()] or np.empty((0, 2)),
                    "further_targets": [[targets[name] for name in names[1:]] for names in valid.values()],
                    "predicted_points": [said[name] for name in valid] or np.empty((0, 2)),
                    "source_size": pair["src_imsize"],
                    "target_size": (width, height),
                    "target_bbox": box,
                }
            )
        except (KeyError, TypeError, ValueError) as error:
            raise InputError(f"is not a pair of SOCO's ({error})", where) from error
    return replace(predictions_of_pairs(rows, info), frame=frame)


def _valid(pair: Mapping[str, Any], kind: str) -> dict[str, list[str]]:
    """The names of valid targets of each source point that has any."""
    if kind == "semantic":
        return {name: [name] for name in pair["semantic_overlap"]}
    found: dict[str, list[str]] = {}
    for group in pair["concept_matches"]:
        for name in group["src_keypoints"]:
            names = found.setdefault(name, [])
            names += [target for target in group["trg_keypoints"] if target not in names]
    return {name: names for name, names in found.items() if names}
