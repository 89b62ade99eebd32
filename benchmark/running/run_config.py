"""What a run is: the resolved configuration whose hash names its folder."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

from baselines.recipe import Recipe


@dataclass(frozen=True)
class Stage:
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
    stages: tuple[Stage, ...] = ()  # pre-training first, then fine-tuning
    preset: str = "paper"
    checkpoint_sha256: str | None = None
    seed: int = 0
    precision: str = "no"
    direction: str = "official"
    limit: int | None = None
    max_steps: int | None = None
    version: int = 1
    files_sha256: str | None = None  # of files that the arguments name, and of the configuration beside the checkpoint

    def as_json(self) -> dict[str, Any]:
        """The configuration as plain JSON values; without ``files_sha256`` where there are none, as it once was."""
        values = asdict(self)
        if self.files_sha256 is None:
            del values["files_sha256"]
        return json.loads(json.dumps(values))

    @property
    def id(self) -> str:
        """The first twelve hexadecimal digits of the SHA-256 of the configuration.

        >>> len(RunConfig(model="nearest", arguments={}).id)
        12
        """
        text = json.dumps(self.as_json(), sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:12]

    @property
    def training(self) -> RunConfig:
        """The run that this one's weights are trained in: what concerns evaluation only is reset."""
        return replace(self, direction="official")

    @property
    def before(self) -> RunConfig:
        """The run whose weights this one starts from: the same without its last stage."""
        return replace(self.training, stages=self.stages[:-1])
