"""Runs on disk: scoring all predictions of one, finding all that are finished."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path

from benchmark.scoring import bundles, pck
from benchmark.scoring.curves import Curves, curves_of, write_curves
from benchmark.scoring.prediction_files import mark_of, read_predictions
from benchmark.scoring.predictions import Predictions
from benchmark.scoring.result import (
    RESULT_FILE,
    EvaluatedData,
    Metrics,
    PerCategory,
    Result,
    data_key,
    published_pairs,
    read_result,
)
from sc_imagenet.core.errors import InputError, visible
from sc_imagenet.core.files import files_in
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
    found = bundles.bundle(protocol, info.scored_as, info.model, info.size, pck.has_boxes(predictions), info.protocol)
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


def score_run(folder: Path | str, draws: int = 1000, seed: int = 0) -> tuple[Metrics, PerCategory]:
    """Score all predictions of a run under every protocol; its curves over alpha are stored beside them.

    Returns:
        Metrics by data (``spair-71k``, ``toy:validation``) and name; and per category those of ``strict`` and
        ``paper``.

    Raises:
        InputError: a file is damaged, or there is none.
    """
    metrics: Metrics = {}
    categories: PerCategory = {}
    curves: Curves = {}
    for file in prediction_files(folder):
        predictions = read_predictions(file)
        key = data_key(predictions.info.dataset, predictions.info.split, mark_of(file, predictions.info))
        scores = pck.score(predictions, metrics_of(predictions), draws, seed)
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
