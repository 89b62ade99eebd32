"""Counts pages of memory that the system had to clear: none for a buffer that the process has kept."""

from __future__ import annotations

import os
import platform
import resource
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
BUFFER = 48_000_000  # bytes: glibc by itself keeps none of more than 32 MB
TIMES = 10
ALL = TIMES * BUFFER // resource.getpagesize()
FEW = ALL // 4  # a buffer or two may be cleared before one fits for good
COUNT = "from tests.sc_imagenet.cleared_pages import cleared_pages; print(cleared_pages())"

with_glibc = pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="another C library")


def cleared_pages(*_: object) -> int:
    """Pages cleared for a buffer that is filled and freed ``TIMES`` times."""
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(TIMES):
        b"x" * BUFFER
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before


def cleared_pages_of(code: str, **variables: str) -> int:
    """The number that ``code`` prints last in a new process whose user sets these variables."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("MALLOC_", "GLIBC_TUNABLES"))}
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, env=kept | variables, capture_output=True, text=True, check=True
    )
    return int(done.stdout.splitlines()[-1])
