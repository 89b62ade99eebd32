"""What each training step reads: a function of (seed, step, process) alone, to be read ahead and resumed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from sc_imagenet.generation.cascade.training_options import TrainingOptions
from sc_imagenet.generation.cascade.training_pairs import PairSampler

Requests = list[tuple[int, int]]  # (image, view)


@dataclass(frozen=True)
class Draw:
    """The views of a step.

    source, target  of the pairs, (image, view) each
    between         a third image of each pair's class, whole; of a class of two images the source
    """

    source: Requests
    target: Requests
    between: Requests

    @property
    def wholes(self) -> tuple[Requests, Requests]:
        """The sources and the targets as whole images."""
        source, target = ([(image, 0) for image, _ in side] for side in (self.source, self.target))
        return source, target


class StepDraws:
    """The draws of a training's steps in one process.

    Args:
        classes: class number of each image.
        options: batch, views, seed.
        process: this one's number.
        processes: how many there are.
    """

    def __init__(self, classes: Sequence[int], options: TrainingOptions, process: int = 0, processes: int = 1) -> None:
        self.options = options
        self._classes = np.asarray(classes)
        self.process, self.processes = process, processes
        self.sampler = PairSampler(classes, max(2, options.batch // processes), options.seed)
        self._batches: tuple[int, list[np.ndarray]] = (0, self.sampler.epoch(0))
        self.epoch_steps = max(1, len(self._batches[1]) // processes)

    def at(self, step: int) -> Draw:
        """What a step reads."""
        epoch, within = divmod(step, self.epoch_steps)
        if self._batches[0] != epoch:
            self._batches = epoch, self.sampler.epoch(epoch)
        place = within * self.processes + self.process
        batch = self._batches[1][place % len(self._batches[1])]
        draw = np.random.default_rng([self.options.seed, step, self.process])
        numbers = draw_numbers(draw, len(batch), self.options.views)
        source, target = (list(zip(batch[:, side].tolist(), numbers[:, side].tolist())) for side in (0, 1))
        return Draw(source, target, [(self._third(draw, *pair), 0) for pair in batch.tolist()])

    def _third(self, draw: np.random.Generator, source: int, target: int) -> int:
        members = np.flatnonzero(self._classes == self._classes[source])
        others = members[(members != source) & (members != target)]
        return int(draw.choice(others)) if len(others) else source


def draw_numbers(draw: np.random.Generator, pairs: int, views: int) -> np.ndarray:
    """Numbers of the views of each pair's two images (B, 2): both mirrored or neither.

    Odd views are mirrored; a translation, which Hough scores look for, maps no object to its mirror image.
    """
    mirrored = draw.integers(0, min(views, 2), (pairs, 1))
    choices = (views - mirrored + 1) // 2
    return 2 * (draw.random((pairs, 2)) * choices).astype(int) + mirrored
