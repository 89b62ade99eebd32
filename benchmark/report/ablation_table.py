"""The ablations of ``scbench ablate`` as rows: measured beside the paper's Tables 4 and 5, and whether they agree.

Backbone, photographs and protocol are not the paper's, so that figures cannot be compared; what can is which way each
change moves them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

from benchmark.report.paper_tables import PaperTable, table_4, table_5
from benchmark.scoring.result import count_of_pairs, published_pairs
from sc_imagenet.core.errors import InputError
from sc_imagenet.core.files import files_in, read_json

# What ``scbench ablate`` trains and measures: the full cascade, and the same with one thing changed.

FULL = "full"


@dataclass(frozen=True)
class Case:
    """One row.

    name      as typed after --only
    paper     its row in the paper: the table's number and the case's numeral; None: not in it
    changes   options of the training; ``network`` holds those of the network
    size      side of the input, as a share of the full model's
    trained   False reads the untrained network
    nearest   read without PMPS: nearest neighbours by v_f alone
    untrained  the untrained network under the same reading, by its case's name; a trained one below it fails
    """

    name: str
    paper: tuple[int, str] | None = None
    changes: Mapping[str, Any] = field(default_factory=dict)
    size: float = 1.0
    trained: bool = True
    nearest: bool = False
    untrained: str | None = None


LITERAL = {"hough_scales": [1.0], "reading": "similarity", "votes": "relu"}
NEAREST = {"hough": False, "reading": "similarity"}

CASES = (
    Case("untrained-nearest", changes={"network": NEAREST}, trained=False),
    Case("untrained-hough", changes={"network": LITERAL}, trained=False),
    Case("untrained-full", trained=False),
    Case("untrained-region", changes={"network": {"stages": "region"}}, trained=False),
    Case("trained-nearest", nearest=True, untrained="untrained-nearest"),
    Case(FULL, (4, "(I)"), untrained="untrained-full"),
    Case("without-saliency", (4, "(II)"), {"network": {"saliency": False}}),
    Case("without-hough", (4, "(III)"), {"network": {"hough": False}}),
    Case("length-3", (4, "(IV)"), {"network": {"hough_length": 3}}),
    Case("length-7", (4, "(VI)"), {"network": {"hough_length": 7}}),
    Case("shared-attention", (4, "(VII)"), {"network": {"shared_attention": True}}, untrained="untrained-full"),
    Case("half-size", (5, "(II)"), size=1 / 2),
    Case("three-quarter-size", (5, "(III)"), size=3 / 4),
    Case("without-stage-3", (5, "(V)"), {"network": {"stages": "region"}}, untrained="untrained-region"),
    Case("without-stages-2-3", (5, "(VI)"), {"network": {"stages": "image"}}, untrained="untrained-full"),
)


def case_called(name: str) -> Case:
    """The case of that name.

    Raises:
        KeyError: there is none.
    """
    return {case.name: case for case in CASES}[name]


def paper_figures(case: Case, dataset: str = "pf-willow") -> dict[float, float]:
    """PCK by alpha that the paper prints for a case on a data set; {} where it has none.

    >>> paper_figures(case_called("shared-attention"))
    {0.05: 53.6, 0.1: 78.5}
    """
    if case.paper is None:
        return {}
    number, numeral = case.paper
    table: PaperTable = {4: table_4, 5: table_5}[number]()
    row = next(row for row in table.rows if row.method.startswith(f"{numeral} "))
    found = ((column, value) for column, value in zip(table.columns, row.values) if column.dataset == dataset)
    return {column.alpha: value for column, value in found if value is not None}


# The table of what was measured.

FOLDER = "ablations"  # of the folder of runs, where the report looks for them
METRIC = "bbox-kp/image"
ALPHAS = (0.05, 0.1, 0.15)
PAPER_ALPHAS = (0.05, 0.1)

HEADINGS = (
    *("case", "PCK@.05", "PCK@.10", "PCK@.15", "paper's row", "paper @.05 / .10"),
    *("change @.05 / .10", "the paper's", "agrees", "seeds"),
)
LEGEND = (
    "Mean and 95 % interval over seeds. Changes are against the full model, seed by seed; ? marks one within their "
    "spread, 'fails' one whose training is worse than none under the same reading. Only directions compare: backbone, "
    "photographs and protocol are not the paper's."
)

BySeed = Mapping[int, Mapping[str, float]]  # seed: metric: percent


@dataclass(frozen=True)
class Spread:
    """Mean over seeds, with the 95 % interval of Student's t; None for a single seed."""

    value: float
    low: float | None
    high: float | None


