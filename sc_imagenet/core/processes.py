"""Processes that work for this one, and what becomes of them and of it when somebody says stop."""

from __future__ import annotations

import ctypes
import multiprocessing
import os
import signal
import sys
import threading
from collections import deque
from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from contextlib import contextmanager
from multiprocessing.connection import Connection, wait
from multiprocessing.context import BaseContext
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from accelerate import Accelerator


# Being asked to stop: Ctrl-C, or SIGTERM as schedulers send it. What is unsaved is saved, then the process ends.

INTERRUPTED, TERMINATED = 130, 143  # exit codes


class Terminated(KeyboardInterrupt):
    """SIGTERM: as Ctrl-C, but for the exit code."""


_terminated = False


def was_terminated() -> bool:
    """Whether this process was sent SIGTERM: command line libraries make one exit code of every interruption."""
    return _terminated


class InterruptedAgain(KeyboardInterrupt):
    """A second signal while the first was being obeyed: nothing more is saved."""


class StopRequest:
    """Whether somebody asked to stop."""

    def __init__(self) -> None:
        self._number: int | None = None
        self._at_once = False

    def __bool__(self) -> bool:
        return self._number is not None

    def note(self, number: int, _: Any) -> None:
        """Handle a signal."""
        global _terminated
        _terminated = _terminated or number == signal.SIGTERM
        if self._number is not None:
            raise InterruptedAgain
        self._number = number
        if self._at_once:
            raise self.error()

    def error(self) -> KeyboardInterrupt:
        """What to raise once everything is saved."""
        return Terminated() if self._number == signal.SIGTERM else KeyboardInterrupt()

    @contextmanager
    def at_once(self) -> Iterator[None]:
        """Within it a signal is not noted but ends the work where it is."""
        if self:
            raise self.error()
        self._at_once = True
        try:
            yield
        finally:
            self._at_once = False


