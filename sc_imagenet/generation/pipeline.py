"""The stages from photographs to a data set, each of which goes on where it was left, on one machine or many."""

from __future__ import annotations

import hashlib
import json
import multiprocessing
import os
import re
import signal
import sys
from collections import Counter
from collections.abc import Callable, Generator, Sequence
from concurrent.futures import FIRST_COMPLETED, BrokenExecutor, Future, wait
from contextlib import closing
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Protocol, TypeVar

import pyarrow as pa
import pyarrow.parquet as pq

from sc_imagenet.backbones.pretrained import NoWeights
from sc_imagenet.core.errors import InputError, unknown_name
from sc_imagenet.core.files import atomic_path
from sc_imagenet.core.processes import keep_freed_memory, process_pool
from sc_imagenet.generation.labelling import ABOUT, ClassTask, about_of, label_class, select_class
from sc_imagenet.generation.options import AFTER_LABELS, GenerationOptions
from sc_imagenet.generation.photographs import Scan, Skipped, scan_kept

# Running one task a class: in processes on this machine, or on many machines by Ray; the results are the same.
#
# A task is a plain function of its argument and returns bytes, so that it does not matter where, how often or in
# which order tasks run. A worker that is killed (out of memory, a machine that goes) has its task run again
# elsewhere. A task that fails by itself does not stop the others.

Task = TypeVar("Task")
TRIES = 4  # of a task whose worker dies
ENGINES = ("local", "ray")


class Engine(Protocol):
    """Runs tasks."""

    def run(
        self, function: Callable[[Task], bytes], tasks: Sequence[Task]
    ) -> Generator[tuple[Task, bytes | InputError], None, None]:
        """Yield each task with its result, or the error that it raised, as they come; closing it ends the workers.

        Raises:
            InputError: a task's worker died again and again.
        """


class LocalEngine:
    """Processes on this machine; one of them means here."""

    def __init__(self, workers: int = 1) -> None:
        self.workers = workers

    def run(
        self, function: Callable[[Task], bytes], tasks: Sequence[Task]
    ) -> Generator[tuple[Task, bytes | InputError], None, None]:
        """See ``Engine.run``."""
        if self.workers == 1:
            for task in tasks:
                yield task, attempt(function, task)
            return
        tries = dict.fromkeys(range(len(tasks)), 0)
        while tries:
            try:
                with process_pool(min(self.workers, len(tries)), worker_context()) as pool:
                    waiting: list[int] = list(tries)
                    running: dict[Future[bytes | InputError], int] = {}
                    while waiting or running:
                        while waiting and len(running) < self.workers:  # the others' tries are not used up by a death
                            number = waiting.pop(0)
                            running[pool.submit(attempt, function, tasks[number])] = number
                        for future in wait(running, return_when=FIRST_COMPLETED).done:
                            result = future.result()
                            number = running.pop(future)
                            del tries[number]
                            yield tasks[number], result
            except BrokenExecutor as error:
                for number in running.values():
                    tries[number] += 1
                    if tries[number] == TRIES:
                        raise InputError(
                            f"a worker died {TRIES} times, last at {tasks[number]}",
                            fix="It may have run out of memory: take fewer --workers. What was finished is kept.",
                        ) from error


def worker_context() -> multiprocessing.context.BaseContext:
    """How workers are started: never as a fork of this process, which may have run threads of torch's.

    On Linux they are forks of a process that has imported what tasks need and done nothing else.
    """
    if sys.platform != "linux":
        return multiprocessing.get_context("spawn")
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["sc_imagenet.core.late_starts", "sc_imagenet.generation.labelling"])
    return context


