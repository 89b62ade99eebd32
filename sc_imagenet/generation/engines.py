"""Running one task a class: in processes on this machine, or on many machines by Ray; the results are the same.

A task is a plain function of its argument and returns bytes, so that it does not matter where, how often or in which
order tasks run. A worker that is killed (out of memory, a machine that goes) has its task run again elsewhere. A task
that fails by itself does not stop the others.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
from collections.abc import Callable, Generator, Sequence
from concurrent.futures import FIRST_COMPLETED, BrokenExecutor, Future, wait
from typing import Any, Protocol, TypeVar

from sc_imagenet.core.allocator import keep_freed_memory
from sc_imagenet.core.errors import InputError, unknown_name
from sc_imagenet.core.workers import process_pool

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