@contextmanager
def stop_request() -> Iterator[StopRequest]:
    """Note the first SIGINT or SIGTERM instead of ending, so that a step is finished and saved before the end."""
    request = StopRequest()
    if threading.current_thread() is not threading.main_thread():  # signals go to the main thread alone
        yield request
        return
    before = {number: signal.signal(number, request.note) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield request
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def terminated(number: int, _: Any) -> None:
    """The handler of SIGTERM where no ``stop_request`` is open."""
    global _terminated
    _terminated = True
    raise Terminated


def any_process(asked: bool, accelerator: Accelerator) -> bool:
    """Whether any of the processes was asked; all must call it, since all must end after the same step."""
    if accelerator.num_processes == 1:
        return asked
    import torch

    flag = torch.tensor([int(asked)], device=accelerator.device)
    return bool(accelerator.reduce(flag, "sum").item())


# Freed memory stays with the process, so that the next operation does not fetch it from the system again.
#
# glibc gives buffers of 128 kB to 32 MB and more back as soon as they are freed; the next operation of a network asks
# for the same, and the system clears every page anew. That was half of the CPU time of an evaluation. Commands and
# the processes that they start keep such memory; a program that merely imports this package keeps its own allocator.

TRIM_THRESHOLD, MMAP_THRESHOLD, MMAP_MAX = -1, -3, -4  # parameters of mallopt(3)
KEPT = 64 << 20  # bytes; a larger buffer goes back when it is freed: keeping those too costs a quarter more memory
UNUSED = 512 << 20  # bytes at the end of the heap beyond which it shrinks
OWN_VARIABLES = ("MALLOC_MMAP_THRESHOLD_", "MALLOC_MMAP_MAX_", "MALLOC_TRIM_THRESHOLD_", "MALLOC_TOP_PAD_")
OWN_TUNABLES = tuple(f"glibc.malloc.{name}" for name in ("mmap_threshold", "mmap_max", "trim_threshold", "top_pad"))


def keep_freed_memory() -> bool:
    """Set glibc's thresholds for this process and its forks; whether that was done.

    Nothing is done with another C library, or where the user's environment sets any of these thresholds: the variables
    of mallopt(3), or ``GLIBC_TUNABLES``.
    """
    if sys.platform != "linux" or set_by_user():
        return False
    library = ctypes.CDLL(None)
    if not hasattr(library, "gnu_get_libc_version"):
        return False
    if not library.mallopt(MMAP_THRESHOLD, KEPT):  # glibc before 2.35 takes at most 32 MB; it can keep all
        library.mallopt(MMAP_MAX, 0)
    library.mallopt(TRIM_THRESHOLD, UNUSED)
    return True


def set_by_user() -> bool:
    """Whether the environment sets what ``keep_freed_memory`` would set."""
    tunables = os.environ.get("GLIBC_TUNABLES", "")
    return any(name in os.environ for name in OWN_VARIABLES) or any(name in tunables for name in OWN_TUNABLES)


# Running one function over many items in processes, in order, with progress; no process outlives this one.

Item = TypeVar("Item")
Outcome = TypeVar("Outcome")

AHEAD = 4  # items a process that are begun before the first of them is asked for


def processes_for(items: int, wanted: int | None, few: int = 2_000) -> int:
    """How many processes to use: as asked, else all cores for more than ``few`` items, and one for fewer."""
    if multiprocessing.current_process().daemon:  # such a process may have no children
        return 1
    if wanted is not None:
        return max(1, wanted)
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return cores if items > few else 1


def in_order(
    function: Callable[[Item], Outcome],
    items: Sequence[Item],
    processes: int,
    initializer: Callable[..., None],
    arguments: tuple[Any, ...],
) -> Generator[Outcome, None, None]:
    """``map(function, items)`` after ``initializer(*arguments)`` in each process; here if one is enough.

    Close it (``contextlib.closing``) where it may not be read to its end: what was not begun is then not done.
    """
    if processes == 1 or len(items) == 1:
        initializer(*arguments)
        yield from map(function, items)
        return
    # Forked children share the lists they read with their parent and do not import the caller's script anew.
    context = multiprocessing.get_context("fork" if sys.platform == "linux" else "spawn")
    with process_pool(min(processes, len(items)), context, initializer, arguments) as pool:
        # pool.map would submit all at once, and cancel what is left in a way that breaks the pool's own thread.
        waiting: deque[Future[Outcome]] = deque()
        for item in items:
            waiting.append(pool.submit(function, item))
            if len(waiting) > AHEAD * processes:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()


@contextmanager
def process_pool(
    processes: int,
    context: BaseContext,
    initializer: Callable[..., None] | None = None,
    arguments: tuple[Any, ...] = (),
) -> Iterator[ProcessPoolExecutor]:
    """A pool whose processes end at once where its block is left by an error or a signal, or this process is killed."""
    told, tell = context.Pipe(duplex=False)
    pool = ProcessPoolExecutor(processes, context, _begin, (told, initializer, arguments))
    try:
        yield pool
    except BaseException:
        tell.send_bytes(b"end")
        raise
    finally:
        pool.shutdown(wait=True, cancel_futures=True)
        told.close()
        tell.close()


@contextmanager
def ended_with_the_reading() -> Iterator[None]:
    """Ends the processes that were started within it where it is left before its end; they may hang in a read."""
    before = set(multiprocessing.active_children())
    try:
        yield
    except (KeyboardInterrupt, GeneratorExit):
        for process in set(multiprocessing.active_children()) - before:
            process.terminate()
        raise


def _begin(told: Connection, initializer: Callable[..., None] | None, arguments: tuple[Any, ...]) -> None:
    keep_freed_memory()
    # Terminals and schedulers signal a whole group: what Ctrl-C means is the main process's to say.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    threading.Thread(target=_end_with_the_main_process, args=(told,), daemon=True).start()
    if initializer is not None:
        initializer(*arguments)


def _end_with_the_main_process(told: Connection) -> None:
    main = multiprocessing.parent_process()
    assert main is not None
    wait([told, main.sentinel])  # what is told is not read, so that all workers see it
    os._exit(1)
