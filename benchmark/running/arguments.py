"""What a person asks of a command, and the configuration that comes of it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from accelerate import Accelerator, DistributedDataParallelKwargs

from baselines.recipe import Recipe
from benchmark.running.data import NamedPairs
from benchmark.running.features import LIMIT
from sc_imagenet.core.errors import InputError

# What a person asks of ``scbench run``, and what of it departs from a recipe.


@dataclass(frozen=True)
class RunOptions:
    """What a person asked for, as typed; the fields are the options of ``scbench run``."""

    model: str
    pretrain: str | None = None
    finetune: str | None = None
    evaluate: tuple[str, ...] = ()
    backbone: str | None = None
    checkpoint: str | None = None  # as ``baselines.checkpoints.weights_file`` takes it
    preset: str = "paper"
    settings: Mapping[str, str] = field(default_factory=dict)
    limit: int | None = None
    max_steps: int | None = None
    seed: int = 0
    data_root: Path | None = None
    runs: Path = Path("runs")
    precision: str = "no"
    direction: str = "official"
    workers: int = 0
    tracker: str | None = None
    features: str = "memory"  # of ``benchmark.running.features.MODES``
    features_limit: int = LIMIT  # MB of them in memory

    def typed(self, stages: int) -> dict[str, Any]:
        """How data and weights were named, by option, for the run that ends with the first so many trainings."""
        trained = [name for name in ("pretrain", "finetune") if getattr(self, name)]
        named = {name: getattr(self, name) for name in (*trained[:stages], "checkpoint") if getattr(self, name)}
        return {**named, "eval": list(self.evaluate) if stages == len(trained) else []}


def make_accelerator(options: RunOptions) -> Accelerator:
    """The processes, device and precision of this run; ``accelerate launch`` decides how many processes."""
    # The whole published backbones are kept, layers that nobody reads too: they get no gradient.
    unused = DistributedDataParallelKwargs(find_unused_parameters=True)
    try:
        return Accelerator(
            mixed_precision=options.precision,
            log_with=options.tracker,
            project_dir=options.runs / "trackers",
            kwargs_handlers=[unused],
        )
    except (ValueError, ImportError) as error:
        raise InputError(f"this machine cannot run with these options: {error}") from error


def changes_of(options: RunOptions, trained_on: Sequence[NamedPairs]) -> tuple[str, ...]:
    """What departs from the preset and from training on whole training splits, as it is typed."""
    numbers = (("--limit", options.limit), ("--max-steps", options.max_steps), ("--backbone", options.backbone))
    return (
        *(f"{name} {value}" for name, value in numbers if value is not None),
        *(f"{key}={value}" for key, value in options.settings.items()),
        *(f"trained on {pairs}" for pairs in trained_on if pairs.split != "train"),
        *(f"trained on {pairs.shortfall}" for pairs in trained_on if pairs.shortfall),
    )


# What a run is: the resolved configuration whose hash names its folder.


@dataclass(frozen=True)
class RunStage:
    """One training: on which pairs, by which recipe; its ``model`` holds only what this training alone reads."""

    dataset: str
    split: str
    validation: str | None  # split of the same data set that chooses the best weights
    manifest_sha256: str
    recipe: Recipe


@dataclass(frozen=True)
class RunConfig:
    """Everything that decides a run's weights and predictions; what is evaluated is not part of it."""

    model: str
    arguments: Mapping[str, Any]  # of the model's constructor, without those that only a training reads
    stages: tuple[RunStage, ...] = ()  # pre-training first, then fine-tuning
    preset: str = "paper"
    checkpoint_sha256: str | None = None
    seed: int = 0
    precision: str = "no"
    direction: str = "official"
    limit: int | None = None
    max_steps: int | None = None
    version: int = 1
    files_sha256: str | None = None  # of files that the arguments name, and of the configuration beside the checkpoint
    files: Mapping[str, str] = field(default_factory=dict)  # SHA-256 by name of others' files: model, training data

    def as_json(self) -> dict[str, Any]:
        """The configuration as plain JSON values; without what it has of no files, as it once was."""
        values = asdict(self)
        if self.files_sha256 is None:
            del values["files_sha256"]
        if not self.files:
            del values["files"]
        return json.loads(json.dumps(values))

    @property
    def id(self) -> str:
        """The first twelve hexadecimal digits of the SHA-256 of the configuration.

        >>> len(RunConfig(model="nearest", arguments={}).id)
        12
        """
        text = json.dumps(identity(self.as_json()), sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:12]

    @property
    def training(self) -> RunConfig:
        """The run that this one's weights are trained in: what concerns evaluation only is reset."""
        return replace(self, direction="official")

    @property
    def before(self) -> RunConfig:
        """The run whose weights this one starts from: the same without its last stage."""
        return replace(self.training, stages=self.stages[:-1])


def identity(config: Mapping[str, Any]) -> dict[str, Any]:
    """What of a configuration in JSON names its folder: in the words of the first release wherever these can say it.

    Those had what only a training reads among the model's ``arguments``, one for all stages, and nothing of how the
    best weights are chosen; so the folders of that time are found and taken up again.
    """
    stages = [dict(stage) for stage in config["stages"]]
    recipes = [{**stage["recipe"]} for stage in stages]
    arguments = dict(config["arguments"])
    for stage, recipe in zip(stages, recipes):
        stage["recipe"] = recipe
        if recipe.get("validation") == "strict":
            del recipe["validation"]
    if all(recipe["model"] == recipes[-1]["model"] for recipe in recipes):
        for recipe in recipes:
            arguments |= recipe["model"]
            recipe["model"] = {}
    return {**config, "arguments": arguments, "stages": stages}
