"""Nothing phones home: commands that were not asked to download run with every socket closed to them."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from tests.benchmark.runs import make_run
from tests.sc_imagenet import made_data

ROOT = Path(__file__).parents[2]

# Any look-up of a name and any connection beyond this machine is an error that is written down.
GUARD = """
import socket, sys
def noted(what):
    def call(*args, **kwargs):
        open(sys.argv[1], "a").write(f"{what} {args[1:] if what == 'connect' else args}\\n")
        raise OSError("no network")
    return call
socket.getaddrinfo = noted("getaddrinfo")
socket.create_connection = noted("create_connection")
class Guarded(socket.socket):
    def connect(self, address):
        if self.family == socket.AF_UNIX:
            return super().connect(address)
        return noted("connect")(self, address)
    connect_ex = connect
socket.socket = Guarded
calls = eval(sys.argv[2])
import benchmark.cli as cli
for words in calls:
    sys.argv = ["scbench", *words]
    try:
        cli.app(standalone_mode=False)
    except SystemExit as end:
        assert end.code in (0, None), (words, end.code)
"""


def test_commands_ask_no_server(tmp_path):
    make_run(tmp_path / "runs", "r", data=[("toy", "test", 6)], draws=5)
    predictions = str(tmp_path / "runs" / "cats" / "r")
    made_data.willow_csv(tmp_path / "data" / "pf-willow")
    for name in "ab":
        made_data.image(tmp_path / f"{name}.png", (80, 60))
    root = str(tmp_path / "data")
    calls = [
        ["data", "list", "--data-root", root],
        ["data", "info", "spair-71k"],
        ["data", "convert", "pf-willow:test", "--data-root", root],
        ["data", "verify", "pf-willow:test", "--data-root", root],
        ["score", predictions, "--draws", "5"],
        ["compare", predictions, predictions, "--draws", "5"],
        ["report", "--runs", str(tmp_path / "runs"), "--out", str(tmp_path / "report")],
        ["run", "--table", "2", "--dry-run"],
        ["match", str(tmp_path / "a.png"), str(tmp_path / "b.png"), "--grid", "2"],
    ]
    asked = tmp_path / "asked"
    asked.touch()
    # Nothing that switches a library's own habits off: what is promised holds as a person starts it.
    done = subprocess.run(
        [sys.executable, "-c", GUARD, str(asked), repr(calls)],
        cwd=tmp_path,
        env={
            "PYTHONPATH": str(ROOT),
            "PATH": "/usr/bin:/bin",
            "HOME": str(tmp_path),
            "SC_CACHE": str(tmp_path / "cache"),
        },
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert asked.read_text() == ""
