"""Runs side by side: those scored on the same pairs, and those among them that differ in their seeds alone."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from statistics import fmean, stdev

from benchmark.scoring import pck
from benchmark.scoring.pck import Metric
from benchmark.scoring.prediction_files import MARK
from benchmark.scoring.result import EvaluatedData, Result, count_of_pairs, data_key
from benchmark.scoring.runs import Curves, FoundRun
from sc_imagenet.core.errors import InputError
from sc_imagenet.core.files import read_json
from sc_imagenet.data.catalog import info

# A measured figure, and the mean of several runs'.


@dataclass(frozen=True)
class MeanScore:
    """What runs measured: their mean, and the span of their intervals."""

    value: float
    low: float | None  # None for one category, which has no interval
    high: float | None
    runs: tuple[str, ...]
    metric: str = ""  # the protocol it was taken under
    spread: float | None = None  # standard deviation over the runs; None for one


def averaged(found: Sequence[MeanScore]) -> MeanScore | None:
    """The mean of single runs' figures of one metric, their intervals joined; None of none.

    >>> mean = averaged([MeanScore(60.0, 58.0, 62.0, ("a",)), MeanScore(63.0, 60.0, 65.0, ("b",))])
    >>> mean.value, mean.low, mean.high, mean.runs, round(mean.spread, 2)
    (61.5, 58.0, 65.0, ('a', 'b'), 2.12)
    """
    if not found:
        return None
    values = [one.value for one in found]
    return MeanScore(
        fmean(values),
        min((one.low for one in found if one.low is not None), default=None),
        max((one.high for one in found if one.high is not None), default=None),
        tuple(run for one in found for run in one.runs),
        found[0].metric,
        stdev(values) if len(values) > 1 else None,
    )


# Runs side by side: those scored on the same pairs, and those among them that differ in their seeds alone.


@dataclass(frozen=True)
class LeaderboardEntry:
    """A run on one data set, under the strict protocol."""

    result: Result
    mark: str  # of the data among the run's
    setting: str  # the same for runs that differ in their seeds alone
    scores: tuple[MeanScore | None, ...]  # by alpha
    categories: dict[str, float]  # at alpha 0.1
    curve: tuple[float, ...]  # PCK at each of details.CURVE_ALPHAS; () where there is none


@dataclass(frozen=True)
class Setting:
    """Runs of a board that differ in their seeds alone: one, or the mean of several."""

    entries: tuple[LeaderboardEntry, ...]  # best first

    @property
    def result(self) -> Result:
        """The best run's; what it was trained on, and how, holds for all."""
        return self.entries[0].result

    @property
    def seeds(self) -> tuple[int, ...]:
        """In rising order."""
        return tuple(sorted(entry.result.seed for entry in self.entries))

    @cached_property
    def scores(self) -> tuple[MeanScore | None, ...]:
        """By alpha; over the runs that have one."""
        return tuple(averaged([score for score in at if score]) for at in zip(*(e.scores for e in self.entries)))

    @cached_property
    def categories(self) -> dict[str, float]:
        """At alpha 0.1."""
        names = dict.fromkeys(name for entry in self.entries for name in entry.categories)
        return {name: fmean(e.categories[name] for e in self.entries if name in e.categories) for name in names}

    @cached_property
    def curve(self) -> tuple[float, ...]:
        """PCK at each of details.CURVE_ALPHAS; () where no run has one."""
        return tuple(map(fmean, zip(*(entry.curve for entry in self.entries if entry.curve))))

    @property
    def seconds(self) -> float:
        """Of training, a run on average."""
        return fmean(entry.result.seconds for entry in self.entries)

    @property
    def peak_memory(self) -> int | None:
        """Bytes of the run that took most."""
        return max(entry.result.peak_memory or 0 for entry in self.entries) or None

    @property
    def seeds_in_words(self) -> str:
        """``0``, or ``0, 1, 2 (n = 3)``."""
        listed = ", ".join(map(str, self.seeds))
        return listed if len(self.seeds) == 1 else f"{listed} (n = {len(self.seeds)})"

    @property
    def which_runs(self) -> str:
        """What tells it from others of its model and training: its run, or the best of its runs."""
        if len(self.seeds) == 1:
            return f"seed {self.seeds[0]}, {self.result.run}"
        return f"mean of {len(self.seeds)} seeds, best {self.result.run}"


