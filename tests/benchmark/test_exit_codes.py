"""How commands end where a signal or a dying pool meets them at an odd moment."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests import PATIENCE

ROOT = Path(__file__).parents[2]


def run(code: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=PATIENCE)


@pytest.mark.parametrize("number", ["SIGTERM", "SIGINT"])
def test_a_signal_after_the_work_is_done_changes_nothing(number):
    done = run(
        "import atexit, os, signal, sys;"
        f"atexit.register(lambda: os.kill(os.getpid(), signal.{number}));"  # runs after what main() registers
        "sys.argv = ['scbench', '--help'];"
        "from benchmark.cli import main; main()"
    )
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize(("error", "said"), [("FileNotFoundError", False), ("ValueError", True)])
def test_a_worker_that_starts_too_late_says_nothing(error, said):
    done = run(f"import sc_imagenet.late_starts; raise {error}('odd')")
    assert done.returncode == 1
    assert ("odd" in done.stderr) is said
