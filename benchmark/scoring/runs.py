"""Runs on disk: scoring all predictions of one, its curves over alpha, finding all that are finished.

Curves are kept beside a run's result, so that reports need not read its predictions again.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from benchmark.scoring import pck
from benchmark.scoring.details import CURVE_ALPHAS
from benchmark.scoring.prediction_files import mark_of, prediction_file, read_predictions
from benchmark.scoring.predictions import Predictions
from benchmark.scoring.result import (
    RESULT_FILE,
    EvaluatedData,
    MetricTable,
    PerCategory,
    Result,
    data_key,
    published_pairs,
    read_result,
)
from sc_imagenet.core.errors import InputError, visible
from sc_imagenet.core.files import files_in, read_json, write_json
from sc_imagenet.data.catalog import canonical

PREDICTIONS = "predictions"  # folder of a run that holds its Parquet files


def prediction_files(path: Path | str) -> list[Path]:
    """The prediction files of a run's folder, or the one file given.

    Raises:
        InputError: nothing is there.
    """
    path = Path(path)
    if path.is_file():
        return [path]
    if not path.is_dir():
        raise InputError("no such file or folder", where=path, fix="Give a Parquet file or a run's folder.")
    found = sorted(files_in(path / PREDICTIONS, ".parquet"), key=lambda file: file.stem)
    if not found:
        raise InputError(f"holds no {PREDICTIONS}/*.parquet", where=path, fix="Give a run's folder.")
    return found


def metrics_of(predictions: Predictions, protocol: str = "all") -> list[pck.Metric]:
    """The metrics of a protocol bundle for these predictions, whose file knows data set and model.

    Those that have a threshold for none of the pairs are left out of several.
    """
    info = predictions.info
    found = pck.bundle(protocol, info.scored_as, info.model, info.size, pck.has_boxes(predictions), info.protocol)
    # A bundle of one threshold is refused by name where that cannot be had, rather than scored by nothing.
    return pck.measurable(predictions, found) or found


def evaluated_data(file: Path, predictions: Predictions) -> EvaluatedData:
    """What a result says of the data whose predictions lie in ``file``."""
    info = predictions.info
    return EvaluatedData(
        info.dataset,
        info.split,
        info.manifest_sha256,
        len(predictions),
        info.form,
        published_pairs(info.dataset, info.split, info.form),
        pck.pairs_without_box(predictions),
        mark_of(file, info),
    )


def score_run(folder: Path | str, draws: int = 1000, seed: int = 0) -> tuple[MetricTable, PerCategory]:
    """Score all predictions of a run under every protocol; its curves over alpha are stored beside them.

    Returns:
        MetricTable by data (``spair-71k``, ``toy:validation``) and name; and per category those of ``strict`` and
        ``paper``.

    Raises:
        InputError: a file is damaged, or there is none.
    """
    metrics: MetricTable = {}
    categories: PerCategory = {}
    curves: Curves = {}
    for file in prediction_files(folder):
        predictions = read_predictions(file)
        key = data_key(predictions.info.dataset, predictions.info.split, mark_of(file, predictions.info))
        scores = pck.score_metrics(predictions, metrics_of(predictions), draws, seed)
        metrics[key] = {name: asdict(score) for name, score in scores.items()}
        narrow = dict.fromkeys(
            metric
            for bundle in ("strict", "paper")
            for metric in metrics_of(predictions, bundle)
            if str(metric) in scores
        )
        categories[key] = {str(metric): pck.per_category(predictions, metric) for metric in narrow}
        curves[key] = curves_of(predictions)
    write_curves(Path(folder), curves)
    return metrics, categories


@dataclass(frozen=True)
class FoundRun:
    """A finished run and where it lies."""

    folder: Path
    result: Result


def find_runs(runs: Path | str) -> tuple[list[FoundRun], list[str]]:
    """All finished runs below a folder, and a line for each run that has no result to read.

    A run that is still going, was interrupted, is damaged or is there twice never hides the others.
    """
    found: dict[str, FoundRun] = {}
    problems: list[str] = []
    for folder in sorted(path for path in Path(runs).glob("*/*") if _is_run(path)):
        if not (folder / RESULT_FILE).is_file():
            problems.append(visible(f"{folder}: has no {RESULT_FILE}: still running, or interrupted; run it again"))
            continue
        try:
            result = read_result(folder)
            for data in result.data:
                _check_known(data, result)
        except InputError as error:
            line = str(error)
            problems.append(line if visible(str(folder)) in line else visible(f"{folder}: {line}"))
            continue
        if (first := found.get(result.run)) is not None:
            same = "a copy" if first.result == result else "with another result"
            line = f"{folder}: run {result.run} lies in {first.folder} too, {same}; this one is left out"
            problems.append(visible(line))
            continue
        found[result.run] = FoundRun(folder, result)
    return list(found.values()), problems


def _check_known(data: EvaluatedData, result: Result) -> None:
    try:
        canonical(data.scored_as)
    except InputError as error:
        others = ", ".join(result.files)
        raise InputError(str(error), fix=f"Its run read {others}: --include it." if others else None) from error


def _is_run(folder: Path) -> bool:
    """Whether a folder holds anything that a run writes; other folders are nobody's business."""
    written = (RESULT_FILE, "config.json", "log.jsonl", ".lock", "checkpoints", PREDICTIONS)
    return folder.is_dir() and not folder.name.startswith(".") and any((folder / name).exists() for name in written)