@dataclass(frozen=True)
class Leaderboard:
    """All runs evaluated on the same pairs in the same direction, best first."""

    key: str  # data set, with its split unless that is test
    dataset: str
    form: str | None  # the data set of the catalogue that a generated one is like
    title: str
    split: str
    pairs: int
    published: int | None  # pairs of the split as published
    without_box: int  # of the pairs, those that bbox-kp leaves out
    manifest_sha256: str
    direction: str
    metrics: tuple[Metric, ...]
    entries: tuple[LeaderboardEntry, ...]

    @cached_property
    def settings(self) -> tuple[Setting, ...]:
        """The runs grouped, best mean first."""
        groups: dict[str, list[LeaderboardEntry]] = {}
        for entry in self.entries:
            groups.setdefault(entry.setting, []).append(entry)
        return tuple(sorted((Setting(tuple(group)) for group in groups.values()), key=_rank))

    @property
    def singles(self) -> tuple[Setting, ...]:
        """Each run by itself, where any stands in a group; else ()."""
        return tuple(Setting((entry,)) for entry in self.entries) if len(self.settings) < len(self.entries) else ()

    @property
    def heading(self) -> str:
        """``Toy, test split, 200 of 300 pairs``, and the direction if it is not the usual one."""
        against = "" if self.direction == "forward" else ", target \N{RIGHTWARDS ARROW} source"
        return f"{self.title}, {self.split} split, {count_of_pairs(self.pairs, self.published)}{against}"

    @property
    def protocol(self) -> str:
        """Its metric without alpha, in words."""
        metric = self.metrics[0]
        side = "target" if self.direction == "forward" else "source"
        left_out = self.without_box if metric.threshold == "bbox-kp" else 0
        without = f", {left_out:,} pairs without a box around their points left out" if left_out else ""
        return f"{metric.threshold}, original pixels of the {side}, {metric.average} average{without}"

    @property
    def categories(self) -> tuple[str, ...]:
        """Every category that an entry has a value for."""
        return tuple(sorted({name for entry in self.entries for name in entry.categories}))


def leaderboards_of(found: Sequence[FoundRun], curves: Mapping[str, Curves]) -> tuple[Leaderboard, ...]:
    """One board for every set of pairs and direction.

    The same split with other pairs (``--limit``) is another board; so are predictions that lie in the other
    image, under another threshold: nothing is ranked across protocols.
    """
    groups: dict[tuple[str, str, int, str, str, str], list[tuple[FoundRun, EvaluatedData]]] = {}
    for run in found:
        for part in run.result.data:
            same = (part.name, part.split, part.pairs, part.manifest_sha256, run.result.direction, part.form or "")
            groups.setdefault(same, []).append((run, part))
    settings = {run.result.run: setting_of(run) for run in found}
    boards = []
    for (name, split, pairs, manifest, direction, form), members in sorted(groups.items(), key=lambda item: item[0]):
        others = {m for n, s, _, m, _, f in groups if f and (n, s) == (name, split)} - {manifest}
        data = data_key(name, split, manifest[:MARK] if form and others else "")
        counted = max((part for _, part in members), key=lambda part: part.without_box)  # older results lack it
        metrics = tuple(pck.strict_metrics(form or name))
        title = name if form else info(name).title
        entries = [
            _entry(run.result, settings[run.result.run], part, metrics, curves[run.result.run].get(part.key, {}))
            for run, part in members
        ]
        entries.sort(key=_rank)
        counts = pairs, counted.published, counted.without_box
        boards.append(
            Leaderboard(data, name, form or None, title, split, *counts, manifest, direction, metrics, tuple(entries))
        )
    return tuple(boards)


def setting_of(run: FoundRun) -> str:
    """The first twelve hexadecimal digits of the SHA-256 of a run's configuration without its seed.

    A run whose ``config.json`` is lost is like no other: its own id.
    """
    try:
        config = read_json(run.folder / "config.json")
        if not isinstance(config, dict) or config.pop("seed", None) != run.result.seed:
            return run.result.run
        return hashlib.sha256(json.dumps(config, sort_keys=True).encode()).hexdigest()[:12]
    except (InputError, RecursionError):
        return run.result.run


def filters(result: Result) -> dict[str, str]:
    """What a run can be filtered by."""
    return {"model": result.model, "supervision": result.supervision, "backbone": result.backbone}


def _entry(
    result: Result, setting: str, data: EvaluatedData, metrics: Sequence[Metric], curves: Mapping[str, list[float]]
) -> LeaderboardEntry:
    scores = [(str(metric), result.metrics.get(data.key, {}).get(str(metric))) for metric in metrics]
    return LeaderboardEntry(
        result,
        data.mark,
        setting,
        tuple(MeanScore(**score, runs=(result.run,), metric=name) if score else None for name, score in scores),
        result.per_category.get(data.key, {}).get(str(metrics[1]), {}),
        tuple(curves.get(metrics[1].protocol, ())),
    )


def _rank(of: LeaderboardEntry | Setting) -> tuple[float, str]:
    middle = of.scores[1]
    return (-middle.value if middle else 1.0, of.result.run)
