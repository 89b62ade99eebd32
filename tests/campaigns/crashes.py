"""Kills commands at random instants of every phase, resumes them, and compares what they leave with uninterrupted ones.

    python -m tests.campaigns.crashes --kills 100 --workers 14 --seconds 480
    python -m tests.campaigns.crashes run --kills 10 --signal TERM

A trial starts the command in an empty folder and kills it (SIGKILL; its whole process group, or its main process
alone as the system does where memory runs out) at a random instant of each phase in turn, starting it again every
time; then it runs to its end. The files that matter must equal those of an uninterrupted run byte for byte, no
temporary file may be left, and no process. With SIGTERM or SIGINT the command must also end within 10 seconds, with
exit code 143 or 130 and one line that says how to go on. One JSON line says how many kills fell into which phase, by
the state of the folder that each left; exit code 1 if anything differs.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from tests.campaigns.subjects import Subject, draw_photographs, generate_subject, run_subject

LOOK = 0.01  # seconds between two looks at a folder
STOP_SECONDS = 10.0  # within which SIGTERM and SIGINT must be obeyed
CODES = {signal.SIGTERM: 143, signal.SIGINT: 130}
ORPHAN_SECONDS = 15.0  # within which the workers of a killed process must be gone


@dataclass
class Outcome:
    """What happened to one subject."""

    phases: Counter[str] = field(default_factory=Counter)  # kills
    trials: int = 0
    seconds: dict[str, float] = field(default_factory=dict)  # of each phase, uninterrupted
    differing: list[str] = field(default_factory=list)
    left: list[str] = field(default_factory=list)  # temporary files
    orphans: list[str] = field(default_factory=list)
    failed: list[str] = field(default_factory=list)  # commands that did not end as they should
    slowest_stop: float = 0.0  # seconds from a signal to the end

    @property
    def good(self) -> bool:
        return not (self.differing or self.left or self.orphans or self.failed)


class Campaign:
    """Trials of one subject.

    Args:
        subject: to kill.
        base: folder for the trials' folders.
        kills: at least so many.
        seed: of the instants.
        deadline: ``time.monotonic()`` after which nothing more is killed.
        number: the signal.
    """

    def __init__(
        self, subject: Subject, base: Path, kills: int, seed: int, deadline: float, number: signal.Signals
    ) -> None:
        self.subject, self.base, self.kills, self.seed, self.deadline = subject, base, kills, seed, deadline
        self.number = number
        self.outcome = Outcome()
        self.expected: dict[str, str] = {}
        self._lock = threading.Lock()

    def run_whole(self) -> None:
        """The uninterrupted run: how long each phase takes, and what is left."""
        folder = self.base / "whole"
        folder.mkdir(parents=True)
        process = self.subject.start(folder)
        seconds: Counter[str] = Counter()
        since = time.monotonic()
        while process.poll() is None:
            time.sleep(LOOK)
            now = time.monotonic()
            seconds[self.subject.phase(folder)] += now - since
            since = now
        self._finish(process, "whole")
        self.outcome.seconds = {phase: round(seconds[phase], 2) for phase in self.subject.phases}
        self.expected = self.subject.digests(folder)
        if not self.expected:
            self.outcome.failed.append("the uninterrupted run left nothing to compare")

    def trial(self) -> None:
        """One folder: a kill in every phase, then to the end."""
        with self._lock:
            number = self.outcome.trials
            self.outcome.trials += 1
        draw = random.Random(f"{self.seed} {number}")
        folder = self.base / f"trial-{number}"
        folder.mkdir()
        workers = 1 + number % 2  # "run": pairs loaded in a process; "generate": tasks here or in two
        for phase in self.subject.phases:
            if self._enough() or not self._kill_in(phase, folder, workers, draw):
                break
        else:
            # Anything may be killed twice in a row.
            self._kill_in(draw.choice(self.subject.phases), folder, workers, draw)
        self._finish(self.subject.start(folder, workers), folder.name)
        self._compare(folder)

    def _enough(self) -> bool:
        return sum(self.outcome.phases.values()) >= self.kills or time.monotonic() > self.deadline

    def _kill_in(self, phase: str, folder: Path, workers: int, draw: random.Random) -> bool:
        """Start, and kill at a random instant of a phase, or after it where it was done before; False if it ended."""
        phases = self.subject.phases
        process = self.subject.start(folder, workers)
        while process.poll() is None and phases.index(self.subject.phase(folder)) < phases.index(phase):
            time.sleep(LOOK)
        with suppress(subprocess.TimeoutExpired):
            process.wait(draw.uniform(0, self.outcome.seconds[phase]))
        if process.poll() is not None:
            self._finish(process, folder.name)
            return False
        alone, begun = draw.random() < 0.5, self.subject.phase(folder) != "start"
        sent = time.monotonic()
        (os.kill if alone else os.killpg)(process.pid, self.number)
        _, errors = process.communicate()
        if process.returncode == 0:  # it was ending anyway
            return False
        with self._lock:
            self.outcome.phases[self.subject.phase(folder)] += 1
        if self.number != signal.SIGKILL and begun:  # before, no handler is there yet
            self._check_stop(process.returncode, errors.decode(), time.monotonic() - sent, f"{folder.name} in {phase}")
        if not _gone(process.pid):
            self.outcome.orphans.append(f"{folder.name} in {phase}")
            os.killpg(process.pid, signal.SIGKILL)
        return True

    def _check_stop(self, code: int, errors: str, seconds: float, name: str) -> None:
        self.outcome.slowest_stop = max(self.outcome.slowest_stop, round(seconds, 2))
        said = errors.strip().splitlines()[-1:] or [""]
        if code != CODES[self.number] or seconds > STOP_SECONDS or "to go on" not in said[0] or "Traceback" in errors:
            self.outcome.failed.append(f"{name}: exit code {code} after {seconds:.1f} s: {errors.strip()[-2000:]}")

    def _finish(self, process: subprocess.Popen[bytes], name: str) -> None:
        """Wait for a command to end well."""
        _, errors = process.communicate()
        if process.returncode != 0:
            said = errors.decode(errors="replace").strip()[-2000:]
            self.outcome.failed.append(f"{name}: exit code {process.returncode}: {said}")

    def _compare(self, folder: Path) -> None:
        found = self.subject.digests(folder)
        names = sorted(found.keys() | self.expected.keys())
        self.outcome.differing += [
            f"{folder.name}/{name}" for name in names if found.get(name) != self.expected.get(name)
        ]
        self.outcome.left += [str(path.relative_to(self.base)) for path in folder.rglob("*.tmp*")]
        shutil.rmtree(folder)

    def trials_until_enough(self) -> None:
        """Trials one after the other."""
        while not self._enough():
            self.trial()
            done = sum(self.outcome.phases.values())
            print(f"{self.subject.name}: {done} kills, {self.outcome.trials} trials begun", file=sys.stderr, flush=True)


def _gone(group: int) -> bool:
    """Whether all processes of a group end within ``ORPHAN_SECONDS``."""
    end = time.monotonic() + ORPHAN_SECONDS
    while time.monotonic() < end:
        try:
            os.killpg(group, 0)
        except ProcessLookupError:
            return True
        time.sleep(LOOK)
    return False


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a campaign from the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("subject", nargs="?", choices=("run", "generate", "both"), default="both")
    parser.add_argument("--kills", type=int, default=100, help="in all, shared by the subjects")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--workers", type=int, default=2, help="trials at once")
    parser.add_argument("--seconds", type=float, default=3600, help="after which nothing more is killed")
    parser.add_argument("--signal", choices=("KILL", "TERM", "INT"), default="KILL")
    parser.add_argument("--photographs", type=Path, help="folder of classes, for generate; else some are drawn")
    given = parser.parse_args(arguments)
    started = time.monotonic()
    signal.signal(signal.SIGINT, signal.default_int_handler)  # in the background shells let commands ignore it
    with tempfile.TemporaryDirectory() as name:
        base = Path(name)
        subjects = []
        if given.subject in ("run", "both"):
            subjects.append(run_subject())
        if given.subject in ("generate", "both"):
            subjects.append(generate_subject(given.photographs or draw_photographs(base / "photographs")))
        share = -(-given.kills // len(subjects))
        deadline = started + given.seconds
        number = signal.Signals[f"SIG{given.signal}"]
        campaigns = [Campaign(each, base / each.name, share, given.seed, deadline, number) for each in subjects]
        with ThreadPoolExecutor(max(1, given.workers)) as pool:
            list(pool.map(Campaign.run_whole, campaigns))
            # A subject's trials go to every worker: whichever is done first leaves the machine to the other.
            running = [campaigns[number % len(campaigns)] for number in range(max(len(campaigns), given.workers))]
            list(pool.map(Campaign.trials_until_enough, running))
    result = {
        campaign.subject.name: {
            "kills": sum(campaign.outcome.phases.values()),
            "kills_by_phase": {phase: campaign.outcome.phases[phase] for phase in campaign.subject.phases},
            "trials": campaign.outcome.trials,
            "files_compared": len(campaign.expected),
            "seconds_uninterrupted": campaign.outcome.seconds,
            "differing": campaign.outcome.differing,
            "temporary_files_left": campaign.outcome.left,
            "orphans": campaign.outcome.orphans,
            "failed": campaign.outcome.failed,
            **({} if number == signal.SIGKILL else {"slowest_stop": campaign.outcome.slowest_stop}),
        }
        for campaign in campaigns
    }
    print(json.dumps({**result, "seconds": round(time.monotonic() - started, 1)}))
    return 0 if all(campaign.outcome.good for campaign in campaigns) else 1


if __name__ == "__main__":
    sys.exit(main())
