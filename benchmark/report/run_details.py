"""All that is known of one run: how it is said, protocols, training log, provenance."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmark.scoring import pck
from benchmark.scoring.pck import Metric
from benchmark.scoring.result import EvaluatedData, Result, data_key
from benchmark.scoring.runs import FoundRun
from sc_imagenet.core.command import Command
from sc_imagenet.core.errors import InputError
from sc_imagenet.core.files import read_json

# A run's training as its log tells it, thinned for a picture.

Points = tuple[tuple[float, float], ...]
LARGEST = 1e15  # beyond, no axis has ticks that can be told apart
MOST = 120  # points of a curve: more cannot be seen, and a long training logs thousands


@dataclass(frozen=True)
class TrainingLog:
    """Loss and validation PCK by step."""

    loss: Points
    validation: Points

    def __bool__(self) -> bool:
        return len(self.loss) > 1 or len(self.validation) > 1


def read_log(file: Path) -> TrainingLog:
    """Read a ``log.jsonl``; lines that are cut or of another kind are passed over, a missing file is empty."""
    loss: list[tuple[float, float]] = []
    validation: list[tuple[float, float]] = []
    try:
        lines = file.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        lines = []
    for line in lines:
        try:
            entry = json.loads(line)
            for name, points in (("loss", loss), ("validation_pck", validation)):
                if name in entry:
                    point = float(entry["step"]), float(entry[name])
                    if max(map(abs, point)) < LARGEST and not any(map(math.isnan, point)):
                        points.append(point)
        except (ValueError, TypeError, KeyError, OverflowError, RecursionError):
            continue
    return TrainingLog(thinned(loss), thinned(validation))


def thinned(points: list[tuple[float, float]], most: int = MOST) -> Points:
    """At most ``most`` points: means of runs of neighbours, in order; the last point stays as it is.

    >>> thinned([(1, 4.0), (2, 2.0), (3, 1.0), (4, 0.0)], most=3)
    ((1.5, 3.0), (3.0, 1.0), (4, 0.0))
    """
    if len(points) <= most:
        return tuple(points)
    body, step = points[:-1], math.ceil((len(points) - 1) / (most - 1))
    runs = [body[start : start + step] for start in range(0, len(body), step)]
    means = [(sum(x for x, _ in run) / len(run), sum(y for _, y in run) / len(run)) for run in runs]
    return (*means, points[-1])


# The same predictions under every protocol: one run's scores on one data set as rows of a table.


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
        "strict": {metric.protocol for metric in pck.strict_metrics(data.scored_as)},
        "paper": {
            metric.protocol for metric in pck.paper_metrics(data.scored_as, result.model, result.size, result.protocol)
        },
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


# A run in words, as every format of the report says it.


def training(result: Result) -> str:
    """What a run was trained on, in order."""
    steps = [f"pre-trained on {result.pretrain}"] if result.pretrain else []
    if result.checkpoint:
        steps.append(f"weights {result.checkpoint}")
    if result.finetune:
        steps.append(f"{'fine-tuned' if steps else 'trained'} on {result.finetune}")
    return ", ".join(steps) or "untrained"


def recipe(result: Result) -> str:
    """The preset, and what departs from it."""
    return ", ".join([result.preset, *result.changes])


def one_line(result: Result) -> str:
    """A run without its scores."""
    return f"{result.model}, {training(result)}, recipe {recipe(result)}, seed {result.seed}, run {result.run}"


def arrow(result: Result) -> str:
    """The direction of the predictions."""
    source, target = ("source", "target") if result.direction == "forward" else ("target", "source")
    return f"{source} \N{RIGHTWARDS ARROW} {target}"


def duration(seconds: float) -> str:
    """Seconds in the two largest units, a dash for none.

    >>> duration(0), duration(42), duration(3725), duration(200_000)
    ('-', '42 s', '1 h 2 min', '55 h 33 min')
    """
    if not seconds:
        return "-"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"


def size(number: int | None) -> str:
    """Bytes as MB or GB, "" for none.

    >>> size(731_000_000), size(11_500_000_000), size(None)
    ('731 MB', '11.5 GB', '')
    """
    if not number:
        return ""
    return f"{number / 1e9:.1f} GB" if number >= 1e9 else f"{number / 1e6:.0f} MB"


# Where a run's figures come from: its command, data, weights, machine and versions.

Facts = tuple[tuple[str, str], ...]
PLAIN = {"precision": "no", "direction": "official"}  # options that are printed where they differ from this
TYPED = ("pretrain", "finetune", "checkpoint", "eval", "include")


def command_of(result: Result, config: Mapping[str, Any]) -> Command:
    """The command that makes a run again, from its result and its ``config.json`` ({} if that is lost).

    Data and weights are named as they were typed; runs from before that was kept, as the result names them.
    """
    typed = {name: value for name, value in (config.get("typed") or {}).items() if name in TYPED}
    trained_on = [_split(stage) for stage in _stages(config)]
    pretrain = trained_on[0] if result.pretrain and trained_on else result.pretrain
    finetune = trained_on[-1] if result.finetune and trained_on else result.finetune
    changed = dict(
        change.removeprefix("--").partition(" ")[::2] for change in result.changes if change.startswith("--")
    )
    settings = dict(change.split("=", 1) for change in result.changes if "=" in change and not change.startswith("--"))
    apart = {name: value for name, plain in PLAIN.items() if (value := str(config.get(name, plain))) != plain}
    options = {
        "pretrain": pretrain,
        "finetune": finetune,
        "checkpoint": result.checkpoint,
        "eval": tuple(dict.fromkeys(data_key(data.name, data.split) for data in result.data)),
        "preset": result.preset if result.preset != "paper" else None,
        **changed,
        "set": settings,
        "seed": result.seed or None,
        **apart,
    }
    return Command("run", (result.model,), {**options, **typed})


def facts(result: Result, folder: Path) -> tuple[str, Facts]:
    """A run's command, and what else must be known of it, as (label, value) lines in reading order."""
    config, environment = (_object(folder / name) for name in ("config.json", "environment.json"))
    versions = environment.get("versions")
    found = [
        ("Run", result.run),
        ("Folder", str(folder)),
        ("Model", f"{result.title} ({result.model}), supervision {result.supervision}"),
        ("Backbone", result.backbone),
        ("Training", training(result)),
        ("Recipe", recipe(result)),
        (
            "Recipe in full",
            ", ".join(f"{key} {json.dumps(value)}" for key, value in sorted(result.recipe.items()) if value != {}),
        ),
        ("Seed", str(result.seed)),
        ("Direction", arrow(result)),
        *((f"Trained on {_split(stage)}", f"manifest {stage.get('manifest_sha256')}") for stage in _stages(config)),
        *((f"Scored on {d.key}", f"{d.counted}, manifest {d.manifest_sha256}") for d in result.data),
        ("Weights", f"sha256 {result.weights_sha256}" if result.weights_sha256 else ""),
        ("Trained for", duration(result.seconds) if result.seconds else ""),
        ("Peak memory", size(result.peak_memory)),
        ("Device", _line(environment, "device", "threads", "processes")),
        ("System", _line(environment, "platform", "python")),
        ("Code", str(environment.get("git") or "")),
        ("Versions", _line(versions) if isinstance(versions, Mapping) else ""),
    ]
    return str(command_of(result, config)), tuple((label, value) for label, value in found if value)


