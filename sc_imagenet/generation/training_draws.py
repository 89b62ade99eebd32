"""What each training step reads: a function of (seed, step, process) alone, to be read ahead and resumed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from sc_imagenet.generation.training_options import TrainingOptions
from sc_imagenet.generation.training_pairs import PairSampler

Requests = list[tuple[int, int]]  # (image, view)


@dataclass(frozen=True)
class Draw:
    """The views of a step.

    source, target  of the pairs, (image, view) each
    warps           two views each of some images, or None where there are none
    seed            of what is drawn from them
    """

    source: Requests
    target: Requests
    warps: tuple[Requests, Requests] | None
    seed: int


class StepDraws:
    """The draws of a training's steps in one process.

    Args:
        classes: class number of each image.
        options: batch, views, seed.
        process: this one's number.
        processes: how many there are.
    """

    def __init__(self, classes: Sequence[int], options: TrainingOptions, process: int = 0, processes: int = 1) -> None:
        self.options, self.images = options, len(classes)
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
        warps = self._warps(draw, len(batch)) if self._takes_warps else None
        return Draw(source, target, warps, int(draw.integers(2**62)))

    @property
    def _takes_warps(self) -> bool:
        pixel = self.options.network.stages == "pixel"
        return pixel and self.options.warp_weight > 0 and self.options.views > 2

    def _warps(self, draw: np.random.Generator, count: int) -> tuple[Requests, Requests]:
        """Two views of the same images, a half as many as there are pairs."""
        images = draw.integers(0, self.images, max(1, count // 2))
        # The whole image, or the first mirrored view if there is another one to go with it.
        first = draw.integers(0, 2 if self.options.views > 3 else 1, len(images))
        second = first + 2 * draw.integers(1, (self.options.views - first + 1) // 2)
        seen = images.tolist()
        return list(zip(seen, first.tolist())), list(zip(seen, second.tolist()))


def draw_numbers(draw: np.random.Generator, pairs: int, views: int) -> np.ndarray:
    """Numbers of the views of each pair's two images (B, 2): both mirrored or neither.

    Odd views are mirrored; a translation, which Hough scores look for, maps no object to its mirror image.
    """
    mirrored = draw.integers(0, min(views, 2), (pairs, 1))
    choices = (views - mirrored + 1) // 2
    return 2 * (draw.random((pairs, 2)) * choices).astype(int) + mirrored
