"""Metrics of stored runs by their names, which say threshold, frame and average; all of them are protocols::

    pck@0.1/bbox/image        original pixels
    pck@0.1/img@256/image     points and predictions first scaled to 256 x 256, aspect not kept

Points that all lie in one place, a single one above all, have no box: under bbox-kp such a pair counts in none of the
averages (``pairs_without_box`` says how many there are). The padded rules give it a threshold, as their authors do.

Bundles of them: ``strict`` is right, ``paper`` what the paper's tables used, ``all`` everything side by side.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from baselines.protocol import PublishedProtocol
from benchmark.scoring import evaluation
from benchmark.scoring.bootstrap import Averages, Quantity, Score, percent, scores
from benchmark.scoring.evaluation import Evaluation, evaluate_predictions
from benchmark.scoring.frames import ProtocolFrame
from benchmark.scoring.predictions import Predictions
from benchmark.scoring.protocol import NAMED_THRESHOLDS, HitRule, Protocol, published_protocol
from sc_imagenet.core.errors import InputError, unknown_name
from sc_imagenet.data.catalog import canonical, info

# What d is, in the frame of the metric, for the image that the prediction lies in.
METRIC_THRESHOLDS = {
    "img": "longer side of the image",
    "bbox": "longer side of the object's box",
    "bbox-kp": "longer side of the tight box around the valid true points",
    "bbox-padded": "largest coordinate of the true points + 1 (points padded with -1 before max - min)",
    "bbox-padded2": "largest coordinate of the true points + 2 (the same with -2)",
}
METRIC_AVERAGES = {
    "image": "mean over pairs of each pair's PCK",
    "point": "over all points at once",
    "category": "mean over categories of their pairs' mean",
}
_AVERAGES = {"image": "image", "point": "point", "category": "macro-image"}
BUNDLE_ALPHAS = (0.05, 0.10, 0.15)  # of bundles
BUNDLES = ("paper", "strict", "all")
_NAME = re.compile(r"pck@(?P<alpha>[0-9.]+)/(?P<threshold>[a-z0-9-]+)(@(?P<frame>\d+))?/(?P<average>[a-z]+)")


@dataclass(frozen=True)
class Metric:
    """One PCK protocol at one alpha.

    >>> print(Metric(0.1, "img", 256, "image"))
    pck@0.1/img@256/image
    >>> Metric.parse("pck@0.05/bbox-kp/point").frame is None
    True
    """

    alpha: float
    threshold: str = "img"
    frame: int | None = None  # side of the square frame; None: original pixels
    average: str = "image"

    def __post_init__(self) -> None:
        if self.threshold not in METRIC_THRESHOLDS:
            raise unknown_name("PCK threshold", self.threshold, METRIC_THRESHOLDS)
        if self.average not in METRIC_AVERAGES:
            raise unknown_name("PCK average", self.average, METRIC_AVERAGES)
        if not self.alpha > 0 or (self.frame is not None and self.frame < 1):
            raise InputError(f"{self}: alpha and the frame's side must be positive")

    def __str__(self) -> str:
        return f"pck@{self.alpha:g}/{self.protocol}"

    @property
    def protocol(self) -> str:
        """The name without alpha: ``img@256/image``."""
        return f"{self.threshold}{f'@{self.frame}' if self.frame else ''}/{self.average}"

    @property
    def legacy(self) -> bool:
        """Whether it is kept only to compare with published tables that used it."""
        return self.threshold in ("bbox-padded", "bbox-padded2")

    @classmethod
    def parse(cls, name: str) -> Metric:
        """The metric of a name.

        Raises:
            InputError: not a metric's name, or an unknown threshold or average (the valid ones are named).
        """
        found = _NAME.fullmatch(name.strip().lower())
        if found is None:
            raise InputError(
                f"{name!r} is not the name of a metric",
                fix="Write pck@ALPHA/THRESHOLD[@SIDE]/AVERAGE: pck@0.1/bbox/image, pck@0.1/img@256/image",
            )
        try:
            alpha = float(found["alpha"])
        except ValueError as error:
            raise InputError(f"{name!r}: {found['alpha']!r} is not a number") from error
        frame = int(found["frame"]) if found["frame"] else None
        return cls(alpha, found["threshold"], frame, found["average"])


def rule(threshold: str, frame: int | None = None, alphas: tuple[float, ...] = ()) -> Protocol:
    """The protocol that a metric's threshold and frame stand for; nothing is rounded."""
    return Protocol(
        name="pck",
        version=1,
        title="",
        frame=ProtocolFrame.square(frame),
        threshold=NAMED_THRESHOLDS[threshold],
        comparison=HitRule(),
        alphas=alphas,
        averages=("image",),
    )


