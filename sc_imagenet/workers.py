"""Running one function over many items in processes, in order, with progress."""

from __future__ import annotations

import multiprocessing
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from typing import Any, TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")


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
) -> Iterator[Result]:
    """``map(function, items)`` after ``initializer(*arguments)`` in each process; here if one is enough."""
    if processes == 1 or len(items) == 1:
        initializer(*arguments)
        yield from map(function, items)
        return
    # Forked children share the lists they read with their parent and do not import the caller's script anew.
    method = "fork" if sys.platform == "linux" else "spawn"
    context = multiprocessing.get_context(method)
    pool = ProcessPoolExecutor(min(processes, len(items)), context, initializer, arguments)
    try:
        yield from pool.map(function, items)
    finally:
        pool.shutdown(wait=True, cancel_futures=True)