@dataclass(frozen=True)
class Change:
    """What a case does to the full model's PCK at one alpha, in points.

    measured  mean over the seeds that both have
    paper     the paper's change
    agrees    whether both have one sign
    sure      whether the measured interval leaves out 0; False for a single seed
    fails     whether the case lies below the untrained network under the same reading: its training failed, and which
              way it moves the full model says nothing of the paper's
    """

    measured: Spread
    paper: float
    agrees: bool
    sure: bool
    fails: bool = False


@dataclass(frozen=True)
class AblationRow:
    """A case.

    case      its name
    paper_row the paper's table and numeral, "" if it is in none
    paper     the paper's figures at ``PAPER_ALPHAS``
    seeds     how many were measured
    scores    at ``ALPHAS``; None where nothing was measured
    changes   against the full model at ``PAPER_ALPHAS``; None where there is nothing to compare
    command   that measures it
    """

    case: str
    paper_row: str
    paper: tuple[float | None, ...]
    seeds: int
    scores: tuple[Spread | None, ...]
    changes: tuple[Change | None, ...]
    command: str


@dataclass(frozen=True)
class AblationTable:
    """All cases.

    about  what they were trained and measured with, in words; "" where nothing was measured
    """

    about: str
    metric: str
    rows: tuple[AblationRow, ...]

    @property
    def measured(self) -> bool:
        """Whether any case was."""
        return any(row.seeds for row in self.rows)

    @property
    def verdict(self) -> str:
        """How many of the paper's directions are found, in one sentence; "" where none can be compared."""
        all_found = [change for row in self.rows for change in row.changes if change]
        found = [change for change in all_found if not change.fails]
        if not found:
            return ""
        failing = len(all_found) - len(found)
        less = f" {failing} lie below the untrained network: they fail, and are not counted." if failing else ""
        agree, sure = sum(c.agrees for c in found), [c for c in found if c.sure]
        line = f"{agree} of {len(found)} directions agree with the paper's"
        return f"{line}; of the {len(sure)} beyond the spread of the seeds, {sum(c.agrees for c in sure)}.{less}"


def ablation_table(folder: Path, metric: str = METRIC, only: tuple[str, ...] = (), read: bool = True) -> AblationTable:
    """The table of what ``scbench ablate`` measured into ``folder``; empty rows where it did not.

    Args:
        folder: given to it as --out.
        metric: protocol, without "pck@" and alpha.
        only: cases by name; none: all.
        read: False leaves the folder alone; every row is empty.

    Raises:
        InputError: a file of it is damaged.
    """
    settings = read_json(folder / "settings.json") if read and (folder / "settings.json").exists() else {}
    measured: dict[str, dict[int, dict[str, float]]] = {}
    pairs = None  # that every case was measured on
    for file in files_in(folder / "measured", ".json") if read else ():
        content: Any = read_json(file)
        try:
            measured.setdefault(content["case"], {})[content["seed"]] = dict(content["metrics"])
            pairs = content.get("pairs")
        except (KeyError, TypeError, ValueError) as error:
            raise InputError("is not a measured ablation", where=file, fix="Delete it and measure again.") from error
    dataset = str(settings.get("evaluate", "pf-willow")).partition(":")[0]
    rows = tuple(
        row_of(case, measured.get(case.name, {}), measured.get(FULL, {}), metric, dataset, folder, measured)
        for case in CASES
        if not only or case.name in only
    )
    return AblationTable(_about(settings, pairs), metric, rows)


