"""Batches of pairs: which ones each step and process sees, and loading them in this process or in others."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from sc_imagenet.core.errors import InputError
from sc_imagenet.core.processes import ended_with_the_reading, keep_freed_memory
from sc_imagenet.data.pairs import PairDataset, collate_pairs

Item = Mapping[str, Any]


class ErrorsAsValues(Dataset):
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
        ErrorsAsValues(pairs), collate_fn=_collate, num_workers=workers, worker_init_fn=_begin_worker, **batching
    )
    with ended_with_the_reading():
        for batch in loader:
            if isinstance(batch, InputError):
                raise batch
            yield batch


class Images(Dataset):
    """Single images of pairs, by row and side, as the model takes them."""

    def __init__(self, pairs: PairDataset, wanted: Sequence[tuple[int, str]]) -> None:
        self.pairs, self.wanted = pairs, wanted

    def __len__(self) -> int:
        return len(self.wanted)

    def __getitem__(self, number: int) -> tuple[Tensor, tuple[int, int]]:
        index, side = self.wanted[number]
        return self.pairs.image(side, index)


def load_images(
    pairs: PairDataset, wanted: Sequence[tuple[int, str]], workers: int
) -> Iterator[tuple[Tensor, tuple[int, int]]]:
    """The images of some rows' sides, one after the other, each (3, S, S) with its original size.

    Args:
        pairs: whose rows they are of.
        wanted: (row, side), such as (7, "source").
        workers: processes that load; 0 loads in this one.

    Raises:
        InputError: an image that cannot be read.
    """
    images, workers = ErrorsAsValues(Images(pairs, wanted)), min(workers, len(wanted))
    loader = DataLoader(
        images, batch_size=None, collate_fn=_as_it_is, num_workers=workers, worker_init_fn=_begin_worker
    )
    with ended_with_the_reading():
        for image in loader:
            if isinstance(image, InputError):
                raise image
            yield image


def _as_it_is(item: Any) -> Any:
    return item


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


# Which pairs each step and each process sees: a function of (seed, epoch) alone, so that runs resume exactly.


@dataclass(frozen=True)
class Batches:
    """The batches of a training, over all processes; every pair once an epoch, none twice.

    A last batch with fewer pairs than there are processes is joined to the one before it.

    >>> sorted(int(i) for batch in Batches(pairs=7, batch=3, seed=0).epoch(0) for i in batch)
    [0, 1, 2, 3, 4, 5, 6]
    """

    pairs: int
    batch: int
    seed: int
    processes: int = 1

    def epoch(self, epoch: int) -> list[np.ndarray]:
        """The batches of an epoch: arrays of row numbers."""
        order = np.random.default_rng([self.seed, epoch]).permutation(self.pairs)
        cuts = list(range(self.batch, self.pairs, self.batch))
        if cuts and self.pairs - cuts[-1] < self.processes:
            cuts.pop()
        return np.split(order, cuts)

    def __len__(self) -> int:
        """Steps an epoch."""
        return len(self.epoch(0))


@dataclass(frozen=True)
class ProcessBatches:
    """One process's share of the batches from step ``start`` to ``stop``, as (epoch, row) pairs."""

    batches: Batches
    start: int
    stop: int
    process: int = 0

    def __iter__(self) -> Iterator[list[tuple[int, int]]]:
        """The share of each step in turn."""
        steps = len(self.batches)
        step = self.start
        while step < self.stop:
            epoch = step // steps
            for batch in self.batches.epoch(epoch)[step % steps :]:
                if step == self.stop:
                    return
                share = np.array_split(batch, self.batches.processes)[self.process]
                yield [(epoch, int(row)) for row in share]
                step += 1

    def __len__(self) -> int:
        """Number of steps."""
        return self.stop - self.start
