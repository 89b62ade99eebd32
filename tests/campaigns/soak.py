"""Trains and evaluates for long, and measures whether memory grows.

    python -m tests.campaigns.soak --steps 10000 --pairs 100000
    python -m tests.campaigns.soak --steps 300 --pairs 2000 --most 20
    python -m tests.campaigns.soak --steps 10000 --pairs 0 --gpu

The tiny CATs on the toy set. Resident memory is sampled all along; after a warm-up (the first third, in which caches
fill) a straight line is fitted by least squares. A JSON line for each part says its slope, in MB for 1,000 steps or
1,000 pairs, and how fast it went; exit code 1 where memory grows by more than ``--most`` over the samples that were
fitted.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator

from baselines import registry
from baselines.registry import find_recipe
from benchmark.running.data import NamedPairs
from benchmark.running.evaluate import Validation, evaluate, selection_metric
from benchmark.running.folder import RunFolder
from benchmark.running.loop import MatcherTraining
from benchmark.scoring.predictions import PredictionInfo
from sc_imagenet.data.pairs import PairDataset

MODEL = "cats"
TRAINED_ON = 100  # pairs: their decoded images, which are kept, are all there before the warm-up ends
BATCH = 2  # what leaks, leaks by steps: small ones are sooner done
WARM_UP = 1 / 3  # of the samples, in which caches fill
SAMPLES = 200  # wanted of each part


@dataclass
class Memory:
    """Resident memory against how much is done."""

    done: list[int] = field(default_factory=list)
    megabytes: list[float] = field(default_factory=list)
    started: float = field(default_factory=time.monotonic)

    def sample(self, done: int) -> None:
        """Note it now."""
        pages = int(Path("/proc/self/statm").read_text().split()[1])
        self.done.append(done)
        self.megabytes.append(pages * os.sysconf("SC_PAGE_SIZE") / 2**20)

    def summary(self, of: str) -> dict[str, Any]:
        """The fitted line in numbers."""
        first = int(len(self.done) * WARM_UP)
        slope, _ = np.polyfit(self.done[first:], self.megabytes[first:], 1)
        span = self.done[-1] - self.done[first]
        return {
            of: self.done[-1],
            "samples": len(self.done),
            "megabytes_at_first": round(self.megabytes[first], 1),
            "megabytes_at_last": round(self.megabytes[-1], 1),
            f"megabytes_per_1000_{of}": round(1000 * float(slope), 3),
            "megabytes_grown": round(float(slope) * span, 2),
            f"{of}_per_second": round(self.done[-1] / (time.monotonic() - self.started), 2),
        }


def soak_training(steps: int, folder: Path, workers: int, gpu: bool) -> dict[str, Any]:
    """Train, with validation and saving as always."""
    recipe = replace(find_recipe(MODEL, "toy", "tiny"), batch=BATCH)
    torch.manual_seed(0)
    matcher = registry.create(MODEL, **recipe.model)
    train, test = NamedPairs.parse("toy", "train", None), NamedPairs.parse("toy", "validation", None)
    pairs = PairDataset(
        train.open(TRAINED_ON),
        matcher.size,
        matcher.mean,
        matcher.std,
        augment=recipe.augmentation,
        seed=0,
        points=recipe.points,
    )
    accelerator = Accelerator(cpu=not gpu)
    metric = selection_metric(recipe, "toy", MODEL, matcher.size)
    validation = Validation(matcher, test.open(8), metric, "toy", accelerator, workers)
    training = MatcherTraining(
        matcher,
        recipe,
        pairs,
        RunFolder(folder),
        accelerator,
        validate=validation,
        seed=0,
        max_steps=steps,
        workers=workers,
    )
    memory, step, every = Memory(), training._step, max(1, steps // SAMPLES)

    def sampled(batch: dict[str, Any]) -> float:
        loss = step(batch)
        if (training.position.step + 1) % every == 0:
            memory.sample(training.position.step + 1)
        return loss

    training._step = sampled  # type: ignore[method-assign]
    training.run()
    return memory.summary("steps")


def soak_evaluation(count: int, folder: Path, workers: int, gpu: bool) -> dict[str, Any]:
    """Evaluate the test split again and again."""
    recipe = find_recipe(MODEL, "toy", "tiny")
    matcher = registry.create(MODEL, **recipe.model).eval()
    rows = NamedPairs.parse("toy", "test", None).open()
    rows = rows.select(range(min(len(rows), max(1, count // 12))))  # at least a dozen samples
    memory, done, accelerator = Memory(), 0, Accelerator(cpu=not gpu)
    while done < count:
        info = PredictionInfo("toy", "test", MODEL, matcher.size, "soak", "0" * 64, matcher.direction)
        evaluate(matcher, rows, folder / "predictions/toy-test.parquet", info, accelerator, workers)
        done += len(rows)
        memory.sample(done)
    return memory.summary("pairs")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run it from the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=10_000, help="0: none")
    parser.add_argument("--pairs", type=int, default=100_000, help="0: none")
    parser.add_argument("--workers", type=int, default=0, help="processes that load pairs")
    parser.add_argument("--most", type=float, default=10.0, help="megabytes that memory may grow by in each part")
    parser.add_argument("--gpu", action="store_true", help="on the GPU, if there is one")
    given = parser.parse_args(arguments)
    found = {}
    with tempfile.TemporaryDirectory() as name:
        for part, soak, count in (
            ("training", soak_training, given.steps),
            ("evaluation", soak_evaluation, given.pairs),
        ):
            if count:
                found[part] = soak(count, Path(name, "run"), given.workers, given.gpu)
                print(json.dumps({part: found[part]}), flush=True)
    return 1 if any(part["megabytes_grown"] > given.most for part in found.values()) else 0


if __name__ == "__main__":
    sys.exit(main())
