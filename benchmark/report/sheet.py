"""All that is known of one run, gathered from its folder."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from benchmark.report.protocol_tables import ProtocolTable, protocol_table
from benchmark.report.provenance import Facts, facts
from benchmark.report.training_log import TrainingLog, read_log
from benchmark.scoring.result import Result
from benchmark.scoring.results import FoundRun


@dataclass(frozen=True)
class Sheet:
    """A run's provenance, training and scores."""

    result: Result
    folder: str
    command: str
    facts: Facts
    protocols: tuple[ProtocolTable, ...]
    training: TrainingLog
    problems: tuple[str, ...]


def sheet_of(run: FoundRun, problems: Sequence[str], others: Sequence[FoundRun] = ()) -> Sheet:
    """Gather a run's sheet.

    A run that only evaluates takes its weights, and so its training log, from another run (``others``).
    """
    command, lines = facts(run.result, run.folder)
    log = read_log(run.folder / "log.jsonl")
    weights = run.result.weights_sha256
    if not log and weights and run.result.checkpoint is None:
        for other in others:
            same = other.result.weights_sha256 == weights and other.folder != run.folder
            if same and (log := read_log(other.folder / "log.jsonl")):
                lines = (*lines, ("Weights trained in", other.result.run))
                break
    tables = tuple(protocol_table(run.result, data) for data in run.result.data)
    return Sheet(run.result, str(run.folder), command, lines, tables, log, tuple(problems))
