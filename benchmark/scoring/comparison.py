"""Two runs on the same pairs: the paired bootstrap, differences by category, and the pairs that changed most."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from benchmark.scoring import pck
from benchmark.scoring.bootstrap import Difference, bootstrap_weights, difference, differences
from benchmark.scoring.pck import Metric
from benchmark.scoring.prediction_files import read_predictions
from benchmark.scoring.predictions import PredictionInfo, Predictions
from benchmark.scoring.result import data_key
from benchmark.scoring.runs import prediction_files
from sc_imagenet.core.errors import InputError


@dataclass(frozen=True)
class ChangedPair:
    """A pair with how many of its points either run has right."""

    pair_id: str
    category: str
    points: int
    first: int
    second: int

    @property
    def gain(self) -> float:
        """Second minus first, in percent of the pair's points."""
        return 100 * (self.second - self.first) / self.points


@dataclass(frozen=True)
class Comparison:
    """Two runs on the pairs that both have predictions of."""

    data: str  # "spair-71k", "toy:validation"
    first: PredictionInfo
    second: PredictionInfo
    pairs: int
    only_first: int  # pairs left out because the other run has none of them
    only_second: int
    without_box: int  # of the pairs, those that bbox-kp leaves out
    draws: int
    overall: dict[Metric, Difference]
    per_category: dict[str, Difference]  # under the ranking metric
    category_pairs: dict[str, int]
    ranking: Metric  # by which categories and pairs are compared
    gained: tuple[ChangedPair, ...]  # largest gain first
    lost: tuple[ChangedPair, ...]  # largest loss first


def align(first: Predictions, second: Predictions) -> tuple[Predictions, Predictions]:
    """Both on the pairs they share, in the first's order.

    Raises:
        InputError: they are of other data, go other ways, share no pair, or disagree on the truth of one.
    """
    one, two = first.info, second.info
    if (one.dataset, one.split) != (two.dataset, two.split):
        raise InputError(f"{one.dataset}:{one.split} and {two.dataset}:{two.split} are other pairs")
    what = f"runs {one.run} and {two.run} on {one.dataset}:{one.split}"
    if one.direction != two.direction:
        raise InputError(
            f"{what} predict {one.direction} and {two.direction}: other points in other images",
            fix="Run one of them again with --direction forward.",
        )
    rows = {pair: row for row, pair in enumerate(second.pair_ids.tolist())}
    shared = np.array([pair in rows for pair in first.pair_ids.tolist()])
    if not shared.any():
        raise InputError(f"{what} share no pair")
    first = first.take(np.flatnonzero(shared))
    second = second.take(np.array([rows[pair] for pair in first.pair_ids.tolist()]))
    same_truth = np.array_equal(first.offsets, second.offsets) and np.allclose(first.true, second.true, atol=1e-3)
    if not same_truth:
        raise InputError(f"{what} were scored against other annotations", fix="Evaluate both on the same data.")
    return first, second


def pair_shares(predictions: Predictions, metric: Metric) -> np.ndarray:
    """Percent of each pair's points that are right, (N,); NaN for a pair in which none counts."""
    with np.errstate(invalid="ignore", divide="ignore"):
        return 100 * pck.hits(predictions, [metric])[:, 0] / pck.points(predictions, [metric])[:, 0]


def compare(
    first: Predictions,
    second: Predictions,
    metrics: Sequence[Metric],
    ranking: Metric,
    draws: int = 1000,
    changed: int = 5,
    seed: int = 0,
) -> Comparison:
    """Compare two runs' predictions of the same split.

    Both are scored on the same bootstrap draws, so what they share (easy pairs, hard pairs) does not blur the
    difference. Categories and pairs are compared under ``ranking``.

    Raises:
        InputError: as ``align``; or a metric cannot be computed on them.
    """
    total = len(first), len(second)
    first, second = align(first, second)
    info = first.info
    pck.check(first, metrics)
    one, two = (pck.quantities(predictions, metrics) for predictions in (first, second))
    found = differences(one, two, first.categories, max(draws, 1), seed)
    overall = {metric: found[str(metric)] for metric in metrics}
    gained, lost = _changed(first, second, ranking, changed)
    return Comparison(
        data_key(info.dataset, info.split),
        info,
        second.info,
        len(first),
        total[0] - len(first),
        total[1] - len(first),
        pck.pairs_without_box(first),
        draws,
        overall,
        _by_category(first, second, ranking, draws, seed),
        pck.category_pairs(first),
        ranking,
        gained,
        lost,
    )


def _by_category(
    first: Predictions, second: Predictions, metric: Metric, draws: int, seed: int
) -> dict[str, Difference]:
    values = [pck.per_category(predictions, metric) for predictions in (first, second)]
    names, category = np.unique(first.categories, return_inverse=True)
    member = (category[:, None] == np.arange(len(names))).astype(float)  # (N, categories)
    found = [pck.hits(predictions, [metric])[:, 0] for predictions in (first, second)]
    counts = pck.points(first, [metric])[:, 0].astype(float)
    if metric.average != "point":
        found, counts = [hits / np.maximum(counts, 1) for hits in found], (counts > 0).astype(float)
    gain, weight = member * (found[1] - found[0])[:, None], member * counts[:, None]
    gains = []
    for weights in bootstrap_weights(len(first), max(draws, 1), seed):
        with np.errstate(invalid="ignore", divide="ignore"):
            gains.append(100 * (weights @ gain) / (weights @ weight))
    drawn = np.concatenate(gains)
    return {
        name: difference(values[0][name], values[1][name], drawn[:, c])
        for c, name in enumerate(names.tolist())
        if name in values[0]
    }


def _changed(
    first: Predictions, second: Predictions, metric: Metric, most: int
) -> tuple[tuple[ChangedPair, ...], tuple[ChangedPair, ...]]:
    hits = [pck.hits(predictions, [metric])[:, 0].astype(int) for predictions in (first, second)]
    counts = pck.points(first, [metric])[:, 0]
    pairs = [
        ChangedPair(str(pair), str(category), int(points), int(a), int(b))
        for pair, category, points, a, b in zip(first.pair_ids, first.categories, counts, *hits)
        if points
    ]
    up = sorted((pair for pair in pairs if pair.gain > 0), key=lambda pair: (-pair.gain, pair.pair_id))
    down = sorted((pair for pair in pairs if pair.gain < 0), key=lambda pair: (pair.gain, pair.pair_id))
    return tuple(up[:most]), tuple(down[:most])


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
    chosen = list(dict.fromkeys(metrics)) or pck.strict(first.info.scored_as)
    ranking = chosen[0] if metrics else chosen[MIDDLE]
    return compare(first, second, chosen, ranking, draws, pairs)
