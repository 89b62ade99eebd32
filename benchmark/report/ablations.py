"""``scbench ablate``: the cascade trained with one thing changed at a time, each measured by ``scbench run``."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from benchmark.report.ablation_table import CASES, NEAREST, Case, case_called
from benchmark.running.arguments import RunOptions, make_accelerator
from benchmark.running.cascade import FEWEST_OF_A_PAIR, train, training_content
from benchmark.running.data import NamedPairs
from benchmark.running.run import Run
from sc_imagenet.core.errors import InputError, unknown_name
from sc_imagenet.core.files import read_json, write_json
from sc_imagenet.core.progress import bars, say
from sc_imagenet.generation.cascade.options import TrainingOptions
from sc_imagenet.generation.cascade.view_sources import one_at_a_time
from sc_imagenet.generation.options import key_of
from sc_imagenet.generation.photographs import scan_kept
from sc_imagenet.generation.pipeline import LocalEngine

# Running the ablations: trainings of the cascade with one thing changed, each measured by ``scbench run``.
#
# <out>/settings.json               what all cases share; another setting is refused
# <out>/features/                   of views of the photographs, read once for all cases of one resolution
# <out>/trainings/<hash>/           a training; cases that differ in what is read alone share it
# <out>/measured/<case>-<seed>.json   PCK; a case that has one is finished
# <out>/runs/                       predictions and results of the measurements


@dataclass(frozen=True)
class Setting:
    """What all cases share.

    photographs  ``<folder>/<class>/<image>``, to train on
    out          see above
    options      of the full model's training, as ``TrainingOptions.from_dict`` takes them
    max_steps    of each training; None: its epochs
    evaluate     the data set to measure on
    data_root    that holds it; None: $SC_DATA_ROOT
    limit        measure on so many pairs of it; None: all
    workers      processes that train beside one another
    """

    photographs: Path
    out: Path
    options: Mapping[str, Any]
    max_steps: int | None = None
    evaluate: str = "pf-willow"
    data_root: Path | None = None
    limit: int | None = None
    workers: int = 1

    def measured(self, case: Case, seed: int) -> Path:
        """The file of a case's PCK."""
        return self.out / "measured" / f"{case.name}-{seed}.json"


@dataclass(frozen=True)
class TrainingTask:
    """The cases of one training: the task of a worker."""

    setting: Setting
    values: Mapping[str, Any]  # options of the training
    cases: tuple[str, ...]

    def __str__(self) -> str:
        return f"{', '.join(self.cases)} (seed {self.values['seed']})"


def run_ablations(setting: Setting, seeds: Sequence[int], only: Sequence[str] = ()) -> None:
    """Train and measure what is missing; finished cases are skipped.

    Args:
        setting: what all cases share.
        seeds: of the trainings; an untrained case is measured for the first alone.
        only: names of cases; none: all.

    Raises:
        InputError: no case is called so, photographs or data are not here, ``out`` holds ablations of another
            setting, or a case failed; the others are finished and kept.
    """
    names = [case.name for case in CASES]
    for name in only:
        if name not in names:
            raise unknown_name("case", name, names)
    if not setting.photographs.is_dir():
        raise InputError(
            "no such folder of photographs", where=setting.photographs, fix="Give <folder>/<class>/<image>."
        )
    # What is not here is said before any training.
    manifest = NamedPairs.parse(setting.evaluate, "test", setting.data_root).record().manifest_sha256
    _claim(setting, manifest)
    tasks = _tasks(setting, [case for case in CASES if not only or case.name in only], seeds)
    say(f"{sum(len(task.cases) for task in tasks)} cases to measure, {len(tasks)} trainings")
    failed = []
    for number, (task, result) in enumerate(LocalEngine(setting.workers).run(measure, tasks), start=1):
        if isinstance(result, InputError):
            failed.append(f"{task}: {result}")
        say(f"{number} of {len(tasks)}: {task}" + (" failed" if isinstance(result, InputError) else ""))
    if failed:
        more = f" (and {len(failed) - 1} more)" if len(failed) > 1 else ""
        raise InputError(f"{failed[0]}{more}", fix="The other cases are finished and kept; run again.")


