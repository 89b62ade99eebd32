"""``scbench compare``: which predictions of two runs can be compared, and by what."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from benchmark.scoring import bundles
from benchmark.scoring.comparison import Comparison, compare
from benchmark.scoring.pck import Metric
from benchmark.scoring.prediction_files import read_predictions
from benchmark.scoring.predictions import Predictions
from benchmark.scoring.result import data_key
from benchmark.scoring.runs import prediction_files
from sc_imagenet.core.errors import InputError

MIDDLE = 1  # of the three alphas: 0.10 ranks categories and pairs


def shared_predictions(first: Path, second: Path) -> list[tuple[Predictions, Predictions]]:
    """The predictions that two runs, or two files, have of the same splits, by data set.

    Raises:
        InputError: nothing is there, a file is damaged, or they share no split.
    """
    found = [[read_predictions(file) for file in prediction_files(path)] for path in (first, second)]
    shared = [(one, two) for one in found[0] if (two := _counterpart(one, found[0], found[1])) is not None]
    if not shared:
        names = [", ".join(dict.fromkeys(map(_key, each))) for each in found]
        raise InputError(
            f"the runs have no data in common: {names[0]} in {first}, {names[1]} in {second}",
            fix="Evaluate one of them on the other's data with 'scbench run ... --eval'.",
        )
    return shared


def _counterpart(one: Predictions, beside: Sequence[Predictions], found: Sequence[Predictions]) -> Predictions | None:
    """Those on the same pairs; else those on the only set of that name in both, which may share some pairs."""
    alike = [each for each in found if _key(each) == _key(one)]
    same = [each for each in alike if each.info.manifest_sha256 == one.info.manifest_sha256]
    only = len(alike) == 1 == sum(_key(each) == _key(one) for each in beside)
    return same[0] if same else alike[0] if only else None


def _key(predictions: Predictions) -> str:
    return data_key(predictions.info.dataset, predictions.info.split)


def compared(first: Predictions, second: Predictions, metrics: Sequence[Metric], draws: int, pairs: int) -> Comparison:
    """Compare under ``metrics``, the first of which ranks; without any under the ``strict`` protocol.

    Raises:
        InputError: as ``comparison.compare``.
    """
    chosen = list(dict.fromkeys(metrics)) or bundles.strict(first.info.scored_as)
    ranking = chosen[0] if metrics else chosen[MIDDLE]
    return compare(first, second, chosen, ranking, draws, pairs)
