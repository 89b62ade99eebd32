"""The synthetic sets that predictions were made for, as predictions of ours."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from benchmark.scoring.frames import ProtocolFrame
from benchmark.scoring.keypoints import used_ids
from benchmark.scoring.predictions import PredictionInfo, Predictions
from tests.golden.references import load


def info(dataset: str = "spair-71k") -> PredictionInfo:
    return PredictionInfo(dataset, "test", "golden", 840, "golden", "0" * 64, "forward")


def spair(root: Path, frame: str, predicted: np.ndarray | None = None, synth: str = "spair_synth") -> Predictions:
    """Predictions for every id of ``spair_synth``, in one of its native frames; the ids that a category uses."""
    arrays = load(synth, root)
    if predicted is None:
        predicted = arrays[f"pred_{frame.replace('-aligned', '').replace('-', '')}"]
    source, target = arrays["pair_source"], arrays["pair_target"]
    pairs, width = len(source), arrays["image_points"].shape[1]
    points = arrays["image_points"].astype(float)
    whole = Predictions(
        pair_ids=arrays["pair_file"],
        categories=arrays["image_category"][target],
        sizes=arrays["image_size"][target],
        other_sizes=arrays["image_size"][source],
        boxes=arrays["image_box"][target].astype(float),
        other_boxes=arrays["image_box"][source].astype(float),
        true=points[target].reshape(-1, 2),
        other=points[source].reshape(-1, 2),
        predicted=predicted.reshape(-1, 2),
        offsets=np.arange(pairs + 1) * width,
        info=info(),
        ids=np.tile(np.arange(width), pairs),
        true_visible=arrays["image_visible"][target].ravel(),
        other_visible=arrays["image_visible"][source].ravel(),
        azimuths=np.stack([arrays["image_azimuth"][source], arrays["image_azimuth"][target]], axis=1),
        grades=np.stack([arrays["pair_viewpoint"], *[np.full(pairs, -1)] * 3], axis=1),
        frame=ProtocolFrame.parse(frame),
    )
    used = used_ids(whole)
    kept = np.concatenate([np.isin(np.arange(width), used[category]) for category in whole.categories.tolist()])
    return whole.where(kept)


def padded(predictions: Predictions, values: np.ndarray, width: int, fill: float = np.nan) -> np.ndarray:
    """Values of points (P, ...) by pair and id, (N, width, ...)."""
    found = np.full((len(predictions), width, *values.shape[1:]), fill, dtype=float)
    found[predictions.owner, predictions.ids] = values
    return found


def listed(predictions: Predictions, mask: np.ndarray, width: int) -> np.ndarray:
    """The ids of a mask of points, ascending, by pair and padded with -1, (N, width)."""
    found = np.full((len(predictions), width), -1)
    for pair in range(len(predictions)):
        ids = np.sort(predictions.ids[mask & (predictions.owner == pair)])
        found[pair, : len(ids)] = ids
    return found