class RayEngine:
    """Ray tasks, on this machine or on the cluster that ``RAY_ADDRESS`` names.

    The photographs must be at the same path on every machine; results come back to this process, which writes them.
    """

    def __init__(self, workers: int = 1) -> None:
        """Connect to Ray.

        Raises:
            InputError: Ray is not installed.
        """
        try:
            import ray
        except ImportError as error:
            raise InputError("the engine 'ray' needs Ray", fix="pip install 'sc-imagenet[ray]'") from error
        self._ray: Any = ray
        if not ray.is_initialized():
            own = None if os.environ.get("RAY_ADDRESS") else workers
            handler = signal.getsignal(signal.SIGTERM)  # Ray takes it for itself
            ray.init(num_cpus=own, include_dashboard=False, log_to_driver=False, configure_logging=False)
            signal.signal(signal.SIGTERM, handler)

    def run(
        self, function: Callable[[Task], bytes], tasks: Sequence[Task]
    ) -> Generator[tuple[Task, bytes | InputError], None, None]:
        """See ``Engine.run``."""
        import torch

        ray = self._ray
        gpus = 1 if torch.cuda.is_available() else 0
        remote = ray.remote(num_cpus=1, num_gpus=gpus, max_retries=TRIES - 1)(attempt_in_ray)
        running = {remote.remote(function, task): task for task in tasks}
        while running:
            done, _ = ray.wait(list(running), num_returns=1)
            try:
                result = ray.get(done[0])
            except (ray.exceptions.WorkerCrashedError, ray.exceptions.OutOfMemoryError) as error:
                raise InputError(
                    f"a worker died {TRIES} times, last at {running[done[0]]}",
                    fix="It may have run out of memory: take fewer --workers. What was finished is kept.",
                ) from error
            yield running.pop(done[0]), result


def attempt(function: Callable[[Task], bytes], task: Task) -> bytes | InputError:
    """A task's result, or the error about its input."""
    try:
        return function(task)
    except InputError as error:
        return error


def attempt_in_ray(function: Callable[[Task], bytes], task: Task) -> bytes | InputError:
    """``attempt`` in a process that Ray has started."""
    keep_freed_memory()
    return attempt(function, task)


def open_engine(name: str, workers: int) -> Engine:
    """The engine called ``name``.

    Raises:
        InputError: no engine is called so, or Ray is not installed.
    """
    if name not in ENGINES:
        raise unknown_name("engine", name, ENGINES)
    return LocalEngine(workers) if name == "local" else RayEngine(workers)


# The stages from photographs to a data set, each of which goes on where it was left.
#
#     <out>/work/seen.jsonl             photographs that were decoded, with their files' sizes and times
#     <out>/work/features/              features and masks, a file a class; may be deleted at any time
#     <out>/work/labels/<class>.parquet    images and their scores
#     <out>/work/selected/<class>.parquet  the chosen pairs
#     <out>/skipped.jsonl               what was left out and why, a line each
#
# A shard tells the hashes of all it was made of; one that is not of today's photographs, masks, counts, weights and
# options is made again, and what has changed is said.

LabellingReport = Callable[[str, int, int], None]  # what, done, total
Say = Callable[[str], None]


@dataclass(frozen=True)
class PhotographSource:
    """Where photographs come from: a folder of class folders; ``only`` some of them where given."""

    root: Path
    only: tuple[str, ...] | None = None