def measure(task: TrainingTask) -> bytes:
    """Train once, measure every case of it, keep each one's PCK; nothing is returned.

    Raises:
        InputError: photographs, options or data that cannot be used.
    """
    if task.setting.workers > 1:
        torch.set_num_threads(max(1, (os.cpu_count() or 1) // task.setting.workers))
    for name in task.cases:
        case = case_called(name)
        content = {"case": name, "seed": task.values["seed"], **_measure(case, task)}
        write_json(task.setting.measured(case, task.values["seed"]), content)
    return b""


def options_of(case: Case, base: Mapping[str, Any], seed: int) -> dict[str, Any]:
    """A case's options of its training: the full model's with its changes, those of the network one by one.

    >>> options_of(case_called("half-size"), {"size": 320, "network": {"fold": 2}}, 1)
    {'size': 160, 'network': {'fold': 2}, 'seed': 1}
    """
    full = TrainingOptions.from_dict(base).size
    network = {**base.get("network", {}), **case.changes.get("network", {})}
    sized = {} if case.size == 1 else {"size": round(full * case.size)}
    return {**base, **case.changes, **sized, **({"network": network} if network else {}), "seed": seed}


def _claim(setting: Setting, manifest: str) -> None:
    given = TrainingOptions.from_dict(setting.options)
    options = given.as_dict()
    del options["seed"]
    features = setting.out / "features"
    with one_at_a_time(features / "scan.lock"), bars() as update:
        found, _ = scan_kept(
            setting.photographs,
            features / "seen.jsonl",
            fewest=FEWEST_OF_A_PAIR,
            report=lambda done, total: update("photographs", done, total),
        )
    wanted = {
        "evaluate": setting.evaluate,
        "evaluated": manifest,
        "trained on": training_content(given, found),
        "limit": setting.limit,
        "max_steps": setting.max_steps,
        "options": json.loads(json.dumps(options)),
    }
    path = setting.out / "settings.json"
    before = read_json(path) if path.exists() else {}
    if other := [name for name, value in before.items() if wanted.get(name) != value]:
        raise InputError(
            f"holds ablations with other settings ({', '.join(other)})", where=setting.out, fix="Give another --out."
        )
    write_json(path, wanted)


def _tasks(setting: Setting, cases: Sequence[Case], seeds: Sequence[int]) -> list[TrainingTask]:
    """What is missing, by training: a seed of all cases before the next."""
    groups: dict[str, TrainingTask] = {}
    for place, seed in enumerate(seeds):
        for case in cases:
            if setting.measured(case, seed).exists() or (place and not case.trained):
                continue
            values = options_of(case, setting.options, seed)
            key = key_of([values, case.trained])
            before = groups.get(key)
            groups[key] = TrainingTask(setting, values, (*(before.cases if before else ()), case.name))
    return list(groups.values())


def _measure(case: Case, task: TrainingTask) -> dict[str, Any]:
    setting, values = task.setting, task.values
    run = RunOptions(
        model="cascade",
        evaluate=(setting.evaluate,),
        data_root=setting.data_root,
        runs=setting.out / "runs" / case.name,
        limit=setting.limit,
        settings={} if case.trained else _untrained(values),
        checkpoint=str(_read_as(_train(task), case)) if case.trained else None,
    )
    result = Run(run, make_accelerator(run)).execute()
    (metrics,) = result.metrics.values()
    pairs = result.data[0].pairs
    return {"run": result.run, "pairs": pairs, "metrics": {name: score["value"] for name, score in metrics.items()}}


def _train(task: TrainingTask) -> Path:
    setting, options = task.setting, TrainingOptions.from_dict(task.values)
    out = setting.out / "trainings" / key_of(dict(task.values))
    with bars(quiet=setting.workers > 1) as update:
        return train(
            options,
            setting.photographs,
            out,
            features=setting.out / "features",
            max_steps=setting.max_steps,
            report=update,
        )


def _untrained(values: Mapping[str, Any]) -> dict[str, str]:
    """Settings of ``scbench run`` that build the network as a training with these options would."""
    options = TrainingOptions.from_dict(values)
    model = {
        "size": options.size,
        "backbone": options.backbone,
        "layers": options.layers,
        "pooling": options.pooling,
        "standardise": options.standardise,
        "pretrained": options.pretrained,
        "network": dict(values.get("network", {})),
    }
    return {f"recipe.model.{name}": json.dumps(value) for name, value in model.items()}


def _read_as(folder: Path, case: Case) -> Path:
    """The trained network, or with another read-out: a folder beside it, the weights linked."""
    if not case.nearest:
        return folder
    changed = folder.parent / f"model-{case.name}"
    config = read_json(folder / "config.json")
    config["network"] = {**config["network"], **NEAREST}
    write_json(changed / "config.json", config)
    weights = changed / "model.safetensors"
    if not weights.exists():
        weights.unlink(missing_ok=True)  # a link to where the folder lay before it was moved
        weights.symlink_to(Path("..") / folder.name / "model.safetensors")
    return changed
