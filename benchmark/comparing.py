"""``scbench compare``: which predictions of two runs can be compared, and by what."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from benchmark import protocols
from benchmark.comparison import Comparison, compare
from benchmark.pck import Metric
from benchmark.predictions import Predictions, read_predictions
from benchmark.result import data_key
from benchmark.results import prediction_files
from sc_imagenet.errors import InputError

MIDDLE = 1  # of the three alphas: 0.10 ranks categories and pairs


def shared_predictions(first: Path, second: Path) -> list[tuple[Predictions, Predictions]]:
    """The predictions that two runs, or two files, have of the same splits, by data set.

    Raises:
        InputError: nothing is there, a file is damaged, or they share no split.
    """
    found: list[dict[str, Predictions]] = []
    for path in (first, second):
        opened = (read_predictions(file) for file in prediction_files(path))
        found.append({data_key(p.info.dataset, p.info.split): p for p in opened})
    keys = [key for key in found[0] if key in found[1]]
    if not keys:
        one, two = (", ".join(each) for each in found)
        raise InputError(
            f"the runs have no data in common: {one} in {first}, {two} in {second}",
            fix="Evaluate one of them on the other's data with 'scbench run ... --eval'.",
        )
    return [(found[0][key], found[1][key]) for key in keys]


def compared(first: Predictions, second: Predictions, metrics: Sequence[Metric], draws: int, pairs: int) -> Comparison:
    """Compare under ``metrics``, the first of which ranks; without any under the ``strict`` protocol.

    Raises:
        InputError: as ``comparison.compare``.
    """
    chosen = list(dict.fromkeys(metrics)) or protocols.strict(first.info.scored_as)
    ranking = chosen[0] if metrics else chosen[MIDDLE]
    return compare(first, second, chosen, ranking, draws, pairs)
