"""How much memory a run took."""

from __future__ import annotations

import resource
import sys

import torch


def peak_memory() -> int:
    """The most memory held at once, in bytes: of the GPU where there is one, else of this process."""
    if torch.cuda.is_available():
        return torch.cuda.max_memory_allocated()
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
