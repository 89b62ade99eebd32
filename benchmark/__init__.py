"""The suite: points of any two images matched, models evaluated, predictions scored, runs reported.

>>> import baselines, benchmark, sc_imagenet
>>> model = baselines.load_model("nearest", backbone="tf_efficientnet_lite0")
>>> pair = sc_imagenet.load_dataset("toy", split="test")[0]
>>> benchmark.match(model, pair["source"], pair["target"], [[60, 50], [90.5, 80]]).target_points.shape
(2, 2)

``evaluate`` scores whatever transfers points from image to image, a function as well:

>>> found = benchmark.evaluate(lambda source, target, points: points, "toy", limit=4)
>>> found.predictions.predicted.shape == found.predictions.true.shape, 0 <= found.pck(0.1) <= 100
(True, True)

``score`` does so with predictions that are there already, from this or any other program, and ``PCK`` inside a loop:

>>> benchmark.score(found.predictions, protocols="strict@1,geoaware-point@1").pck(0.1) == found.pck(0.1)
True
>>> metric = benchmark.PCK("strict@1", dataset="pf-willow")
>>> metric.update(predicted_points=[[1, 2], [9, 9]], target_points=[[1, 2], [30, 9]], target_size=(40, 30))
>>> metric.compute(draws=0).pck(0.1)
50.0

Importing this package imports no ``torch``; ``PCK`` needs numpy and pyarrow alone.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from benchmark.running.match import evaluate, match
    from benchmark.scoring.joining import score
    from benchmark.scoring.metric import PCK

__all__ = ["PCK", "evaluate", "match", "score"]

_FILES = {
    "PCK": "benchmark.scoring.metric",
    "evaluate": "benchmark.running.match",
    "match": "benchmark.running.match",
    "score": "benchmark.scoring.joining",
}


def __getattr__(name: str) -> Any:
    if name in _FILES:
        return getattr(import_module(_FILES[name]), name)
    raise AttributeError(f"module 'benchmark' has no attribute {name!r}")