def distances(predictions: Predictions, frame: int | None = None) -> np.ndarray:
    """|predicted - true| of every point (P,), in original pixels or in pixels of the frame."""
    return evaluation.errors(predictions, rule("img", frame), np.arange(len(predictions.true)), predictions.owner)


def metric_thresholds(predictions: Predictions, threshold: str, frame: int | None = None) -> np.ndarray:
    """d of every pair (N,), in original pixels or in pixels of the frame; NaN for a pair that has none.

    Raises:
        InputError: the threshold needs boxes and some pairs have none.
    """
    return evaluation.pair_thresholds(predictions, rule(threshold, frame))


def has_boxes(predictions: Predictions) -> bool:
    """Whether every pair has the object box that threshold 'bbox' needs."""
    return not np.isnan(predictions.boxes).any()


def pairs_without_box(predictions: Predictions) -> int:
    """How many pairs have points, but all in one place: threshold 'bbox-kp' leaves them out."""
    shown = np.bincount(predictions.owner[predictions.mutual], minlength=len(predictions)) > 0
    return int((shown & np.isnan(metric_thresholds(predictions, "bbox-kp"))).sum())


def measurable(predictions: Predictions, metrics: Sequence[Metric]) -> list[Metric]:
    """Those of the metrics that have what they need: object boxes of all pairs, two points apart in some."""
    boxes = has_boxes(predictions)
    shown = np.unique(predictions.owner[predictions.mutual])
    apart = pairs_without_box(predictions) < len(shown)
    return [
        metric
        for metric in metrics
        if (boxes or metric.threshold != "bbox") and (apart or metric.threshold != "bbox-kp")
    ]


def hits(predictions: Predictions, metrics: Sequence[Metric]) -> np.ndarray:
    """Points within alpha * d, by pair and metric: (N, M). The metric's average plays no part."""
    return np.stack([each.found for each in metric_quantities(predictions, metrics)], axis=1)


def points(predictions: Predictions, metrics: Sequence[Metric]) -> np.ndarray:
    """Points that count, by pair and metric: (N, M); 0 where the metric has no threshold for the pair."""
    return np.stack([each.counts for each in metric_quantities(predictions, metrics)], axis=1)


def score_metrics(
    predictions: Predictions, metrics: Sequence[Metric], draws: int = 1000, seed: int = 0
) -> dict[str, Score]:
    """PCK under each metric, in percent, with 95 % bootstrap intervals over pairs, by the metric's name.

    All metrics share the draws. Pairs without points count in none of the averages.

    Raises:
        InputError: no pair has a point, a metric needs boxes that are not there, or has a threshold for no pair.
    """
    if not metrics:
        return {}
    check_metrics(predictions, metrics)
    return scores(metric_quantities(predictions, metrics), predictions.categories, draws, seed)


def check_metrics(predictions: Predictions, metrics: Sequence[Metric]) -> None:
    """Raise InputError unless every metric has a threshold for some pair, and boxes where it needs them."""
    name = predictions.info.dataset
    if not predictions.mutual.any():
        raise InputError(f"no pair of {name} has a point to score")
    for metric, quantity in zip(metrics, metric_quantities(predictions, metrics)):
        if not quantity.counts.any():
            raise InputError(
                f"{metric}: no pair of {name} has two points apart, so none has a box around them",
                fix="Score by img, or by bbox where there are object boxes.",
            )


def values(predictions: Predictions, metrics: Sequence[Metric]) -> np.ndarray:
    """PCK under each metric, (M,) in percent, without intervals."""
    return percent(Averages(metric_quantities(predictions, metrics), predictions.categories).value())


def bootstrap(predictions: Predictions, metrics: Sequence[Metric], draws: int, seed: int = 0) -> np.ndarray:
    """PCK of every bootstrap draw under each metric, (draws, M) in percent.

    Row r of two predictions of the same pairs, in the same order, comes from the same draw.
    """
    averages = Averages(metric_quantities(predictions, metrics), predictions.categories)
    return percent(averages.drawn(max(draws, 1), seed))


def per_category(predictions: Predictions, metric: Metric) -> dict[str, float]:
    """PCK in percent of each category's pairs: over their points for average ``point``, else over pairs."""
    found = evaluate_predictions(predictions, rule(metric.threshold, metric.frame, (metric.alpha,)))
    average = "point" if metric.average == "point" else "image"
    return {name: float(percent(value[0])) for name, value in found.by_category(average).items()}


