"""Which photographs are paired at each training step: a function of (seed, step, process) alone."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from sc_imagenet.core.errors import InputError
from sc_imagenet.generation.cascade.options import TrainingOptions

# Which images are paired at each training step: a function of (seed, epoch) alone.
#
# Images of one class are paired at random, each image once an epoch. Negative pairs are made by shifting the targets
# of a batch by one, so that a batch is arranged in a circle in which neighbours are of different classes.


@dataclass(frozen=True)
class PairSampler:
    """Batches of pairs of images.

    classes   class number of each image
    batch     pairs a batch, at least 2
    seed      of the order
    without   numbers of images that are never drawn
    """

    classes: Sequence[int]
    batch: int
    seed: int
    without: frozenset[int] = frozenset()

    def __post_init__(self) -> None:
        """Check that there are negatives.

        Raises:
            InputError: fewer than two classes of two images.
        """
        counts = Counter(name for image, name in enumerate(self.classes) if image not in self.without)
        usable = [name for name, count in counts.items() if count > 1]
        if len(usable) < 2:
            raise InputError(
                f"{len(usable)} class of two or more images, but training needs two",
                fix="Pairs of images of different classes are its negatives.",
            )

    def epoch(self, epoch: int) -> list[np.ndarray]:
        """The batches of an epoch: (B, 2) numbers of source and target images, B at most ``batch``.

        Of a class with an odd count one image sits out; where one class has more than half of what is left, its
        surplus does.
        """
        draw = np.random.default_rng([self.seed, epoch])
        classes = np.asarray(self.classes)
        pairs: list[np.ndarray] = []
        for number in np.unique(classes):
            members = draw.permutation([k for k in np.flatnonzero(classes == number) if int(k) not in self.without])
            pairs.extend(members[: len(members) // 2 * 2].reshape(-1, 2))
        waiting = deque(pairs[place] for place in draw.permutation(len(pairs)))
        batches = []
        while waiting:
            chosen = self._fill(waiting, classes)
            circle = arrange_in_circle([int(classes[pair[0]]) for pair in chosen])
            if circle is not None:
                batches.append(np.stack([chosen[place] for place in circle]))
        return batches

    def _fill(self, waiting: deque[np.ndarray], classes: np.ndarray) -> list[np.ndarray]:
        """Take the next batch: pairs in their order, no class more than half of it."""
        most = self.batch // 2
        chosen: list[np.ndarray] = []
        passed: list[np.ndarray] = []
        counts: Counter[int] = Counter()
        while waiting and len(chosen) < self.batch:
            pair = waiting.popleft()
            name = int(classes[pair[0]])
            if counts[name] < most:
                counts[name] += 1
                chosen.append(pair)
            else:
                passed.append(pair)
        waiting.extendleft(reversed(passed))
        surplus = max(counts.values()) - len(chosen) // 2
        if surplus > 0:  # the end of the epoch: too few of other classes
            name = counts.most_common(1)[0][0]
            others = [pair for pair in chosen if int(classes[pair[0]]) != name]
            same = [pair for pair in chosen if int(classes[pair[0]]) == name]
            chosen = others + same[: len(others)]
        return chosen


def arrange_in_circle(classes: Sequence[int]) -> list[int] | None:
    """An order of the items in which neighbours, also the last and the first, differ; None if there is none.

    >>> arrange_in_circle([5, 5, 7, 8])
    [0, 2, 1, 3]
    >>> arrange_in_circle([5, 5, 7]) is None
    True
    """
    counts = Counter(classes)
    count = len(classes)
    if count < 2 or max(counts.values()) > count // 2:
        return None
    by_count = sorted(range(count), key=lambda item: (-counts[classes[item]], classes[item]))
    places = [*range(0, count, 2), *range(1, count, 2)]
    order = [0] * count
    for item, place in zip(by_count, places):
        order[place] = item
    if all(classes[order[k]] != classes[order[k - 1]] for k in range(count)):
        return order
    # An odd circle whose ends met: put one of them between two others.
    for place in range(1, count - 1):
        moved = order[1:]
        moved.insert(place, order[0])
        if all(classes[moved[k]] != classes[moved[k - 1]] for k in range(count)):
            return moved
    return None


# What each training step reads: a function of (seed, step, process) alone, to be read ahead and resumed.

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
    def images(self) -> tuple[list[int], list[int]]:
        """Numbers of the sources and of the targets."""
        source, target = ([image for image, _ in side] for side in (self.source, self.target))
        return source, target

    @property
    def wholes(self) -> tuple[Requests, Requests]:
        """The sources and the targets as whole images."""
        source, target = ([(image, 0) for image, _ in side] for side in (self.source, self.target))
        return source, target


class Draws(Protocol):
    """What is read, by number."""

    def at(self, step: int) -> Draw:
        """What a step reads."""


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
        self.held_out = held_out(classes, options)
        without = frozenset(image for triple in self.held_out for image in triple)
        self._drawn = np.array([image not in without for image in range(len(self._classes))])
        self.sampler = PairSampler(classes, max(2, options.batch // processes), options.seed, without)
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
        members = np.flatnonzero((self._classes == self._classes[source]) & self._drawn)
        others = members[(members != source) & (members != target)]
        return int(draw.choice(others)) if len(others) else source


HELD_BATCH = 8  # triples that are looked at together
ENOUGH = 8  # photographs of a class that can spare some


def held_out(classes: Sequence[int], options: TrainingOptions) -> list[tuple[int, int, int]]:
    """Three photographs each of up to ``options.held_out`` classes, which training does not see.

    >>> len(held_out([0] * 9 + [1] * 4, TrainingOptions()))
    1
    """
    numbers = np.asarray(classes)
    draw = np.random.default_rng([options.seed, len(numbers)])
    able = [number for number, count in sorted(Counter(numbers.tolist()).items()) if count >= ENOUGH]
    chosen = draw.permutation(able)[: options.held_out]
    return [tuple(draw.permutation(np.flatnonzero(numbers == number))[:3].tolist()) for number in sorted(chosen)]


class HeldOutDraws:
    """The photographs kept from training, some triples a "step": source, target and a third one between them.

    The source is also seen in its first crop that is not mirrored, if there are any.
    """

    def __init__(self, triples: Sequence[tuple[int, int, int]], views: int) -> None:
        self.triples, self.crop = triples, 2 if views > 2 else 0
        self.count = -(-len(triples) // HELD_BATCH)

    def at(self, step: int) -> Draw:
        """What a step reads."""
        source, target, between = zip(*self.triples[step * HELD_BATCH : (step + 1) * HELD_BATCH])
        return Draw(
            [(image, self.crop) for image in source],
            [(image, 0) for image in target],
            [(image, 0) for image in between],
        )


def draw_numbers(draw: np.random.Generator, pairs: int, views: int) -> np.ndarray:
    """Numbers of the views of each pair's two images (B, 2): both mirrored or neither.

    Odd views are mirrored; a translation, which Hough scores look for, maps no object to its mirror image.
    """
    mirrored = draw.integers(0, min(views, 2), (pairs, 1))
    choices = (views - mirrored + 1) // 2
    return 2 * (draw.random((pairs, 2)) * choices).astype(int) + mirrored
