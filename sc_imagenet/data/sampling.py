"""Which pairs each step and each process sees: a function of (seed, epoch) alone, so that runs resume exactly."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np


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
