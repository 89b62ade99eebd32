"""What has to be known of a model's published checkpoints to load them."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor

import baselines.checkpoints
from sc_imagenet.backbones.weight_files import State


@dataclass(frozen=True)
class Published:
    """How the authors' files differ from ours.

    marker       a key that starts so, or in one of these ways, tells the authors' file from ours
    convert      the authors' state -> ours, keys and layouts; raises InputError
    arguments    constructor arguments read off the shapes of the converted weights; raises InputError
    optional     beginnings or ends of our keys that a file may lack: weights that nothing reads
    backbone     whether the file holds the backbone; if not, the backbone's own weights are taken
    settings     constructor arguments that no file tells of, though results depend on them; a recipe sets them
    """

    marker: str | tuple[str, ...]
    convert: Callable[[State], State]
    arguments: Callable[[Mapping[str, Tensor]], dict[str, Any]]
    optional: tuple[str, ...] = (".num_batches_tracked", "backbone.net.fc.")
    backbone: bool = True
    settings: tuple[str, ...] = ()


def published(model: str) -> Published | None:
    """What is known of a model's published files: ``PUBLISHED`` of ``baselines/checkpoints/<model>.py``.

    >>> published("nearest") is None
    True
    """
    module = model.replace("-", "_")
    if module not in {found.name for found in pkgutil.iter_modules(baselines.checkpoints.__path__)}:
        return None
    return importlib.import_module(f"baselines.checkpoints.{module}").PUBLISHED
