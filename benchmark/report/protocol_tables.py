"""The same predictions under every protocol: one run's scores on one data set as rows of a table."""

from __future__ import annotations

from dataclasses import dataclass

from benchmark.scoring import bundles
from benchmark.scoring.pck import Metric
from benchmark.scoring.result import EvaluatedData, Result
from sc_imagenet.core.errors import InputError


@dataclass(frozen=True)
class ProtocolRow:
    """One protocol; ``scores`` by the table's alphas, (value, low, high) or None."""

    protocol: str  # "bbox-kp@256/image"
    label: str  # "strict", "paper, legacy", ""
    scores: tuple[tuple[float, float, float] | None, ...]


@dataclass(frozen=True)
class ProtocolTable:
    """All protocols that a run was scored under on one data set."""

    data: str
    alphas: tuple[float, ...]
    rows: tuple[ProtocolRow, ...]


def protocol_table(result: Result, data: EvaluatedData) -> ProtocolTable:
    """The scores of a run on a data set, in the order they were computed; names that are no metric are left out."""
    found: dict[str, dict[float, tuple[float, float, float]]] = {}
    legacy: set[str] = set()
    for name, score in result.metrics.get(data.key, {}).items():
        try:
            metric = Metric.parse(name)
        except InputError:
            continue
        found.setdefault(metric.protocol, {})[metric.alpha] = (score["value"], score["low"], score["high"])
        if metric.legacy:
            legacy.add(metric.protocol)
    named = {
        "strict": {metric.protocol for metric in bundles.strict(data.scored_as)},
        "paper": {metric.protocol for metric in bundles.paper(data.scored_as, result.model, result.size)},
        "legacy": legacy,
    }
    alphas = tuple(sorted({alpha for scores in found.values() for alpha in scores}))
    rows = (
        ProtocolRow(
            protocol,
            ", ".join(name for name, members in named.items() if protocol in members),
            tuple(scores.get(alpha) for alpha in alphas),
        )
        for protocol, scores in found.items()
    )
    return ProtocolTable(data.key, alphas, tuple(rows))
