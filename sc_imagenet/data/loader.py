"""Loading batches of pairs, in this process or in others; what goes wrong in those is said in one line here."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from sc_imagenet.core.allocator import keep_freed_memory
from sc_imagenet.core.errors import InputError
from sc_imagenet.core.workers import ended_with_the_reading
from sc_imagenet.data.pairs import collate_pairs

Item = Mapping[str, Any]


class Careful(Dataset):
    """Pairs, or the error about one of them as a value: thrown, it would cross processes as a long traceback."""

    def __init__(self, pairs: Dataset) -> None:
        self.pairs = pairs

    def __len__(self) -> int:
        return len(self.pairs)  # type: ignore[arg-type]

    def __getitem__(self, index: Any) -> Item | InputError:
        try:
            return self.pairs[index]
        except InputError as error:
            return error


def load_batches(pairs: Dataset, workers: int, **batching: Any) -> Iterator[dict[str, Tensor]]:
    """Batches of ``pairs`` as ``collate_pairs`` makes them.

    Args:
        pairs: a ``PairDataset`` or a part of one.
        workers: processes that load; 0 loads in this one.
        batching: ``batch_size`` or ``batch_sampler`` of torch's ``DataLoader``.

    Raises:
        InputError: a pair that cannot be read.
    """
    loader = DataLoader(
        Careful(pairs), collate_fn=_collate, num_workers=workers, worker_init_fn=_begin_worker, **batching
    )
    with ended_with_the_reading():
        for batch in loader:
            if isinstance(batch, InputError):
                raise batch
            yield batch


@contextmanager
def loader_deaths(workers: int) -> Iterator[None]:
    """Say in one line that a process of ``load_batches`` died; torch tells it wherever this process is then.

    Raises:
        InputError: one died.
    """
    try:
        yield
    except RuntimeError as error:
        if "DataLoader worker" not in str(error):
            raise
        killed = "Killed" in str(error) or "exited unexpectedly" in str(error)
        how = "was killed, as it happens where memory runs out" if killed else str(error).split(": ", 1)[-1]
        raise InputError(
            f"a process that loads pairs {how}",
            fix=f"Give fewer --workers ({workers} were asked for; 0 loads in the main process) and run again to go on.",
        ) from error


def _collate(items: Sequence[Item | InputError]) -> dict[str, Tensor] | InputError:
    for item in items:
        if isinstance(item, InputError):
            return item
    return collate_pairs(items)  # type: ignore[arg-type]


def _begin_worker(_: int) -> None:
    """Schedulers and terminals signal a whole group: the main process alone decides what is done then."""
    keep_freed_memory()
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, lambda number, frame: os._exit(0))
