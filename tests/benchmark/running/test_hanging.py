"""A file that does not answer is named, and waited for; the process that waits still obeys SIGTERM."""

from __future__ import annotations

import fcntl
import os
import signal
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from sc_imagenet.core import locks
from sc_imagenet.core.locks import unwatched, watched
from tests.benchmark.running.test_running import finish, scbench
from tests.sc_imagenet.made_data import image, spair

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="file leases are Linux's")

IMPATIENT = "import sc_imagenet.core.locks as s; s.PATIENCE = 0.5; from benchmark.cli import main; main()"
TRAIN = "run cats --preset tiny --set recipe.batch=2 --finetune spair-71k --data-root data --runs runs --max-steps 2"
GENERATE = "generate run photographs --out made --size 96 --least-single 0"
CASES = {
    "training": TRAIN,
    "training with workers": f"{TRAIN} --workers 2",
    "generating": GENERATE,
}


@contextmanager
def hanging(path: Path) -> Iterator[None]:
    """A lease on a file makes the kernel hold up whoever opens it, as a network folder that is gone does."""
    before = signal.signal(signal.SIGIO, signal.SIG_IGN)  # sent to the holder when somebody opens the file
    handle = os.open(path, os.O_RDWR)
    try:
        fcntl.fcntl(handle, fcntl.F_SETLEASE, fcntl.F_WRLCK)
        yield
    finally:
        os.close(handle)
        signal.signal(signal.SIGIO, before)


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """Pairs that were converted before, and photographs."""
    root = tmp_path_factory.mktemp("hanging")
    spair(root / "data")
    for name in ("cup", "teapot"):
        for number in range(10):
            image(root / "photographs" / name / f"{number}.png", (60 + number, 50))
    code, _, err = finish(scbench(*["data", "convert", "spair-71k", "--data-root", "data"], folder=root))
    assert code == 0, err
    return root


def test_only_waiting_counts_not_what_is_made_of_what_was_read():
    """A thread that renders or decodes uses the processor: its file answers."""
    thread = threading.get_ident()
    clock = time.pthread_getcpuclockid(thread)
    reading = locks.Reading(Path("rendered"), 0.0, clock, 0.0, time.thread_time())
    start = time.thread_time()
    while time.thread_time() < start + 0.05:
        pass
    reading.look(1.0)
    assert reading.since == 1.0
    reading.look(1000.0)
    assert reading.since == 1.0


def test_a_wait_for_another_process_is_no_wait_for_a_file():
    thread = threading.get_ident()
    with watched("outer"):
        with watched("inner"):
            assert locks._reading[thread].path == Path("inner")
        with unwatched():
            assert thread not in locks._reading
        assert locks._reading[thread].path == Path("outer")
    assert thread not in locks._reading


@pytest.mark.parametrize("words", CASES.values(), ids=CASES)
def test_a_hanging_file_is_named_and_sigterm_obeyed(folder, words):
    let_go = int(Path("/proc/sys/fs/lease-break-time").read_text())  # seconds after which the kernel opens the file
    file = next((folder / ("photographs/cup" if "generate" in words else "data")).rglob("*.[jp][pn]g"))
    with hanging(file):
        process = scbench(*words.split(), prefix=("-c", IMPATIENT), folder=folder)
        assert process.stderr is not None
        lines: list[str] = []
        while "no answer" not in (lines or [""])[-1] and (line := process.stderr.readline()):
            lines.append(line)
        assert f"{file.relative_to(folder)}: no answer for " in lines[-1].replace(f"{folder}/", ""), lines
        asked = time.monotonic()
        process.send_signal(signal.SIGTERM)
        code, _, err = finish(process)
        assert time.monotonic() - asked < let_go
    assert code == 143, err
    assert "Traceback" not in err
    assert err.splitlines()[-1].startswith("ended by SIGTERM; what was finished is kept")
    assert not list(folder.rglob("*.tmp"))
