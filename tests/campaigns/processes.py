"""The same with one process and with several: evaluation, resumed training, labels by the local engine and by Ray.

    python -m tests.campaigns.processes
    python -m tests.campaigns.processes evaluation ray --counts 1 2 4

evaluation  predictions with 2 and 3 processes of ``accelerate launch`` equal those of one, byte for byte
training    with 2 processes, stopped by SIGTERM and started again, ends, and its losses equal those of an unstopped one
local, ray  shards with so many workers equal those of one, byte for byte, where a worker is killed at work too

Ray is left out, and said to be, where it is not installed. One JSON line; exit code 1 if anything differs.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from tests.campaigns.subjects import PYTHON_PATH, ROOT, Subject, draw_photographs, generate_subject

LAUNCH = "-m accelerate.commands.launch --num_machines 1 --mixed_precision no --dynamo_backend no"
MODEL = "run cats --preset tiny --set recipe.batch=6 --finetune toy --limit 24 --max-steps 8"
EVALUATION = "run cats --preset tiny --checkpoint {weights} --eval toy --limit 300"
COUNTS = (1, 2, 4)  # of workers


def free_port() -> str:
    """A port for one launch; old versions of accelerate do not find one by themselves."""
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        return str(listening.getsockname()[1])


def launch(words: str, processes: int, runs: Path) -> subprocess.Popen[bytes]:
    """Start ``scbench`` in so many processes on the CPU."""
    # Without GPUs, accelerate launches several processes with --multi_gpu and ACCELERATE_USE_CPU.
    several = [*LAUNCH.split(), "--multi_gpu", "--num_processes", str(processes), "--main_process_port", free_port()]
    prefix = several if processes > 1 else []
    environment = {"OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "PASSIVE", "ACCELERATE_USE_CPU": "1"}
    return subprocess.Popen(
        [sys.executable, *prefix, "-m", "benchmark", *words.split(), "--runs", str(runs)],
        env={**os.environ, **environment, "PYTHONPATH": PYTHON_PATH},
        cwd=ROOT,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        start_new_session=True,
    )


def ended(process: subprocess.Popen[bytes]) -> list[str]:
    """What is wrong with how a command ended."""
    _, errors = process.communicate()
    return [f"exit code {process.returncode}: {errors.decode()[-1500:]}"] if process.returncode else []


def check_training(base: Path) -> list[str]:
    """Two processes, unstopped and stopped; leaves weights for ``check_evaluation``."""
    whole, cut = base / "trained-whole", base / "trained-cut"
    wrong = ended(launch(MODEL, 2, whole))
    process = launch(MODEL, 2, cut)
    while process.poll() is None and not any(cut.glob("cats/*/environment.json")):
        time.sleep(0.02)
    time.sleep(3)
    # The launcher hands SIGTERM on to its processes.
    process.send_signal(signal.SIGTERM)
    errors = process.communicate()[1].decode()
    if process.returncode == 0 or "run the same command to go on" not in errors:
        wrong.append(f"stopped with exit code {process.returncode}: {errors[-1500:]}")
    wrong += ended(launch(MODEL, 2, cut))
    losses = []
    for runs in (whole, cut):
        lines = [json.loads(line) for log in runs.glob("cats/*/log.jsonl") for line in log.read_text().splitlines()]
        losses.append([(line["step"], line["loss"]) for line in lines if "loss" in line])
    if losses[0] != losses[1] or not losses[0]:
        wrong.append(f"losses differ: {losses}")
    return wrong


def check_evaluation(base: Path, counts: Sequence[int]) -> list[str]:
    """One process, and several: the same file of predictions."""
    weights = next((base / "trained-whole").glob("cats/*/checkpoints/best.safetensors"))
    found, wrong = {}, []
    for count in (1, *counts):
        runs = base / f"evaluated-{count}"
        wrong += ended(launch(EVALUATION.format(weights=weights), count, runs))
        found[count] = [path.read_bytes() for path in runs.glob("cats/*/predictions/*.parquet")]
    return wrong + [
        f"{count} processes predict otherwise" for count in counts if found[count] != found[1] or not found[1]
    ]


def check_engine(engine: str, base: Path, counts: Sequence[int]) -> list[str]:
    """One local worker, and several of an engine, of which one is killed while it works."""
    base.mkdir()
    photographs = draw_photographs(base / "photographs")
    subject = generate_subject(photographs, train=False)
    whole = base / "whole"
    whole.mkdir()
    wrong = ended(subject.start(whole))
    expected = subject.digests(whole)
    for count in counts:
        folder = base / f"{engine}-{count}"
        folder.mkdir()
        process = generate_subject(photographs, train=False, engine=engine).start(folder, count)
        killed = kill_a_worker(process, subject, folder, engine) if count > 1 else True
        wrong += [] if killed else [f"{count} workers: none was seen at work"]
        wrong += ended(process)
        found = subject.digests(folder)
        wrong += [f"{count} workers: {name} differs" for name in expected if found.get(name) != expected[name]]
    return wrong


def kill_a_worker(process: subprocess.Popen[bytes], subject: Subject, folder: Path, engine: str) -> bool:
    """Kill a process that labels, as the system does where memory runs out."""
    sign = "forkserver" if engine == "local" else "ray::attempt"
    while process.poll() is None:
        if subject.phase(folder) in ("scan", "label", "select"):
            group = [pid for pid in map(int, filter(str.isdigit, os.listdir("/proc"))) if is_below(pid, process.pid)]
            at_work = [pid for pid in group if sign in command(pid) and busy(pid)]
            if at_work:
                os.kill(at_work[-1], signal.SIGKILL)
                return True
        time.sleep(0.02)
    return False


def command(pid: int) -> str:
    """The command line of a process."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
    except OSError:
        return ""


def _stat(pid: int) -> list[str]:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    except OSError:
        return []


def is_below(pid: int, ancestor: int) -> bool:
    """Whether a process was started by another, or by one that it started, but for the first of them."""
    depth = 0
    while pid > 1:
        stat = _stat(pid)
        if not stat:
            return False
        pid, depth = int(stat[1]), depth + 1
        if pid == ancestor:
            return depth > 1
    return False


def busy(pid: int) -> bool:
    """Whether a process has begun to compute."""
    stat = _stat(pid)
    return bool(stat) and int(stat[11]) > 20  # ticks of a hundredth of a second


def main(arguments: Sequence[str] | None = None) -> int:
    """Run it from the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    choices = ("training", "evaluation", "local", "ray")
    parser.add_argument("checks", nargs="*", help=f"of {', '.join(choices)}; all by default")
    parser.add_argument("--counts", type=int, nargs="+", default=list(COUNTS), help="workers of an engine")
    given = parser.parse_args(arguments)
    checks = given.checks or list(choices)
    found: dict[str, list[str] | str] = {}
    with tempfile.TemporaryDirectory() as name:
        base = Path(name)
        if {"training", "evaluation"} & set(checks):
            found["training, 2 processes"] = check_training(base)
        if "evaluation" in checks:
            found["evaluation, 2 and 3 processes"] = check_evaluation(base, (2, 3))
        for engine in ("local", "ray"):
            if engine not in checks:
                continue
            if importlib.util.find_spec(engine) is None and engine == "ray":
                found["ray"] = "left out: it is not installed"
            else:
                found[f"{engine}, {given.counts} workers"] = check_engine(engine, base / engine, given.counts)
    print(json.dumps(found))
    return 1 if any(isinstance(wrong, list) and wrong for wrong in found.values()) else 0


if __name__ == "__main__":
    sys.exit(main())
