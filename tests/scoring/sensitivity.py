"""``python -m tests.scoring.sensitivity FILE``: predictions under all protocols, as docs/protocols.md has them.

Where a data set has no object boxes the tight box around the true points stands in.
"""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import numpy as np

from benchmark.scoring.metric import score_protocols
from benchmark.scoring.predictions import Predictions
from benchmark.scoring.protocols import ALL


def with_boxes(predictions: Predictions) -> Predictions:
    """The predictions with tight boxes around the points where there are none."""
    if not np.isnan(predictions.boxes).any():
        return predictions
    starts = predictions.offsets[:-1]
    low, high = (reduce.reduceat(predictions.true, starts, axis=0) for reduce in (np.minimum, np.maximum))
    return replace(predictions, boxes=np.hstack([low, high]))


def table(predictions: Predictions, draws: int = 1000) -> list[str]:
    """Rows of Markdown: protocol, average, PCK@0.1, interval, difference to strict@1."""
    known = replace(predictions, info=replace(predictions.info, model="cats"))  # in whose frame paper-2021@1 is taken
    scores = score_protocols(with_boxes(known), ALL, draws)
    ours = scores.headline("strict@1").value
    lines = []
    for name, found in scores.items():
        headline = scores.headline(name)
        average = next(iter(found)).split("/")[1]
        interval = f"{headline.low:.1f} to {headline.high:.1f}"
        apart = round(headline.value - ours, 1) + 0.0  # not minus zero
        lines.append(f"| `{name}` | {average} | {headline.value:.1f} | {interval} | {apart:+.1f} |")
    return lines


if __name__ == "__main__":
    from benchmark.scoring.prediction_files import read_predictions

    print("\n".join(table(read_predictions(Path(sys.argv[1])))))  # type: ignore[arg-type]