def category_pairs(predictions: Predictions) -> dict[str, int]:
    """How many pairs each category has."""
    names, counts = np.unique(predictions.categories, return_counts=True)
    return dict(zip(names.tolist(), counts.tolist()))


def metric_quantities(predictions: Predictions, metrics: Sequence[Metric]) -> list[Quantity]:
    """The metrics as quantities of pairs, in their order; each threshold and frame is evaluated once."""
    alphas: dict[tuple[str, int | None], dict[float, int]] = {}
    for metric in metrics:
        levels = alphas.setdefault((metric.threshold, metric.frame), {})
        levels.setdefault(metric.alpha, len(levels))
    evaluated: dict[tuple[str, int | None], Evaluation] = {
        key: evaluate_predictions(predictions, rule(*key, tuple(levels))) for key, levels in alphas.items()
    }
    found = {key: list(each.found.T) for key, each in evaluated.items()}
    counts = {key: each.counts for key, each in evaluated.items()}
    return [
        Quantity(
            str(metric),
            found[metric.threshold, metric.frame][alphas[metric.threshold, metric.frame][metric.alpha]],
            counts[metric.threshold, metric.frame],
            _AVERAGES[metric.average],
        )
        for metric in metrics
    ]


def strict_metrics(dataset: str) -> list[Metric]:
    """Original pixels, image average, the data set's own threshold; meant for direction ``forward``.

    >>> print(*strict_metrics("pf-willow"))
    pck@0.05/bbox-kp/image pck@0.1/bbox-kp/image pck@0.15/bbox-kp/image
    """
    return _at_alphas(info(dataset).threshold, None, "image")


def paper_metrics(
    dataset: str, model: str, size: int | None = None, protocol: PublishedProtocol | None = None
) -> list[Metric]:
    """What the published tables used for this data set and model.

    Args:
        dataset: of the catalogue.
        model: the registry's name.
        size: side of the model's own frame.
        protocol: how the model is scored, where predictions or a result tell it; None: by its name.

    A model that no table knows is scored in its own frame, of side ``size``, and with the padded rule on
    PF-WILLOW too, which makes its row comparable with the others.

    >>> print(paper_metrics("pf-willow", "cats")[1])
    pck@0.1/bbox-padded@256/image
    """
    name = canonical(dataset)
    known = protocol or published_protocol(model) or PublishedProtocol(size or None, "forward")
    threshold = known.padded if name == "pf-willow" else info(name).threshold
    return _at_alphas(threshold, known.frame_on(name), "image")


def every_metric(
    dataset: str,
    model: str = "",
    size: int | None = None,
    boxes: bool = True,
    protocol: PublishedProtocol | None = None,
) -> list[Metric]:
    """Every threshold in original pixels and in the model's frame under every average.

    ``strict`` and ``paper`` come first. ``boxes`` tells whether the pairs have object boxes; the padded rules
    are there for PF-WILLOW, which alone was scored with them.
    """
    name = canonical(dataset)
    kinds = ["img", *(["bbox"] if boxes else []), "bbox-kp"]
    if name == "pf-willow":
        kinds += ["bbox-padded", "bbox-padded2"]
    known = protocol or published_protocol(model) or PublishedProtocol(size or None, "forward")
    frames = dict.fromkeys((None, known.frame))
    wide = [
        metric
        for average in METRIC_AVERAGES
        for kind in kinds
        for frame in frames
        for metric in _at_alphas(kind, frame, average)
    ]
    found = dict.fromkeys([*strict_metrics(name), *paper_metrics(name, model, size, known), *wide])
    return [metric for metric in found if boxes or metric.threshold != "bbox"]


def bundle(
    name: str,
    dataset: str,
    model: str,
    size: int | None = None,
    boxes: bool = True,
    protocol: PublishedProtocol | None = None,
) -> list[Metric]:
    """The bundle of this name: ``paper``, ``strict`` or ``all``.

    Raises:
        InputError: unknown bundle or data set.
    """
    if name == "strict":
        return strict_metrics(dataset)
    if name == "paper":
        return paper_metrics(dataset, model, size, protocol)
    if name == "all":
        return every_metric(dataset, model, size, boxes, protocol)
    raise unknown_name("protocol", name, BUNDLES)


def _at_alphas(threshold: str, frame: int | None, average: str) -> list[Metric]:
    return [Metric(alpha, threshold, frame, average) for alpha in BUNDLE_ALPHAS]
