"""How much memory a run took, and keeping what it freed."""

from __future__ import annotations

import ctypes
import resource
import sys

import torch


def peak_memory() -> int:
    """The most memory held at once, in bytes: of the GPU where there is one, else of this process."""
    if torch.cuda.is_available():
        return torch.cuda.max_memory_allocated()
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def keep_freed_memory() -> None:
    """Ask glibc to keep freed blocks for the next tensors instead of giving them back page by page.

    A training on the CPU otherwise spends a tenth of its time and more in page faults. Elsewhere: nothing.
    """
    trim_threshold, mmap_threshold = -1, -3  # mallopt's names for them
    if sys.platform == "linux" and hasattr(libc := ctypes.CDLL(None), "mallopt"):
        libc.mallopt(mmap_threshold, 32 * 2**20)  # the most it takes
        libc.mallopt(trim_threshold, 2**31 - 1)
