"""A measured figure, and the mean of several runs'."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean, stdev


@dataclass(frozen=True)
class Measured:
    """What runs measured: their mean, and the span of their intervals."""

    value: float
    low: float | None  # None for one category, which has no interval
    high: float | None
    runs: tuple[str, ...]
    metric: str = ""  # the protocol it was taken under
    spread: float | None = None  # standard deviation over the runs; None for one


def averaged(found: Sequence[Measured]) -> Measured | None:
    """The mean of single runs' figures of one metric, their intervals joined; None of none.

    >>> mean = averaged([Measured(60.0, 58.0, 62.0, ("a",)), Measured(63.0, 60.0, 65.0, ("b",))])
    >>> mean.value, mean.low, mean.high, mean.runs, round(mean.spread, 2)
    (61.5, 58.0, 65.0, ('a', 'b'), 2.12)
    """
    if not found:
        return None
    values = [one.value for one in found]
    return Measured(
        fmean(values),
        min((one.low for one in found if one.low is not None), default=None),
        max((one.high for one in found if one.high is not None), default=None),
        tuple(run for one in found for run in one.runs),
        found[0].metric,
        stdev(values) if len(values) > 1 else None,
    )
