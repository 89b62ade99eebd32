"""Feeding a parser spoilt inputs in a process of its own, watched for time and memory.

Input ``number`` of a parser is the same in every campaign: it is drawn from the parser's name and the number.
"""

from __future__ import annotations

import contextlib
import faulthandler
import io
import json
import os
import resource
import signal
import subprocess
import sys
import tempfile
import time
import traceback
from dataclasses import asdict, dataclass, field
from pathlib import Path
from random import Random
from typing import Any

from sc_imagenet.core.errors import InputError
from tests.fuzz.parser import Parser
from tests.fuzz.parsers import in_room

SECONDS = 5.0  # most that an input may take, of the processor's time: the machine may be busy with other things
MEGABYTES = 2048  # most memory of the process that reads it, libraries included
ROOT = Path(__file__).parents[2]
INVALID_SEED = 3  # exit code
EXAMPLES = 25  # crashes told in full, of one parser


class TooSlow(BaseException):
    """An input took longer than ``SECONDS``; no handler for all exceptions may swallow it."""


@dataclass
class Tally:
    """What became of a parser's inputs."""

    parser: str
    inputs: int = 0
    accepted: int = 0
    refused: int = 0
    crashes: int = 0
    slowest_ms: float = 0.0
    peak_mb: int = 0
    seconds: float = 0.0
    found: list[dict[str, Any]] = field(default_factory=list)

    def line(self) -> str:
        """One JSON object, without the crashes themselves."""
        shown = {key: value for key, value in asdict(self).items() if key != "found"}
        return json.dumps({**shown, "slowest_ms": round(self.slowest_ms, 1), "seconds": round(self.seconds, 1)})

    def crash(self, number: int, kind: str, why: str) -> None:
        """Count an input that broke the parser."""
        self.crashes += 1
        if len(self.found) < EXAMPLES:
            self.found.append({"number": number, "kind": kind, "why": why})


def spoilt(parser: Parser, seeds: Any, number: int) -> bytes:
    """Input ``number`` of a parser; the first ones are the valid inputs themselves."""
    return seeds[number] if number < len(seeds) else parser.spoil(Random(f"{parser.name} {number}"), seeds)


def outcome(parser: Parser, content: bytes, folder: Path) -> str:
    """ "accepted" or "refused".

    Raises:
        Exception: whatever else the parser raised.
        AssertionError: it refused in more than one line of plain text, or printed to standard output.
    """
    try:
        parser.feed(content, folder)
    except InputError as error:
        line = str(error)
        assert line.splitlines() == [line], f"not one line: {line!r}"
        assert not any(ord(sign) < 32 or 127 <= ord(sign) < 160 for sign in line), f"control characters: {line!r}"
        return "refused"
    return "accepted"


def campaign(parser: Parser, count: int, seconds: float, saved: Path | None) -> Tally:
    """Feed a parser ``count`` inputs, or as many as fit into ``seconds``, in processes that may die of it."""
    tally = Tally(parser.name)
    start, number = time.monotonic(), 0
    while number < count and (left := seconds - (time.monotonic() - start)) > 0:
        number = _one_process(tally, parser, number, count, left, saved)
    tally.seconds = time.monotonic() - start
    return tally


def _one_process(tally: Tally, parser: Parser, first: int, count: int, seconds: float, saved: Path | None) -> int:
    """Run inputs from ``first`` on until all are done or the process breaks; the next number."""
    room = parser.seeds.__module__.rpartition(".")[2]  # the others' libraries stay out of its memory
    words = [sys.executable, "-m", "tests.fuzz.campaign", room, parser.name, str(first), str(count), str(seconds)]
    places = os.pathsep.join(filter(None, (str(ROOT), os.environ.get("PYTHONPATH"))))
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": places, "HF_HUB_OFFLINE": "1"}
    with tempfile.TemporaryFile("w+") as errors:
        process = subprocess.Popen(
            words, cwd=ROOT, env=environment, stdout=subprocess.PIPE, stderr=errors, text=True, start_new_session=True
        )
        assert process.stdout is not None
        current = first
        watch = _Watch(process)
        for text in process.stdout:
            watch.seen()
            line = json.loads(text)
            if "number" in line:
                current = line["number"]
                continue
            found = line.pop("found")
            for name, value in line.items():
                before = getattr(tally, name)
                setattr(tally, name, max(before, value) if name in ("slowest_ms", "peak_mb") else before + value)
            tally.found += found[: EXAMPLES - len(tally.found)]
            current = first + line["inputs"]
        process.wait()
        watch.stop()
        errors.seek(0)
        last = errors.read()[-1500:]
    if process.returncode == INVALID_SEED:
        tally.crash(0, "a valid input is not accepted", last)
        return count
    if process.returncode != 0:
        why = "hang in C code" if watch.killed else f"process died ({process.returncode})"
        tally.inputs += current - first + 1
        tally.crash(current, why, last)
        current += 1
    elif current < count:
        current = count  # its time was up
    if saved is not None:
        _save(tally, parser, saved)
    return current


