"""What has to be known of a model's published checkpoints to load them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor


@dataclass(frozen=True)
class Published:
    """How the authors' files differ from ours.

    marker       a key that starts so tells the authors' file from ours
    rename       the authors' key -> ours
    arguments    constructor arguments read off the shapes of the (renamed) weights; raises InputError
    optional     beginnings or ends of our keys that a file may lack: weights that nothing reads
    """

    marker: str
    rename: Callable[[str], str]
    arguments: Callable[[Mapping[str, Tensor]], dict[str, Any]]
    optional: tuple[str, ...] = (".num_batches_tracked", "backbone.net.fc.")
