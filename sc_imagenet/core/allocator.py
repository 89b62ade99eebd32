"""Freed memory stays with the process, so that the next operation does not fetch it from the system again.

glibc gives buffers of 128 kB to 32 MB and more back as soon as they are freed; the next operation of a network asks
for the same, and the system clears every page anew. That was half of the CPU time of an evaluation. Commands and the
processes that they start keep such memory; a program that merely imports this package keeps its own allocator.
"""

from __future__ import annotations

import ctypes
import os
import sys

TRIM_THRESHOLD, MMAP_THRESHOLD, MMAP_MAX = -1, -3, -4  # parameters of mallopt(3)
KEPT = 64 << 20  # bytes; a larger buffer goes back when it is freed: keeping those too costs a quarter more memory
UNUSED = 512 << 20  # bytes at the end of the heap beyond which it shrinks
OWN_VARIABLES = ("MALLOC_MMAP_THRESHOLD_", "MALLOC_MMAP_MAX_", "MALLOC_TRIM_THRESHOLD_", "MALLOC_TOP_PAD_")
OWN_TUNABLES = tuple(f"glibc.malloc.{name}" for name in ("mmap_threshold", "mmap_max", "trim_threshold", "top_pad"))


def keep_freed_memory() -> bool:
    """Set glibc's thresholds for this process and its forks; whether that was done.

    Nothing is done with another C library, or where the user's environment sets any of these thresholds: the variables
    of mallopt(3), or ``GLIBC_TUNABLES``.
    """
    if sys.platform != "linux" or set_by_user():
        return False
    library = ctypes.CDLL(None)
    if not hasattr(library, "gnu_get_libc_version"):
        return False
    if not library.mallopt(MMAP_THRESHOLD, KEPT):  # glibc before 2.35 takes at most 32 MB; it can keep all
        library.mallopt(MMAP_MAX, 0)
    library.mallopt(TRIM_THRESHOLD, UNUSED)
    return True


def set_by_user() -> bool:
    """Whether the environment sets what ``keep_freed_memory`` would set."""
    tunables = os.environ.get("GLIBC_TUNABLES", "")
    return any(name in os.environ for name in OWN_VARIABLES) or any(name in tunables for name in OWN_TUNABLES)
