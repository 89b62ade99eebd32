"""Where a run's figures come from: its command, data, weights, machine and versions."""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from benchmark.report import run_text
from benchmark.scoring.result import Result, data_key
from sc_imagenet.core.errors import InputError
from sc_imagenet.core.files import read_json

Facts = tuple[tuple[str, str], ...]


def command_of(result: Result, config: Mapping[str, Any]) -> str:
    """The command that makes a run again, from its result and its ``config.json`` ({} if that is lost)."""
    trained_on = [_split(stage) for stage in _stages(config)]
    pretrain = trained_on[0] if result.pretrain and trained_on else result.pretrain
    finetune = trained_on[-1] if result.finetune and trained_on else result.finetune
    words = ["scbench", "run", result.model]
    for option, value in (("--pretrain", pretrain), ("--finetune", finetune), ("--checkpoint", result.checkpoint)):
        words += [option, value] if value else []
    evaluated = dict.fromkeys(data_key(data.name, data.split) for data in result.data)
    words += ["--eval", ",".join(evaluated)] if evaluated else []
    words += ["--preset", result.preset] if result.preset != "paper" else []
    for change in result.changes:
        if change.startswith("--"):
            words += change.split(" ", 1)
        elif "=" in change:
            words += ["--set", change]
    words += ["--seed", str(result.seed)] if result.seed else []
    for option, plain in (("precision", "no"), ("direction", "official")):
        value = str(config.get(option, plain))
        words += [f"--{option}", value] if value != plain else []
    return shlex.join(words)


def facts(result: Result, folder: Path) -> tuple[str, Facts]:
    """A run's command, and what else must be known of it, as (label, value) lines in reading order."""
    config, environment = (_object(folder / name) for name in ("config.json", "environment.json"))
    versions = environment.get("versions")
    found = [
        ("Run", result.run),
        ("Folder", str(folder)),
        ("Model", f"{result.title} ({result.model}), supervision {result.supervision}"),
        ("Backbone", result.backbone),
        ("Training", run_text.training(result)),
        ("Recipe", run_text.recipe(result)),
        (
            "Recipe in full",
            ", ".join(f"{key} {json.dumps(value)}" for key, value in sorted(result.recipe.items()) if value != {}),
        ),
        ("Seed", str(result.seed)),
        ("Direction", run_text.arrow(result)),
        *((f"Trained on {_split(stage)}", f"manifest {stage.get('manifest_sha256')}") for stage in _stages(config)),
        *((f"Scored on {d.key}", f"{d.counted}, manifest {d.manifest_sha256}") for d in result.data),
        ("Weights", f"sha256 {result.weights_sha256}" if result.weights_sha256 else ""),
        ("Trained for", run_text.duration(result.seconds) if result.seconds else ""),
        ("Peak memory", run_text.size(result.peak_memory)),
        ("Device", _line(environment, "device", "threads", "processes")),
        ("System", _line(environment, "platform", "python")),
        ("Code", str(environment.get("git") or "")),
        ("Versions", _line(versions) if isinstance(versions, Mapping) else ""),
    ]
    return command_of(result, config), tuple((label, value) for label, value in found if value)


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
