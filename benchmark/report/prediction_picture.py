"""Stored predictions drawn on their images: green is correct, red is wrong, the truth is crossed."""

from __future__ import annotations

import numpy as np
from PIL import Image

from benchmark.report.pair_images import PairImages
from benchmark.scoring import pck
from benchmark.scoring.comparison import Comparison
from benchmark.scoring.pck import Metric
from benchmark.scoring.predictions import Predictions
from sc_imagenet.core.errors import InputError
from sc_imagenet.data.drawing import contact_sheet, draw_pair

WIDTH = 2000  # pixels of a sheet with both runs side by side


def picture_of_pair(
    predictions: Predictions,
    pair_id: str,
    metric: Metric,
    images: tuple[Image.Image, Image.Image],
    title: str | None = None,
    height: int = 400,
) -> Image.Image:
    """One pair: the image of the given points left, that of the predictions right.

    Args:
        predictions: that hold the pair.
        pair_id: its id.
        metric: decides what is correct.
        images: source and target, in original pixels.
        title: a line above.
        height: of the images in the picture.

    Raises:
        InputError: no such pair, or images of another size than when it was predicted.
    """
    one = predictions.subset([pair_id])
    left, right = images if predictions.info.direction == "forward" else images[::-1]
    if left.size != tuple(one.other_sizes[0]) or right.size != tuple(one.sizes[0]):
        raise InputError(f"the images of pair {pair_id!r} here have another size than when it was predicted")
    reach = metric.alpha * pck.thresholds(one, metric.threshold, metric.frame)
    correct = pck.distances(one, metric.frame) <= reach
    return draw_pair(left, right, one.other, one.predicted, correct=correct, truth=one.true, title=title, height=height)


def picture_of_changes(
    comparison: Comparison, first: Predictions, second: Predictions, images: PairImages
) -> Image.Image:
    """The pairs that changed most, one a row, the first run left and the second right.

    Raises:
        InputError: no pair changed, or an image is missing or damaged.
    """
    changed = (*comparison.gained, *comparison.lost)
    if not changed:
        raise InputError(f"no pair of {comparison.data} changed under {comparison.ranking}: nothing to draw")
    drawn = []
    for pair in changed:
        sides = images.of(pair.pair_id)
        for name, predictions in (("first", first), ("second", second)):
            title = f"{name}: {predictions.info.model} {predictions.info.run}, {pair.category}, {pair.pair_id}"
            drawn.append(picture_of_pair(predictions, pair.pair_id, comparison.ranking, sides, title))
    return contact_sheet(drawn, 2, WIDTH)


def best_median_worst(gains: np.ndarray, pair_ids: np.ndarray) -> list[tuple[str, int]]:
    """The rows of the best, the median and the worst gain, each row once; ties in the order of pair ids.

    >>> best_median_worst(np.array([0.0, 50.0, -20.0]), np.array(["a", "b", "c"]))
    [('best gain', 1), ('median gain', 0), ('worst gain', 2)]
    """
    counted = np.flatnonzero(np.isfinite(gains))
    order = counted[np.lexsort((pair_ids[counted], gains[counted]))].tolist()
    if not order:
        return []
    found = {"best gain": order[-1], "median gain": order[len(order) // 2], "worst gain": order[0]}
    kinds = {row: kind for kind, row in reversed(found.items())}  # the first kind of a row is its kind
    return [(kind, row) for kind, row in found.items() if kinds[row] == kind]
