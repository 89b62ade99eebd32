"""How commands end where a signal or a dying pool meets them at an odd moment."""

from __future__ import annotations

import io
import json
import math
import os
import subprocess
import sys
from pathlib import Path

import pytest

from sc_imagenet.core.progress import print_json
from tests import PATIENCE
from tests.benchmark.runs import make_run

ROOT = Path(__file__).parents[3]


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
    done = run(f"import sc_imagenet.core.late_starts; raise {error}('odd')")
    assert done.returncode == 1
    assert ("odd" in done.stderr) is said


LOCALES = {
    "ascii": {"PYTHONIOENCODING": "ascii"},
    "C": {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"},
    "latin-1": {"PYTHONIOENCODING": "latin-1"},
}


@pytest.mark.parametrize("locale", LOCALES.values(), ids=LOCALES)
def test_what_a_terminal_cannot_show_ends_no_command(tmp_path, locale):
    make_run(tmp_path / "runs", "one", categories=("caf\u00e9", "\u732b"))
    code = "from benchmark.cli import main; import sys; sys.argv = ['scbench', *sys.argv[1:]]; main()"
    environment = {**{key: value for key, value in os.environ.items() if key != "LC_ALL"}, **locale}
    for words in (
        ["report", "--runs", "runs", "--out", "report"],
        ["report", "--runs", "runs", "--json"],
        ["score", "runs/cats/one", "--per-category", "--protocol", "strict"],
        ["score", "runs/cats/one", "--per-category", "--json"],
        ["--help"],
    ):
        done = subprocess.run(
            [sys.executable, "-c", code, *words],
            cwd=tmp_path,
            env={**environment, "PYTHONPATH": str(ROOT)},
            capture_output=True,
            timeout=200,
        )
        assert done.returncode == 0, done.stderr.decode(errors="replace")
        assert b"Traceback" not in done.stderr
        if "--json" in words:
            assert "\u732b" in str(json.loads(done.stdout.decode("ascii" if "latin" not in str(locale) else "latin-1")))


def test_json_has_null_for_what_is_no_number(monkeypatch):
    for encoding, sign in (("utf-8", "\u00e9"), ("ascii", "\\u00e9"), ("latin-1", "\\u00e9")):
        out = io.TextIOWrapper(io.BytesIO(), encoding=encoding)
        monkeypatch.setattr(sys, "stdout", out)
        print_json({"a": [math.nan, (1.5, math.inf)], "b": {"\u00e9": -math.inf}})
        out.seek(0)
        text = out.read()
        assert json.loads(text, parse_constant=pytest.fail) == {"a": [None, [1.5, None]], "b": {"\u00e9": None}}
        assert sign in text
