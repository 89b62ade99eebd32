"""Tensors in one file each that is mapped, not loaded; whole or not at all."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from sc_imagenet.core.files import atomic_path


def mapped(path: Path) -> dict[str, Tensor] | None:
    """The tensors of a file, mapped; None where there is no whole one."""
    if not path.exists():
        return None
    try:
        with safe_open(path, "pt") as file:
            return {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (SafetensorError, OSError):
        return None  # cut short by something else than us: made again


def kept(path: Path, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Keep tensors in a file, and give them as a later process finds them: in the same order in memory.

    Sums depend on that order in their last bits; a class labelled after an interruption must get the same labels.
    """
    tensors = {name: tensor.contiguous() for name, tensor in tensors.items()}
    with atomic_path(path) as temporary:
        save_file(tensors, temporary)
    return mapped(path) or tensors
