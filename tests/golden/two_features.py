"""SD + DINO and Spherical Maps: category point averages, and the second definition of KAP."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np

from benchmark.scoring import protocols, readouts
from benchmark.scoring.evaluation import evaluate_predictions
from benchmark.scoring.predictions import Predictions
from sc_imagenet.geometry import map_points
from tests.golden.references import EXACT, FRACTION, Arrays, Compared, all_of, beside, load
from tests.golden.synthetic import spair

FILES = ("sd_dino", "spherical_maps")


def compare(name: str, arrays: Arrays, root: Path) -> list[Compared]:
    if name == "sd_dino":
        return all_of(arrays, _sd_dino(arrays, root), ("target_cell", "effective_cell"))
    return all_of(arrays, _spherical(arrays, root), [key for key in arrays if key.startswith("rows_")])


def _cells(index: np.ndarray) -> np.ndarray:
    return np.stack([index % 60, index // 60], axis=-1) * 14 + 6.5


def _sd_dino(arrays: Arrays, root: Path) -> Iterator[Compared]:
    cells = arrays["effective_cell"]
    predicted = _cells(cells).astype(np.float32)
    predictions = spair(root, "letterbox-840", predicted)
    used: dict[str, np.ndarray] = {}
    for category in np.unique(predictions.categories).tolist():  # only what the pair files list
        here = predictions.mutual & (predictions.categories[predictions.owner] == category)
        used[category] = np.unique(predictions.ids[here])
        yield beside(f"used_{category}", used[category], arrays[f"used_{category}"])
    protocol = protocols.protocol_named("sd-dino").for_data("spair-71k")
    yield beside("categories", list(used), arrays["categories"])
    for prefix, counted in (("", predictions), ("count_invisible_", _all_used(predictions, used))):
        ours = evaluate_predictions(counted, protocol)
        if not prefix:
            yield beside("threshold", ours.threshold, arrays["threshold"])
        category = list(ours.by_category("point").values())
        yield beside(f"{prefix}category", category, arrays[f"{prefix}category"], FRACTION)
        yield beside(f"{prefix}average", ours.value("macro-point"), arrays[f"{prefix}average"], FRACTION)
        weighted = ours.value("pair-weighted")
        yield beside(f"{prefix}weighted_by_pairs", weighted, arrays[f"{prefix}weighted_by_pairs"], FRACTION)
        yield _printed(f"{prefix}log", category, arrays[f"{prefix}log"].tolist())


def _all_used(predictions: Predictions, used: dict[str, np.ndarray]) -> Predictions:
    """The flag COUNT_INVIS: every used id of every pair counts, one that is not mutual lying at (0, 0)."""
    kept = np.array(
        [
            number in used[category]
            for number, category in zip(predictions.ids.tolist(), predictions.categories[predictions.owner].tolist())
        ]
    )
    true = np.where(predictions.mutual[:, None], predictions.true, 0)
    every = np.full(len(true), True)
    return replace(predictions, true=true, true_visible=every, other_visible=every).where(kept)


def _printed(name: str, values: list[np.ndarray], lines: list[str]) -> Compared:
    theirs = [float(number) for line in lines for number in re.findall(r": (\d+\.\d+)%", line)]
    ours = [float(f"{100 * value:.2f}") for row in values for value in row]
    return beside(name, ours, theirs, EXACT)


def _spherical(arrays: Arrays, root: Path) -> Iterator[Compared]:
    small = load("small_synth", root)
    features = small["features_60x60_letterbox"]
    predictions = spair(root, "letterbox-840", np.zeros((16, 30, 2), np.float32), "small_synth")
    protocol = protocols.protocol_named("spherical-maps").for_data("spair-71k")
    frame = protocol.frame
    owner = predictions.owner
    source_points = frame.place(predictions.other, predictions.other_sizes[owner])
    target_points = frame.place(predictions.true, predictions.sizes[owner])
    target_points[~predictions.true_visible] = 0
    said = np.zeros((len(owner), 2), np.float32)
    maps_of: dict[int, np.ndarray] = {}
    chosen: list[int] = []
    names = arrays["categories"].tolist()
    for category in names:
        for row in arrays[f"rows_{category}"].tolist():
            chosen.append(row)
            points = np.flatnonzero((owner == row) & predictions.other_visible)
            source, target = (
                map_points.unit_vectors(features[small[side][row]]) for side in ("pair_source", "pair_target")
            )
            cells = map_points.cell_of(source_points[points], 840, 60)
            maps = map_points.similarity_maps(source.reshape(len(source), -1)[:, cells].T, target)
            said[points] = 14 * map_points.nearest(maps) + 6.5
            maps_of[row] = maps
    ours = evaluate_predictions(replace(predictions, predicted=said).take(np.array(chosen)), protocol)
    category_pck = list(ours.by_category("point").values())
    yield beside("PCK_category", category_pck, arrays["PCK_category"], FRACTION)
    yield beside("PCK_average", ours.value("macro-point"), arrays["PCK_average"], FRACTION)
    threshold = evaluate_predictions(predictions, protocol).threshold
    precision = []
    for category in names:
        each = []
        for level, alpha in enumerate(protocol.alphas):
            parts = []
            for row in arrays[f"rows_{category}"].tolist():
                points = np.flatnonzero((owner == row) & predictions.other_visible)
                maps = readouts.normalised_maps(maps_of[row])
                visible = predictions.true_visible[points]
                parts.append(readouts.spherical_maps_kap(maps, target_points[points], visible, threshold[row], alpha))
            labels, scores = (np.concatenate(column) for column in zip(*parts))
            yield beside(f"kap_{category}_{level}_labels", labels, arrays[f"kap_{category}_{level}_labels"])
            yield beside(f"kap_{category}_{level}_scores", scores, arrays[f"kap_{category}_{level}_scores"], 1e-5)
            each.append(readouts.average_precision(labels, scores))
        precision.append(each)
    yield beside("mAP_category", precision, arrays["mAP_category"], FRACTION)
    yield beside("mAP_average", np.mean(precision, axis=0), arrays["mAP_average"], FRACTION)
    yield beside("categories", np.unique(predictions.categories[chosen]), arrays["categories"])
    lines = arrays["log"].tolist()
    parts = [
        _printed("log", values, [line for line in lines if line.startswith(kind)])
        for kind, values in (("PCK", category_pck), ("mAP", precision))
    ]
    yield Compared("log", max(part.deviation for part in parts), EXACT)
