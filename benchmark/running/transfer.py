"""Keypoint transfer by any model, a ``Matcher`` or a function, and its scores on a data set in one call."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, TypeAlias

import datasets
import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from PIL import Image, ImageOps

from baselines.matcher import Matcher
from benchmark.running.data import Pairs
from benchmark.running.evaluate import direction_of, not_finite, predict_rows
from benchmark.scoring import metric
from benchmark.scoring.metric import Scores
from benchmark.scoring.prediction_files import PREDICTION_SCHEMA, predictions_of, write_predictions
from benchmark.scoring.predictions import PredictionInfo, Predictions
from benchmark.scoring.protocol import Protocol as Scoring
from benchmark.scoring.protocols import protocols_named
from sc_imagenet.core.errors import InputError, unknown_name
from sc_imagenet.core.progress import bars
from sc_imagenet.data.images import to_rgb
from sc_imagenet.data.load import manifest_sha256
from sc_imagenet.data.pairs import PairDataset

Points = NDArray[np.float64]
Function: TypeAlias = "Callable[[Image.Image, Image.Image, Points], ArrayLike]"


class HasTransfer(Protocol):
    """Anything that transfers points of one image to another, both in original pixels."""

    def transfer(self, source: Image.Image, target: Image.Image, points: Points, /) -> ArrayLike:
        """Points (K, 2) of ``source`` -> the same points (K, 2) in ``target``."""


Model: TypeAlias = "Matcher | Function | HasTransfer"


def transferred(
    model: Function | HasTransfer, source: Image.Image, target: Image.Image, points: Points, where: object
) -> Points:
    """What a function, or an object's ``transfer``, makes of points (K, 2) of ``source``: points (K, 2) of ``target``.

    Raises:
        InputError: it cannot be called, or gives anything else than K finite points.
    """
    call = getattr(model, "transfer", model)
    if not callable(call):
        raise InputError(
            f"a {type(model).__name__} transfers no points",
            fix="Give a Matcher, a function f(source, target, points) -> points, or an object with such a transfer.",
        )
    given = call(source, target, points.copy())
    given = given.detach().cpu().double() if hasattr(given, "detach") else given
    found = np.asarray(given, np.float64)
    if found.shape != points.shape:
        raise InputError(f"{name_of(model)} gives points of shape {found.shape} for {points.shape}", where=where)
    if not np.isfinite(found).all():
        raise InputError(f"{name_of(model)} gives points that are NaN or infinite", where=where)
    return found


def name_of(model: Model) -> str:
    """What records call a model: its registered name, else that of its class or function."""
    if isinstance(model, Matcher) and (card := type(model).registered()) is not None:
        return card.name
    return str(getattr(model, "__name__", type(model).__name__))


@dataclass(frozen=True)
class Evaluated:
    """Predictions of a model on a data set, in original pixels, and their scores by protocol."""

    predictions: Predictions
    scores: Scores

    def pck(self, alpha: float = 0.1, protocol: str | None = None) -> float:
        """PCK at an alpha in percent; of the first protocol where none is named."""
        return self.scores.pck(alpha, protocol)


def evaluate(
    model: Model,
    data: str,
    *,
    limit: int | None = None,
    root: Path | str | None = None,
    protocols: str | Sequence[str | Scoring] = "strict@1",
    direction: str = "forward",
    draws: int = 1000,
    workers: int = 0,
    out: Path | str | None = None,
) -> Evaluated:
    """Predict the pairs of a data set and score them; nothing is written but ``out``, where one is named.

    The predictions are those of ``scbench run MODEL --eval DATA --direction forward``.

    Args:
        model: a ``Matcher``, which is in evaluation mode afterwards; or a function ``f(source, target, points) ->
            points`` of upright RGB images and points in their pixels, or an object that has such a ``transfer``.
        data: NAME or NAME:SPLIT of the catalogue ("test" by default), or the folder of a generated set.
        limit: so many pairs, evenly spread; all by default.
        root: where the data sets lie; else ``SC_DATA_ROOT``.
        protocols: names as ``scbench protocols`` lists them, comma-separated or in a list.
        direction: "forward", source to target; or "official", a matcher's own.
        draws: bootstrap draws behind the 95 % intervals, 0 for none.
        workers: processes that load pairs for a matcher.
        out: a Parquet file to write the predictions to, as ``scbench score`` reads them.

    Raises:
        InputError: unknown data set or protocol, data that is not here, or points that are not finite.
    """
    if direction not in ("forward", "official"):
        raise unknown_name("direction", direction, ("forward", "official"))
    if limit is not None and limit < 1:
        raise InputError(f"limit={limit} leaves no pair")
    pairs = Pairs.parse(data, "test", None if root is None else Path(root))
    chosen = protocols_named(protocols)
    name, size = name_of(model), model.size if isinstance(model, Matcher) else 0
    for protocol in chosen:
        protocol.for_data(pairs.dataset, name, size or None)  # refused before the work, not after it
    rows = pairs.open(limit)
    about = PredictionInfo(
        dataset=pairs.name,
        form=pairs.form,
        split=pairs.split,
        model=name,
        size=size,
        run="evaluate",
        manifest_sha256=manifest_sha256(pairs.dataset, pairs.split, root=pairs.root),
        direction=direction_of(model, direction) if isinstance(model, Matcher) else "forward",
    )
    found = []
    with bars() as update:
        for row in _predicted(model, rows, about, workers):
            found.append(row)
            update(str(pairs), len(found), len(rows))
    predictions = predictions_of(found, about)
    if out is not None:
        write_predictions(out, found, about)
    return Evaluated(predictions, metric.score_protocols(predictions, chosen, draws))


def _predicted(model: Model, rows: datasets.Dataset, about: PredictionInfo, workers: int) -> Iterator[dict[str, Any]]:
    if not isinstance(model, Matcher):
        yield from _by_call(model, rows)
        return
    device = next((p.device for p in model.parameters()), torch.device("cpu"))
    pairs = PairDataset(rows, model.size, model.mean, model.std, keep_aspect=model.keep_aspect)
    for row in predict_rows(model, pairs, range(len(rows)), about.direction, device, workers):
        points = np.asarray(row["predicted_points"]).reshape(-1, 2)
        if bad := int((~np.isfinite(points).all(1)).sum()):
            raise not_finite(model, bad, len(points), f"pair {row['pair_id']} of {about.dataset}")
        yield row


def _by_call(model: Function | HasTransfer, rows: datasets.Dataset) -> Iterator[dict[str, Any]]:
    """Rows of ``PREDICTION_SCHEMA`` of a model that is called with two images and points."""
    names = rows.features["category"].names
    for row in rows:
        source, target = to_rgb(row["source"]), to_rgb(row["target"])
        points = np.asarray(row["source_points"], np.float64).reshape(-1, 2)
        if row["mirrored"]:
            source, target = ImageOps.mirror(source), ImageOps.mirror(target)
            points[:, 0] = source.width - points[:, 0]
        found = transferred(model, source, target, points, f"pair {row['pair_id']}")
        if row["mirrored"]:
            found = np.stack([target.width - found[:, 0], found[:, 1]], axis=1)
        yield {
            **{name: row[name] for name in PREDICTION_SCHEMA.names if name in row},
            "category": names[row["category"]],
            "source_size": source.size,
            "target_size": target.size,
            "predicted_points": found,
            "direction": "forward",
        }
