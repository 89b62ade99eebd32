"""What a report is about, gathered from a folder of runs: runs, ablations, generated data sets."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmark.report import paper_tables
from benchmark.report.ablation_table import FOLDER as ABLATIONS
from benchmark.report.ablation_table import AblationTable, ablation_table
from benchmark.report.leaderboard import Leaderboard, leaderboards_of
from benchmark.report.reproduction import MeasuredTable, with_measured
from benchmark.report.run_details import RunDetails, details_of
from benchmark.report.table import number
from benchmark.scoring.result import Result
from benchmark.scoring.runs import Curves, FoundRun, find_runs, run_curves
from sc_imagenet.core.errors import InputError
from sc_imagenet.core.files import read_json
from sc_imagenet.core.progress import Update

# Data sets that ``scbench generate`` made below the folder of runs.

GENERATED_SETS = "generated"  # of the folder of runs, with a folder for each data set


@dataclass(frozen=True)
class GeneratedSet:
    """A data set made from class names.

    name       of its folder
    how        backbone, side and matcher in words
    counts     label: figure, in reading order
    errors     the same of its labels' true errors; empty where the truth is not known
    """

    name: str
    how: str
    counts: Mapping[str, str]
    errors: Mapping[str, str]


def find_generated(runs: Path) -> tuple[tuple[GeneratedSet, ...], tuple[str, ...]]:
    """All finished data sets below a folder of runs, and a line for each that cannot be read."""
    found, problems = [], []
    for file in sorted(Path(runs).glob(f"{GENERATED_SETS}/*/generation.json")):
        try:
            found.append(_read(file.parent))
        except InputError as error:
            problems.append(str(error))
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            problems.append(f"{file}: has an entry of another kind ({error})")
    return tuple(found), tuple(problems)


def _read(folder: Path) -> GeneratedSet:
    content: Any = read_json(folder / "generation.json")
    options, counts = content["options"], content["counts"]
    matcher = "the trained cascade" if options["network"] else "raw features with Hough scores"
    errors = folder / "label_errors.json"
    return GeneratedSet(
        folder.name,
        f"{options['backbone']} at {options['size']} px, {matcher}",
        {
            "photographs": f"{counts['images']:,}",
            "kept": f"{counts['kept_images']:,}",
            "classes": f"{counts['classes']:,}",
            "pairs": f"{counts['pairs']:,}",
            "points": f"{counts['points']:,}",
            "median loop offset, all matched points, pixels": f"{counts['median_offset_matched']:.1f}",
            "median loop offset, selected points, pixels": f"{counts['median_offset_selected']:.1f}",
        },
        {name: number(value) for name, value in (read_json(errors) if errors.exists() else {}).items()},
    )


# The report.


@dataclass(frozen=True)
class Report:
    """Everything that a report shows."""

    tables: tuple[MeasuredTable, ...]
    leaderboards: tuple[Leaderboard, ...]
    details: tuple[RunDetails, ...]  # of all runs, by model and id
    unscored: tuple[Result, ...]  # trained, but evaluated on nothing
    problems: tuple[str, ...]
    ablations: AblationTable
    generated: tuple[GeneratedSet, ...]
    notes: tuple[str, ...] = paper_tables.NOTES

    @property
    def runs(self) -> int:
        """How many runs it is about."""
        return len(self.details)


def build_from(runs: Path, update: Update | None = None) -> Report:
    """The report of all that lies in a folder of runs: runs, ablations and generated data sets."""
    found, problems = find_runs(runs)
    generated, unread = find_generated(runs)
    problems += unread
    ablations = None
    try:
        ablations = ablation_table(runs / ABLATIONS)
    except InputError as error:
        problems.append(str(error))
    return build(found, problems, update, ablations, generated)


def build(
    found: Sequence[FoundRun],
    problems: Sequence[str] = (),
    update: Update | None = None,
    ablations: AblationTable | None = None,
    generated: Sequence[GeneratedSet] = (),
) -> Report:
    """Put the runs beside the paper's tables and against each other.

    Args:
        found: finished runs, each id once.
        problems: a line for each run that is not among them.
        update: shows progress: a run scored by an older version has no curves yet, and its predictions are read.
        ablations: of the generator; None: none were measured.
        generated: data sets made here.
    """
    results = [run.result for run in found]
    curves: dict[str, Curves] = {}
    details = []
    for done, run in enumerate(sorted(found, key=lambda run: (run.result.model, run.result.run))):
        if update is not None:
            update("runs", done, len(found))
        curves[run.result.run], gaps = run_curves(run.folder, run.result)
        details.append(details_of(run, gaps, found))
    return Report(
        tuple(with_measured(table, results) for table in paper_tables.tables()),
        leaderboards_of(found, curves),
        tuple(details),
        tuple(result for result in results if not result.data),
        tuple(problems),
        ablations or ablation_table(Path("runs") / ABLATIONS, read=False),
        tuple(generated),
    )
