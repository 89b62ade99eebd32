"""Pools: no process outlives the one that started it, and none makes it wait when it must end."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from contextlib import closing
from pathlib import Path

import pytest

from sc_imagenet.core.processes import in_order
from tests import PATIENCE

ROOT = Path(__file__).parents[3]
MAIN = """
import signal, sys, time
signal.signal(signal.SIGINT, signal.default_int_handler)  # what a shell starts in the background ignores it
from sc_imagenet.core.processes import in_order
from tests import PATIENCE
from tests.sc_imagenet.core.test_workers import note_and_sleep, begin

for _ in in_order(note_and_sleep, [2.0 * PATIENCE] * 4, 2, begin, (sys.argv[1],)):
    pass
"""

_folder: Path


def begin(folder):
    global _folder
    _folder = Path(folder)


def note_and_sleep(seconds):
    (_folder / str(os.getpid())).touch()
    time.sleep(seconds)
    return seconds


def wait_for(condition):
    end = time.monotonic() + PATIENCE
    while not condition() and time.monotonic() < end:
        time.sleep(0.01)
    return condition()


def is_alive(process: int) -> bool:
    stat = Path(f"/proc/{process}/stat")
    try:
        return stat.read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


@pytest.mark.parametrize(("number", "to_all"), [(signal.SIGKILL, False), (signal.SIGINT, True)])
def test_workers_end_with_a_main_process_that_is_killed_or_interrupted(tmp_path, number, to_all):
    main = subprocess.Popen(
        [sys.executable, "-c", MAIN, str(tmp_path)],
        cwd=ROOT,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    assert wait_for(lambda: len(list(tmp_path.iterdir())) == 2)
    workers = [int(path.name) for path in tmp_path.iterdir()]
    (os.killpg if to_all else os.kill)(main.pid, number)
    _, errors = main.communicate(timeout=PATIENCE)
    assert wait_for(lambda: not any(map(is_alive, workers)))
    assert errors.count("Traceback") == to_all  # the main process's own; no worker prints one


def test_what_is_not_read_to_its_end_is_not_waited_for(tmp_path):
    begun = time.monotonic()
    with closing(in_order(note_and_sleep, [0.0] + [2.0 * PATIENCE] * 3, 2, begin, (str(tmp_path),))) as results:
        assert next(results) == 0.0
    assert time.monotonic() - begun < PATIENCE
    assert not any(is_alive(int(path.name)) for path in tmp_path.iterdir())
