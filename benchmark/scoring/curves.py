"""PCK over alpha, kept beside a run's result so that reports need not read its predictions again."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from benchmark.scoring import bundles, pck
from benchmark.scoring.prediction_files import prediction_file, read_predictions
from benchmark.scoring.predictions import Predictions
from benchmark.scoring.result import Result
from sc_imagenet.core.errors import InputError
from sc_imagenet.core.files import read_json, write_json

CURVES_FILE = "curves.json"
CURVES_VERSION = 1
ALPHAS = tuple(round(0.01 * step, 2) for step in range(1, 21))
AGREE = 1e-3  # points by which a stored curve may miss the result it belongs to: it is stored rounded

Curves = dict[str, dict[str, list[float]]]  # data: protocol ("bbox/image"): percent at each of ALPHAS


def curves_of(predictions: Predictions) -> dict[str, list[float]]:
    """PCK in percent at each of ``ALPHAS`` under the protocols ``strict`` and ``paper``, by protocol."""
    info = predictions.info
    both = (bundles.strict(info.scored_as), bundles.paper(info.scored_as, info.model, info.size, info.protocol))
    rules = {metric.protocol: metric for bundle in both for metric in pck.measurable(predictions, bundle)}
    metrics = [replace(metric, alpha=alpha) for metric in rules.values() for alpha in ALPHAS]
    values = iter(pck.values(predictions, metrics).round(4).tolist()) if metrics else iter(())
    return {name: list(itertools.islice(values, len(ALPHAS))) for name in rules}


def write_curves(folder: Path, curves: Curves) -> None:
    """Write ``curves.json`` into a run's folder, atomically."""
    write_json(folder / CURVES_FILE, {"version": CURVES_VERSION, "alphas": ALPHAS, "curves": curves})


def run_curves(folder: Path, result: Result) -> tuple[Curves, list[str]]:
    """A run's curves, and a line for each of its data sets that has none to show, or no predictions any more.

    Stored curves are taken where they pass through the scores of the result; where they do not, or are
    missing or damaged, they are computed from the predictions and stored for the next time.
    """
    stored = _read(folder)
    found: Curves = {}
    problems: list[str] = []
    computed = False
    for data in result.data:
        scores = result.metrics.get(data.key, {})
        file = folder / "predictions" / prediction_file(data.name, data.split, data.mark)
        if _agree(stored.get(data.key), scores):
            found[data.key] = stored[data.key]
            if not file.exists():
                problems.append(f"{file}: the predictions were deleted: no pictures for {data.key}")
            continue
        try:
            curves = curves_of(read_predictions(file))
        except InputError as error:
            what = str(error) if file.exists() else f"{file}: the predictions were deleted"
            problems.append(f"{what}: no curve and no pictures for {data.key}")
            continue
        if not _agree(curves, scores):
            problems.append(f"{file}: these predictions do not give the scores of the result; run again")
            continue
        found[data.key] = curves
        computed = True
    if computed:
        with suppress(InputError):  # a folder that only may be read: they are computed again the next time
            write_curves(folder, {**stored, **found})
    return found, problems


def _read(folder: Path) -> Curves:
    try:
        content = read_json(folder / CURVES_FILE)
        known = content["version"] == CURVES_VERSION and content["alphas"] == list(ALPHAS)
        return content["curves"] if known and _are_curves(content["curves"]) else {}
    except (InputError, KeyError, TypeError, AttributeError):
        return {}


def _are_curves(content: Mapping[str, Mapping[str, list[float]]]) -> bool:
    """Whether each curve has a percentage at every alpha."""
    curves = [curve for protocols_of in content.values() for curve in protocols_of.values()]
    return all(
        isinstance(curve, list)
        and len(curve) == len(ALPHAS)
        and all(isinstance(value, (int, float)) and 0 <= value <= 100 for value in curve)
        for curve in curves
    )


def _agree(curves: Mapping[str, list[float]] | None, scores: Mapping[str, Mapping[str, float]]) -> bool:
    """Whether curves pass through every score that the result has of their protocols."""
    try:
        pairs = [
            (curve[ALPHAS.index(metric.alpha)], score["value"])
            for metric, score in ((pck.Metric.parse(name), score) for name, score in scores.items())
            if metric.alpha in ALPHAS and (curve := (curves or {}).get(metric.protocol))
        ]
        return bool(pairs) and all(abs(drawn - value) <= AGREE for drawn, value in pairs)
    except (InputError, AttributeError, IndexError, KeyError, TypeError):
        return False
