"""Kills commands at random instants, resumes them, and compares what they leave with an uninterrupted run.

    python tests/campaigns/crashes.py run --kills 50
    python tests/campaigns/crashes.py generate --kills 50 --photographs FOLDER

A trial starts the command in an empty folder and kills it (SIGKILL, its whole process group) after a random
part of the time that an uninterrupted run takes, again and again until it ends by itself; then the files that
matter must equal those of the uninterrupted run byte for byte, and no temporary file may be left. One JSON line
says how many kills and trials there were; exit code 1 if anything differs.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
# Saves after every step, so that kills fall between saves as well as into them.
SAVING = "import benchmark.training as t; t.SAVE_SECONDS = 0; from benchmark.cli import main; main()"


@dataclass(frozen=True)
class Subject:
    """A command, and the files it leaves that must not depend on interruptions."""

    arguments: tuple[str, ...]  # "{folder}" stands for the trial's folder
    compared: tuple[str, ...]  # patterns below the folder

    def start(self, folder: Path) -> subprocess.Popen[bytes]:
        """Start the command on a folder, in a process group of its own."""
        words = [word.replace("{folder}", str(folder)) for word in self.arguments]
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
        return subprocess.Popen(
            [sys.executable, "-c", SAVING, *words],
            env=environment,
            cwd=ROOT,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            start_new_session=True,
        )

    def digests(self, folder: Path) -> dict[str, str]:
        """SHA-256 of every compared file, by its path below the folder."""
        files = {path for pattern in self.compared for path in folder.glob(pattern) if path.is_file()}
        return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in sorted(files)}


def run_subject() -> Subject:
    """Training with validation, evaluation, scoring."""
    words = "run cats --preset tiny --limit 24 --max-steps 8 --set recipe.batch=4 --finetune toy --eval toy"
    files = ("*/*/checkpoints/*.safetensors", "*/*/predictions/*.parquet", "*/*/config.json")
    return Subject((*words.split(), "--runs", "{folder}"), files)


def generate_subject(photographs: Path) -> Subject:
    """Every stage from photographs to the published set."""
    words = ("generate", "run", str(photographs), "--out", "{folder}")
    return Subject(words, ("**/*.parquet", "**/*.json"))


def campaign(subject: Subject, kills: int, seed: int) -> dict[str, object]:
    """Kill at least ``kills`` times; what happened, and what differed."""
    draw = random.Random(seed)
    with tempfile.TemporaryDirectory() as base:
        whole = Path(base) / "whole"
        started = time.monotonic()
        finish(subject.start(whole))
        seconds = time.monotonic() - started
        expected = subject.digests(whole)
        if not expected:
            raise SystemExit("the uninterrupted run left nothing to compare")
        done, trials, differing, left = 0, 0, [], []
        while done < kills:
            folder = Path(base) / f"trial-{trials}"
            trials += 1
            while True:
                process = subject.start(folder)
                try:
                    process.wait(draw.uniform(0, seconds))
                except subprocess.TimeoutExpired:
                    os.killpg(process.pid, signal.SIGKILL)
                    process.communicate()
                    done += 1
                    if done < kills:
                        continue
                    process = subject.start(folder)
                finish(process)
                break
            found = subject.digests(folder)
            differing += [
                f"{folder.name}/{name}" for name in found.keys() | expected if found.get(name) != expected.get(name)
            ]
            left += [str(path) for path in folder.rglob("*.tmp*")]
            shutil.rmtree(folder)
            print(f"{done} kills, {trials} trials, {len(differing)} files differ", file=sys.stderr)
    return {"kills": done, "trials": trials, "seconds": round(seconds, 1), "differing": differing, "left": left}


def finish(process: subprocess.Popen[bytes]) -> None:
    """Wait for a command to end well."""
    _, errors = process.communicate()
    if process.returncode != 0:
        raise SystemExit(f"a resumed command failed with {process.returncode}: {errors.decode()[-2000:]}")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a campaign from the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("subject", choices=("run", "generate"))
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--photographs", type=Path, help="folder of classes, for generate")
    given = parser.parse_args(arguments)
    if given.subject == "generate" and given.photographs is None:
        parser.error("generate needs --photographs")
    subject = run_subject() if given.subject == "run" else generate_subject(given.photographs)
    outcome = campaign(subject, given.kills, given.seed)
    print(json.dumps(outcome))
    return 1 if outcome["differing"] or outcome["left"] else 0


if __name__ == "__main__":
    sys.exit(main())
