"""Commands that campaigns interrupt: how they are started, how far they are, and what must not depend on it."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from sc_imagenet.core.files import cache_folder
from sc_imagenet.toy.render import render_object

ROOT = Path(__file__).parents[2]
PYTHON_PATH = os.pathsep.join(filter(None, (str(ROOT), os.environ.get("PYTHONPATH"))))
# Saves after every step and every few pairs, so that kills fall between saves as well as into them.
OFTEN = """
import sys
from pathlib import Path

import benchmark.running.evaluate as evaluation
import benchmark.running.loop as training
from benchmark import cli

training.SAVE_SECONDS = 0
training.LOG_STEPS = 1
evaluation.CHUNK = evaluation.BATCH = 4
"""
COMMAND = """
Path({mark!r}).write_text("{number}")
sys.argv = ["scbench", *{words!r}]
try:
    cli.main()
except SystemExit as end:
    if end.code:
        raise
"""
VARYING = ("seconds", "peak_memory")  # of result.json


@dataclass(frozen=True)
class Subject:
    """Commands that work in one folder, one after the other.

    name      as it is called on the command line
    commands  words of ``scbench``; "{workers}" stands for a number
    compared  patterns below the folder: files that interruptions must not change
    phases    in their order
    reads     the folder of its images
    look      which one a folder is in, and which of its commands runs
    """

    name: str
    commands: tuple[tuple[str, ...], ...]
    compared: tuple[str, ...]
    phases: tuple[str, ...]
    reads: Path
    look: Callable[[Path, int], str]

    def phase(self, folder: Path) -> str:
        """The phase of the process that works on a folder: "start" until its imports are done."""
        try:
            return self.look(folder, int(_mark(folder).read_text()))
        except (FileNotFoundError, ValueError):  # a mark that is being written is none yet
            return "start"

    def start(
        self, folder: Path, workers: int = 1, *, under: Sequence[str] = (), before: str = ""
    ) -> subprocess.Popen[bytes]:
        """Start it, in a process group of its own.

        Args:
            folder: to work in.
            workers: processes that it shall use.
            under: words of a program that starts it.
            before: Python that it does first.
        """
        mark = _mark(folder)
        mark.unlink(missing_ok=True)
        words = [[word.replace("{workers}", str(workers)) for word in command] for command in self.commands]
        code = (
            before
            + OFTEN
            + "".join(COMMAND.format(words=each, mark=str(mark), number=n) for n, each in enumerate(words))
        )
        threads = {"OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "PASSIVE", "PYTHONPATH": PYTHON_PATH}
        return subprocess.Popen(
            [*under, sys.executable, "-c", code],
            env={**os.environ, **threads},
            cwd=folder,  # paths given are then the same in every folder
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            start_new_session=True,
        )

    def digests(self, folder: Path) -> dict[str, str]:
        """SHA-256 of every compared file, by its path below the folder."""
        files = {path for pattern in self.compared for path in folder.glob(pattern) if path.is_file()}
        return {str(path.relative_to(folder)): hashlib.sha256(_content(path)).hexdigest() for path in sorted(files)}


def _mark(folder: Path) -> Path:
    """Holds the number of the command that runs; beside the folder, whose disk may be full."""
    return folder.with_name(f"{folder.name}.begun")


def _content(path: Path) -> bytes:
    if path.name != "result.json":
        return path.read_bytes()
    result = json.loads(path.read_bytes())
    return json.dumps({name: value for name, value in result.items() if name not in VARYING}).encode()


def run_subject() -> Subject:
    """Training with validation, evaluation, scoring, the report."""
    words = "run cats --preset tiny --limit 32 --max-steps 12 --set recipe.batch=4 --finetune toy --eval toy"
    run = (*words.split(), "--workers", "{workers}", "--runs", "runs")
    report = ("report", "--runs", "runs", "--out", "report")
    files = ("checkpoints/*.safetensors", "predictions/*.parquet", "config.json", "result.json")
    phases = ("start", "training", "validation", "evaluation", "scoring", "report")
    compared = (*(f"runs/cats/*/{name}" for name in files), "report/tables.csv")
    return Subject("run", (run, report), compared, phases, cache_folder() / "toy", _phase_of_run)


def _phase_of_run(folder: Path, command: int) -> str:
    if command == 1:
        return "report"
    run = next((path.parent for path in folder.glob("runs/cats/*/config.json")), folder)
    if any(run.glob("predictions/*.parquet")):
        return "scoring"
    if (run / "checkpoints/trained.json").exists():
        return "evaluation"
    steps = list(_steps(run / "log.jsonl"))
    # 32 pairs in batches of 4: validated after the 8th step and the last, the 12th.
    return "validation" if steps[-1:] in ([8], [12]) else "training"


def _steps(log: Path) -> Iterator[int | None]:
    """Steps of a log's lines; None where the line is one of a validation or torn."""
    for line in log.read_text().splitlines() if log.exists() else ():
        try:
            entry = json.loads(line)
        except ValueError:
            yield None
        else:
            yield None if "validation_pck" in entry else entry["step"]


def generate_subject(photographs: Path, train: bool = True, engine: str = "local") -> Subject:
    """Every stage from photographs to the published set, the training of the network too."""
    options = "--size 160 --share 0.5 --points 8 --least-single 0 --workers {workers} --engine " + engine
    if train:
        options += " --train --steps 6 --set batch=4"
    words = ("generate", "run", str(photographs), "--out", "made", *options.split())
    phases = ("start", "features", "train", "scan", "label", "select", "export")
    files = ("pairs/*", "work/*/*.parquet", "work/network/model/*", "generation.json", "README.md", "skipped.jsonl")
    compared = tuple(f"made/{name}" for name in files)
    return Subject("generate", (words,), compared, phases, photographs, _phase_of_generate)


def _phase_of_generate(folder: Path, _: int) -> str:
    work = folder / "made/work"
    labelled, selected = (len(list((work / name).glob("*.parquet"))) for name in ("labels", "selected"))
    classes = len(CLASSES)
    signs = (
        ("export", selected == classes),
        ("select", labelled == classes),
        ("label", labelled > 0 or (work / "features").exists()),
        ("scan", (work / "network/model/model.safetensors").exists()),
        ("train", (work / "network/resume.pt").exists()),
    )
    return next((phase for phase, sign in signs if sign), "features")


CLASSES = ("boat", "car", "chair")
IMAGES = 10  # of each, the fewest there may be


def draw_photographs(folder: Path) -> Path:
    """Draw a small folder of photographs with the toy set's renderer."""
    for category in CLASSES:
        (folder / category).mkdir(parents=True)
        for number in range(IMAGES):
            drawn = render_object(category, (9, number), (96, 80))
            Image.fromarray(drawn.image).save(folder / category / f"{number}.png")
    return folder
