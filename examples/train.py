"""Train a model on the embedded set or on a folder that `scbench generate` wrote; score it before and after.

    python examples/train.py                                  # CATs on the embedded set: some minutes on two cores
    python examples/train.py --data my-set --eval pf-willow   # on a set of yours, scored on real photographs

It goes on where it was when it is started again. `scbench run` does the same, with every option.
"""

import argparse
from pathlib import Path

import baselines
import benchmark
from benchmark.running.arguments import RunOptions
from benchmark.running.run import execute

parser = argparse.ArgumentParser()
parser.add_argument("--model", default="cats")
parser.add_argument("--data", default="toy", help="a name of 'scbench data list', or the folder of a set")
parser.add_argument("--eval", default="toy", help="NAME or NAME:SPLIT of the data to score on")
parser.add_argument("--preset", default="tiny", help="paper, small or tiny")
parser.add_argument("--set", action="append", default=[], help="recipe.KEY=VALUE")
parser.add_argument("--runs", type=Path, default=Path("runs"))
parser.add_argument("--limit", type=int, help="train and score on so many pairs only")
parser.add_argument("--steps", type=int, help="end the training after so many steps")
told = parser.parse_args()

asked = {"preset": told.preset, "runs": told.runs, "limit": told.limit}
settings = dict(setting.split("=", 1) for setting in told.set)
before = execute(RunOptions(told.model, evaluate=(told.eval,), settings=settings, **asked))
after = execute(RunOptions(told.model, finetune=told.data, settings=settings, max_steps=told.steps, **asked))

folder = told.runs / told.model / after.run
model = baselines.load_model(folder)
found = benchmark.evaluate(model, told.eval, limit=told.limit)
[untrained] = before.metrics.values()
name = next(name for name in untrained if name.startswith("pck@0.1/"))
print(f"PCK@0.1 on {told.eval}: {untrained[name]['value']:.1f} untrained ({name}), {found.pck(0.1):.1f} trained")
print(f"use it: baselines.load_model({str(folder)!r})")
