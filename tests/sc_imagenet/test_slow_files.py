"""A file that does not answer is named, and waited for."""

from __future__ import annotations

import fcntl
import os
import signal
import sys
import threading

import pytest
from PIL import Image

from sc_imagenet import slow_files
from sc_imagenet.images import open_image

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="file leases are Linux's")


def test_an_image_on_a_hanging_disk_is_named(tmp_path, monkeypatch, capfd):
    """A lease on a file makes the kernel hold up whoever opens it, as a network folder that is gone does."""
    monkeypatch.setattr(slow_files, "PATIENCE", 0.2)
    monkeypatch.setattr(slow_files, "_watcher", 0)  # one that is already running sleeps for longer
    path = tmp_path / "slow.png"
    Image.new("RGB", (4, 3), "red").save(path)
    before = signal.signal(signal.SIGIO, signal.SIG_IGN)  # sent to the holder when somebody opens the file
    handle = os.open(path, os.O_RDWR)
    try:
        fcntl.fcntl(handle, fcntl.F_SETLEASE, fcntl.F_WRLCK)
        free = threading.Timer(1.0, fcntl.fcntl, (handle, fcntl.F_SETLEASE, fcntl.F_UNLCK))
        free.start()
        assert open_image(path).size == (4, 3)
        free.join()
    finally:
        os.close(handle)
        signal.signal(signal.SIGIO, before)
    said = capfd.readouterr().err
    assert said.count("\n") == 1
    assert said.startswith(f"{path}: no answer for ")