@dataclass
class Pipeline:
    """A data set in the making.

    Args:
        source: of photographs.
        out: the data set's folder.
        options: of the labels.
        engine: that the tasks of the classes run on.
        report: shows how far a stage is.
        say: tells what is done and what was done before.
    """

    source: PhotographSource
    out: Path
    options: GenerationOptions
    engine: Engine
    report: LabellingReport = lambda what, done, total: None
    say: Say = lambda line: None

    @property
    def work(self) -> Path:
        """The folder of what the stages leave for one another."""
        return self.out / "work"

    def scan(self) -> Scan:
        """Find the photographs; those decoded before are not decoded again.

        Raises:
            InputError: no folder, or no class is left.
        """
        found, known = scan_kept(
            self.source.root,
            self.work / "seen.jsonl",
            only=self.source.only,
            report=lambda done, total: self.report("photographs", done, total),
        )
        self.say(
            f"photographs: {found.count:,} of {len(found.classes):,} classes, {known:,} known before, "
            f"{len(found.skipped):,} left out ({self.out / 'skipped.jsonl'})"
        )
        self._write_skipped(found.skipped, ())
        return found

    def label(self, found: Scan) -> dict[str, Path]:
        """Score every class's images by closed loops; the label shards by class.

        Raises:
            InputError: a class could not be labelled; the others are.
        """
        tasks = [
            ClassTask(found.root.absolute(), name, tuple(photographs), self.options, self.work / "features")
            for name, photographs in found.classes.items()
        ]
        shards = self._stage("label", label_class, tasks, AFTER_LABELS)
        masks = sum((Counter(about_shard(path).get("masks", {})) for path in shards.values()), Counter[str]())
        if masks:
            self.say(f"masks: {', '.join(f'{count:,} {note}' for note, count in sorted(masks.items()))}")
        return shards

    def select(self, found: Scan, labels: dict[str, Path]) -> dict[str, Path]:
        """Choose images, pairs and points of every class; the shards by class.

        Raises:
            InputError: a class could not be matched; the others are.
        """
        tasks = [
            ClassTask(
                found.root.absolute(), name, tuple(found.classes[name]), self.options, self.work / "features", content
            )
            for name, content in ((name, path.read_bytes()) for name, path in labels.items())
        ]
        shards = self._stage("select", select_class, tasks, ())
        left_out = [
            Skipped(name, about["left_out"])
            for name, about in ((name, about_shard(path)) for name, path in shards.items())
            if about["left_out"]
        ]
        self._write_skipped(found.skipped, left_out)
        return shards

    def _stage(
        self, name: str, function: Callable[[ClassTask], bytes], tasks: Sequence[ClassTask], without: Sequence[str]
    ) -> dict[str, Path]:
        """Run the tasks whose shards are not there, made of the same but for options ``without``; all shards."""
        folder = self.work / {"label": "labels", "select": "selected"}[name]
        shards = {task.category: folder / f"{file_name(task.category)}.parquet" for task in tasks}
        changed = [_changed(task, shards[task.category], without) for task in tasks]
        left = [task for task, other in zip(tasks, changed) if other is None or other]
        if len(left) < len(tasks):
            self.say(f"{name}: {len(tasks) - len(left):,} of {len(tasks):,} classes were done before")
        if again := [other for other in changed if other]:
            what = " and ".join(dict.fromkeys(each for other in again for each in other))
            self.say(f"{name}: {len(again):,} of {len(tasks):,} classes are made again: changed {what}")
        done = len(tasks) - len(left)
        failed: list[tuple[ClassTask, InputError]] = []
        with closing(self.engine.run(function, left)) as results:
            for task, result in results:
                if isinstance(result, InputError):
                    failed.append((task, result))
                else:
                    with atomic_path(shards[task.category]) as temporary:
                        temporary.write_bytes(result)
                done += 1
                self.report(name, done, len(tasks))
        if failed:
            task, reason = failed[0]
            same = 1 < len(failed) == len(tasks) and len({str(each) for _, each in failed}) == 1
            if same or isinstance(reason, NoWeights):
                raise reason  # it lies in what was asked for, not in a class
            more = f" (and {len(failed) - 1:,} more classes)" if len(failed) > 1 else ""
            kept = "The other classes are finished and kept; run again." if len(failed) < len(tasks) else None
            raise InputError(f"{task}: {reason}{more}", fix=kept)
        if left:
            self.say(f"{name}: {len(left):,} classes")
        return shards

    def _write_skipped(self, *groups: Sequence[Skipped]) -> None:
        lines = [json.dumps(asdict(each), ensure_ascii=False) + "\n" for group in groups for each in group]
        with atomic_path(self.out / "skipped.jsonl") as temporary:
            temporary.write_text("".join(lines), encoding="utf-8")


def file_name(category: str) -> str:
    """A file name for a class whatever it is called: a part a person can read, and a hash.

    >>> file_name("rock 'n' roll")
    'rock-n-roll-95d3a8c6'
    """
    readable = re.sub(r"\W+", "-", category, flags=re.ASCII).strip("-")[:40]
    return f"{readable}-{hashlib.sha256(category.encode()).hexdigest()[:8]}"


def read_shard(path: Path) -> tuple[pa.Table, dict[str, Any]]:
    """A shard and its plain values.

    Raises:
        InputError: it is not there or damaged.
    """
    try:
        table = pq.read_table(path)
        return table, about_of(table)
    except Exception as error:  # a decoder given malformed bytes may raise anything at all
        raise InputError("is no shard of labels", where=path, fix="Delete it and run again.") from error


def about_shard(path: Path) -> dict[str, Any]:
    """The plain values of a shard alone."""
    return json.loads(pq.read_schema(path).metadata[ABOUT])


def _changed(task: ClassTask, shard: Path, without: Sequence[str]) -> list[str] | None:
    """What of a task is another than its shard was made of; None where there is no whole shard."""
    try:
        return task.changed(about_shard(shard), without)
    except (OSError, pa.ArrowException, KeyError, TypeError, AttributeError, ValueError, RecursionError):
        return None  # not there, or cut short by something else than us