CURVES_FILE = "curves.json"
CURVES_VERSION = 1
_AGREE = 1e-3  # points by which a stored curve may miss the result it belongs to: it is stored rounded

Curves = dict[str, dict[str, list[float]]]  # data: protocol ("bbox/image"): percent at each of CURVE_ALPHAS


def curves_of(predictions: Predictions) -> dict[str, list[float]]:
    """PCK in percent at each of ``CURVE_ALPHAS`` under the protocols ``strict`` and ``paper``, by protocol."""
    info = predictions.info
    both = (pck.strict_metrics(info.scored_as), pck.paper_metrics(info.scored_as, info.model, info.size, info.protocol))
    rules = {metric.protocol: metric for bundle in both for metric in pck.measurable(predictions, bundle)}
    metrics = [replace(metric, alpha=alpha) for metric in rules.values() for alpha in CURVE_ALPHAS]
    values = iter(pck.values(predictions, metrics).round(4).tolist()) if metrics else iter(())
    return {name: list(itertools.islice(values, len(CURVE_ALPHAS))) for name in rules}


def write_curves(folder: Path, curves: Curves) -> None:
    """Write ``curves.json`` into a run's folder, atomically."""
    write_json(folder / CURVES_FILE, {"version": CURVES_VERSION, "alphas": CURVE_ALPHAS, "curves": curves})


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
        known = content["version"] == CURVES_VERSION and content["alphas"] == list(CURVE_ALPHAS)
        return content["curves"] if known and _are_curves(content["curves"]) else {}
    except (InputError, KeyError, TypeError, AttributeError):
        return {}


def _are_curves(content: Mapping[str, Mapping[str, list[float]]]) -> bool:
    """Whether each curve has a percentage at every alpha."""
    curves = [curve for protocols_of in content.values() for curve in protocols_of.values()]
    return all(
        isinstance(curve, list)
        and len(curve) == len(CURVE_ALPHAS)
        and all(isinstance(value, (int, float)) and 0 <= value <= 100 for value in curve)
        for curve in curves
    )


def _agree(curves: Mapping[str, list[float]] | None, scores: Mapping[str, Mapping[str, float]]) -> bool:
    """Whether curves pass through every score that the result has of their protocols."""
    try:
        pairs = [
            (curve[CURVE_ALPHAS.index(metric.alpha)], score["value"])
            for metric, score in ((pck.Metric.parse(name), score) for name, score in scores.items())
            if metric.alpha in CURVE_ALPHAS and (curve := (curves or {}).get(metric.protocol))
        ]
        return bool(pairs) and all(abs(drawn - value) <= _AGREE for drawn, value in pairs)
    except (InputError, AttributeError, IndexError, KeyError, TypeError):
        return False