def _object(file: Path) -> Mapping[str, Any]:
    """A JSON object, {} where there is none: a lost file takes its lines along and nothing else."""
    try:
        content = read_json(file)
    except InputError:
        return {}
    return content if isinstance(content, dict) else {}


def _stages(config: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    stages = config.get("stages")
    return [stage for stage in stages if isinstance(stage, dict)] if isinstance(stages, list) else []


def _split(stage: Mapping[str, Any]) -> str:
    name, split = stage.get("dataset"), stage.get("split")
    return f"{name}" if split == "train" else f"{name}:{split}"


def _line(entries: Mapping[str, Any], *keys: str) -> str:
    """``device cpu, threads 1``; versions that are not known are left out."""
    return ", ".join(f"{key} {entries[key]}" for key in keys or entries if entries.get(key) is not None)


# All that is known of one run, gathered from its folder.


@dataclass(frozen=True)
class RunDetails:
    """A run's provenance, training and scores."""

    result: Result
    folder: str
    command: str
    facts: Facts
    protocols: tuple[ProtocolTable, ...]
    training: TrainingLog
    problems: tuple[str, ...]


def details_of(run: FoundRun, problems: Sequence[str], others: Sequence[FoundRun] = ()) -> RunDetails:
    """Gather what is known of a run.

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
    return RunDetails(run.result, str(run.folder), command, lines, tables, log, tuple(problems))