class _Watch:
    """Kills a process that has said nothing for long: C code does not hear the alarm."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        import threading

        self.process, self.killed = process, False
        self.last = time.monotonic()
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def seen(self) -> None:
        self.last = time.monotonic()

    def stop(self) -> None:
        self._over.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._over.wait(1.0):
            if time.monotonic() - self.last > 60:  # torch's import, then a line at least every second
                self.killed = True
                os.killpg(self.process.pid, signal.SIGKILL)
                return


def _save(tally: Tally, parser: Parser, folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    seeds = parser.seeds()
    for crash in tally.found:
        name = folder / f"{parser.name}-{crash['number']}"
        name.write_bytes(spoilt(parser, seeds, crash["number"]))
        name.with_suffix(".txt").write_text(f"{crash['kind']}\n{crash['why']}", errors="backslashreplace")


def main() -> None:
    """The process that reads the inputs: room and name of the parser, first, count, seconds."""
    room, name = sys.argv[1:3]
    first, count, seconds = int(sys.argv[3]), int(sys.argv[4]), float(sys.argv[5])
    faulthandler.enable()
    out = os.fdopen(os.dup(1), "w")
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # what C code prints is no line of ours
    signal.signal(signal.SIGPROF, _too_slow)
    parser = next(parser for parser in in_room(room) if parser.name == name)
    seeds = parser.seeds()
    with tempfile.TemporaryDirectory(prefix="fuzz-") as scratch:
        os.environ["XDG_CACHE_HOME"] = os.environ["SC_CACHE"] = scratch
        warm = Path(scratch) / "warm"
        warm.mkdir()
        for seed in seeds:  # libraries are imported now and not on the first input's time
            try:
                parser.feed(seed, warm)
            except Exception:
                traceback.print_exc()
                os._exit(INVALID_SEED)
        # Address space beyond all need: what would fill the machine ends in a MemoryError, and is a crash.
        used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (used + (6 << 30), resource.RLIM_INFINITY))
        tally = _feed_all(parser, seeds, range(first, count), seconds, Path(scratch) / "work", out)
    content = asdict(tally)
    del content["parser"], content["seconds"]
    out.write(json.dumps(content) + "\n")
    out.flush()
    os._exit(0)


def _feed_all(parser: Parser, seeds: Any, numbers: range, seconds: float, folder: Path, out: io.TextIOBase) -> Tally:
    tally = Tally(parser.name)
    folder.mkdir()
    start = time.monotonic()
    _reset_peak()
    for number in numbers:
        content = spoilt(parser, seeds, number)
        if time.monotonic() - start > seconds:
            break
        began = time.process_time()
        out.write(f'{{"number": {number}}}\n')
        out.flush()
        signal.setitimer(signal.ITIMER_PROF, SECONDS)
        try:
            with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
                result = outcome(parser, content, folder)
            signal.setitimer(signal.ITIMER_PROF, 0)
            tally.accepted += result == "accepted"
            tally.refused += result == "refused"
        except TooSlow:
            tally.crash(number, "too slow", traceback.format_exc(limit=-6))
        except BaseException as error:
            signal.setitimer(signal.ITIMER_PROF, 0)
            if isinstance(error, KeyboardInterrupt):
                raise
            tally.crash(number, type(error).__name__, traceback.format_exc(limit=-6))
        tally.slowest_ms = max(tally.slowest_ms, (time.process_time() - began) * 1000)
        tally.inputs += 1
        peak = _peak()
        tally.peak_mb = max(tally.peak_mb, peak)
        if peak > MEGABYTES:
            tally.crash(number, "memory", f"{peak} MB")
            _reset_peak()
    return tally


def _too_slow(*_: object) -> None:
    raise TooSlow


def _reset_peak() -> None:
    Path("/proc/self/clear_refs").write_text("5")


def _peak() -> int:
    """Most memory of this process since the last reset, in MB."""
    with open("/proc/self/status") as file:
        return next(int(line.split()[1]) for line in file if line.startswith("VmHWM")) // 1024


if __name__ == "__main__":
    main()
