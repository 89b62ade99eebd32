"""How much memory a run took."""

from __future__ import annotations

import resource
import sys

import torch


def peak_memory() -> int:
    """The most memory held at once, in bytes: of the GPU where there is one, else of this process."""
    return torch.cuda.max_memory_allocated() if torch.cuda.is_available() else process_memory()


def process_memory() -> int:
    """The most memory that this process held at once, in bytes."""
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
