"""Two runs on the same pairs: the paired bootstrap, differences by category, and the pairs that changed most."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeAlias

import numpy as np

from benchmark.scoring import pck
from benchmark.scoring.bootstrap import (
    Difference,
    Quantity,
    bootstrap_weights,
    difference_of_draws,
    paired_differences,
    percent,
)
from benchmark.scoring.details import protocol_quantities
from benchmark.scoring.evaluation import evaluate_predictions
from benchmark.scoring.pck import Metric
from benchmark.scoring.prediction_files import read_predictions
from benchmark.scoring.predictions import PredictionInfo, Predictions
from benchmark.scoring.protocol import Protocol
from benchmark.scoring.result import data_key
from benchmark.scoring.runs import prediction_files
from sc_imagenet.core.errors import InputError


@dataclass(frozen=True)
class ProtocolMetric:
    """PCK under a named protocol at one of its alphas, under the average that its paper prints.

    >>> from benchmark.scoring import protocol
    >>> print(ProtocolMetric(protocol("geoaware@1"), 0.1))
    geoaware@1 pck@0.1/image
    """

    protocol: Protocol
    alpha: float

    @property
    def average(self) -> str:
        """The first of the protocol's."""
        return self.protocol.averages[0]

    def __str__(self) -> str:
        return f"{self.protocol} pck@{self.alpha:g}/{self.average}"

    def resolved(self, predictions: Predictions) -> Protocol:
        """The protocol on the data set of these predictions, at this alpha alone; its name is the same.

        Raises:
            InputError: it is not known what it is on this data set, or for this model.
        """
        info = predictions.info
        return self.protocol.for_data(predictions.dataset, info.model, info.size, info.protocol).at(self.alpha)


Measure: TypeAlias = "Metric | ProtocolMetric"


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
    overall: dict[Measure, Difference]
    per_category: dict[str, Difference]  # under the ranking one
    category_pairs: dict[str, int]
    ranking: Measure  # by which categories and pairs are compared
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


def correct_points(predictions: Predictions, measure: Measure) -> np.ndarray:
    """Which points are right, (P,); those that a protocol does not evaluate are not."""
    if isinstance(measure, ProtocolMetric):
        protocol = measure.resolved(predictions)
    else:
        protocol = pck.rule(measure.threshold, measure.frame, (measure.alpha,))
    found = evaluate_predictions(predictions, protocol)
    correct = np.full(len(predictions.true), False)
    correct[found.rows] = found.hits[:, 0]
    return correct


def compare_predictions(
    first: Predictions,
    second: Predictions,
    measures: Sequence[Measure],
    ranking: Measure,
    draws: int = 1000,
    changed: int = 5,
    seed: int = 0,
) -> Comparison:
    """Compare two runs' predictions of the same split.

    Both are scored on the same bootstrap draws, so what they share (easy pairs, hard pairs) does not blur the
    difference. Categories and pairs are compared under ``ranking``, one of the ``measures``.

    Raises:
        InputError: as ``align``; or a measure cannot be computed on them.
    """
    total = len(first), len(second)
    first, second = align(first, second)
    info = first.info
    pck.check_metrics(first, [each for each in measures if isinstance(each, Metric)])
    one, two = (_quantities(predictions, measures) for predictions in (first, second))
    for quantity in one:
        if not quantity.counts.any():
            raise InputError(f"{quantity.name}: no pair of {info.dataset} has a point to compare")
    found = paired_differences(one, two, first.categories, max(draws, 1), seed)
    ranked = one[measures.index(ranking)], two[measures.index(ranking)]
    gained, lost = _changed(first, *ranked, changed)
    return Comparison(
        data_key(info.dataset, info.split),
        info,
        second.info,
        len(first),
        total[0] - len(first),
        total[1] - len(first),
        pck.pairs_without_box(first),
        draws,
        {measure: found[str(measure)] for measure in measures},
        _by_category(first.categories, *ranked, draws, seed),
        pck.category_pairs(first),
        ranking,
        gained,
        lost,
    )


def _quantities(predictions: Predictions, measures: Sequence[Measure]) -> list[Quantity]:
    """The measures as quantities of pairs, in their order and by their names."""
    named = pck.metric_quantities(predictions, [each for each in measures if isinstance(each, Metric)])
    found = {each.name: each for each in named}
    for measure in measures:
        if isinstance(measure, ProtocolMetric):
            quantity = next(protocol_quantities(predictions, measure.resolved(predictions)))
            found[str(measure)] = replace(quantity, name=str(measure))
    return [found[str(measure)] for measure in measures]


def _by_category(
    categories: np.ndarray, first: Quantity, second: Quantity, draws: int, seed: int
) -> dict[str, Difference]:
    names, category = np.unique(categories, return_inverse=True)
    member = (category[:, None] == np.arange(len(names))).astype(float)  # (N, categories)
    counts = first.counts.astype(float)
    found = [each.found.astype(float) for each in (first, second)]
    if "image" in first.average:
        found, counts = [hits / np.maximum(counts, 1) for hits in found], (counts > 0).astype(float)
    weight = member * counts[:, None]
    gain = member * (found[1] - found[0])[:, None]
    gains = []
    with np.errstate(invalid="ignore", divide="ignore"):
        values = [percent((hits @ member) / weight.sum(axis=0)) for hits in found]
        for weights in bootstrap_weights(len(categories), max(draws, 1), seed):
            gains.append(100 * (weights @ gain) / (weights @ weight))
    drawn = np.concatenate(gains)
    return {
        name: difference_of_draws(values[0][c], values[1][c], drawn[:, c])
        for c, name in enumerate(names.tolist())
        if weight[:, c].any()
    }


def _changed(
    predictions: Predictions, first: Quantity, second: Quantity, most: int
) -> tuple[tuple[ChangedPair, ...], tuple[ChangedPair, ...]]:
    columns = (predictions.pair_ids, predictions.categories, first.counts, first.found, second.found)
    pairs = [
        ChangedPair(str(pair), str(category), int(points), int(a), int(b))
        for pair, category, points, a, b in zip(*columns)
        if points
    ]
    up = sorted((pair for pair in pairs if pair.gain > 0), key=lambda pair: (-pair.gain, pair.pair_id))
    down = sorted((pair for pair in pairs if pair.gain < 0), key=lambda pair: (pair.gain, pair.pair_id))
    return tuple(up[:most]), tuple(down[:most])


_MIDDLE = 1  # of the three alphas: 0.10 ranks categories and pairs


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


def protocol_metrics(protocols: Sequence[Protocol]) -> list[ProtocolMetric]:
    """Each protocol at its alphas; 0.1, where it has it, first."""
    return [
        ProtocolMetric(protocol, alpha)
        for protocol in protocols
        for alpha in sorted(protocol.alphas, key=lambda alpha: (alpha != 0.1, alpha))
    ]


def compared(
    first: Predictions, second: Predictions, measures: Sequence[Measure], draws: int, pairs: int
) -> Comparison:
    """Compare under ``measures``, the first of which ranks; without any under the strict metrics.

    Raises:
        InputError: as ``compare_predictions``.
    """
    chosen: list[Measure] = list(dict.fromkeys(measures)) or [*pck.strict_metrics(first.info.scored_as)]
    ranking = chosen[0] if measures else chosen[_MIDDLE]
    return compare_predictions(first, second, chosen, ranking, draws, pairs)
