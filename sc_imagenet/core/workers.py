"""Running one function over many items in processes, in order, with progress; no process outlives this one."""

from __future__ import annotations

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
from typing import Any, TypeVar

from sc_imagenet.core.allocator import keep_freed_memory

Item = TypeVar("Item")
Result = TypeVar("Result")

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
    function: Callable[[Item], Result],
    items: Sequence[Item],
    processes: int,
    initializer: Callable[..., None],
    arguments: tuple[Any, ...],
) -> Generator[Result, None, None]:
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
        waiting: deque[Future[Result]] = deque()
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