def row_of(
    case: Case,
    measured: BySeed,
    full: BySeed,
    metric: str = METRIC,
    dataset: str = "pf-willow",
    out: Path = Path(),
    others: Mapping[str, BySeed] | None = None,
) -> AblationRow:
    """A case's row from its metrics and the full model's, by seed; ``others`` are all cases' by name."""
    figures = paper_figures(case, dataset)
    untrained = (others or {}).get(case.untrained or "", {})
    return AblationRow(
        case.name,
        f"{case.paper[0]} {case.paper[1]}" if case.paper else "",
        tuple(figures.get(alpha) for alpha in PAPER_ALPHAS),
        len(measured),
        tuple(_spread_at(measured, f"pck@{alpha:g}/{metric}") for alpha in ALPHAS),
        tuple(_change(case, measured, full, alpha, metric, dataset, untrained) for alpha in PAPER_ALPHAS),
        f"scbench ablate PHOTOGRAPHS --out {out} --only {case.name}",
    )


def spread(values: list[float]) -> Spread:
    """Mean and interval of some seeds' values.

    >>> spread([60.0, 62.0, 61.0])
    Spread(value=61.0, low=58.5..., high=63.4...)
    """
    if len(values) == 1:
        return Spread(values[0], None, None)
    from scipy.stats import t  # takes longer to import than a report of runs takes to write

    half = float(t.ppf(0.975, len(values) - 1)) * stdev(values) / len(values) ** 0.5
    return Spread(fmean(values), fmean(values) - half, fmean(values) + half)


def agreement(changes: tuple[Change | None, ...]) -> str:
    """Whether the directions agree, alpha by alpha; "?" marks a change within the spread of the seeds.

    "fails" is that of a training that is worse than none.
    """
    if not any(changes):
        return ""
    return " / ".join("" if each is None else _verdict_on(each) for each in changes)


def _verdict_on(change: Change) -> str:
    if change.fails:
        return "fails"
    return ("yes" if change.agrees else "no") + ("" if change.sure else "?")


def words(row: AblationRow) -> tuple[str, ...]:
    """A row under ``HEADINGS``."""
    paper = " / ".join(f"{value:.1f}" for value in row.paper if value is not None)
    changes = [change for change in row.changes if change]
    ours, theirs = (
        " / ".join(f"{value:+.1f}" for value in values).replace("-", "\N{MINUS SIGN}")
        for values in ([change.measured.value for change in changes], [change.paper for change in changes])
    )
    scores = (figure(score) for score in row.scores)
    return (row.case, *scores, row.paper_row, paper, ours, theirs, agreement(row.changes), str(row.seeds or ""))


def figure(score: Spread | None) -> str:
    """A mean and half its interval.

    >>> figure(Spread(61.0, 58.5, 63.5)), figure(Spread(61.0, None, None)), figure(None)
    ('61.0 ± 2.5', '61.0', '')
    """
    if score is None:
        return ""
    return f"{score.value:.1f}" + (f" ± {score.high - score.value:.1f}" if score.high is not None else "")


def _spread_at(measured: BySeed, name: str) -> Spread | None:
    values = [metrics[name] for metrics in measured.values() if name in metrics]
    return spread(values) if values else None


def _change(
    case: Case, measured: BySeed, full: BySeed, alpha: float, metric: str, dataset: str, untrained: BySeed
) -> Change | None:
    ours, theirs = paper_figures(case, dataset).get(alpha), paper_figures(case_called(FULL), dataset).get(alpha)
    name = f"pck@{alpha:g}/{metric}"
    both = [seed for seed in measured if seed in full and name in measured[seed] and name in full[seed]]
    if case.name == FULL or ours is None or theirs is None or not both:
        return None
    found = spread([measured[seed][name] - full[seed][name] for seed in both])
    expected = ours - theirs
    sure = found.low is not None and found.high is not None and (found.low > 0 or found.high < 0)
    before, after = _spread_at(untrained, name), _spread_at(measured, name)
    fails = before is not None and after is not None and after.value < before.value
    return Change(found, expected, found.value * expected > 0, sure, fails)


def _about(settings: Mapping[str, Any], pairs: object) -> str:
    if not settings:
        return ""
    options = settings["options"]
    words = [options["backbone"], f"{options['size']} px"]
    words.append(f"{settings['max_steps']} steps" if settings["max_steps"] else f"{options['epochs']} epochs")
    words.append(f"measured on {settings['evaluate']}")
    if isinstance(pairs, int):
        name, _, split = str(settings["evaluate"]).replace("_", "-").partition(":")
        words.append(count_of_pairs(pairs, published_pairs(name, split or "test")))
    elif settings["limit"]:
        words.append(f"{settings['limit']} pairs of it")
    return ", ".join(words)
