"""Makes a folder of many runs on SPair-71k's number of pairs, and measures how long a report of them takes.

    python -m tests.scale.many_runs make FOLDER --runs 200 --pairs 12234
    python -m tests.scale.many_runs measure FOLDER          one JSON line: time, peak memory, size of the page

The runs are written by the functions that real runs use, from one set of pairs and other predictions each. A run
is scored once, with few bootstrap draws; the figures asked for are in tests/scale/test_many_runs.py, which does
the same on a small scale.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

ROOT = Path(__file__).parents[2]
CATEGORIES = 18
MODELS = ("cats", "vat", "dhpf", "transformatcher", "scorrsan")
POINTS = 8


def make(runs: Path, count: int, pairs: int) -> None:
    """Write ``count`` runs; half of them predict into the target, half into the source."""
    import pyarrow as pa

    from benchmark.scoring.prediction_files import PREDICTION_SCHEMA, write_predictions
    from benchmark.scoring.predictions import PredictionInfo
    from benchmark.scoring.protocol import published_protocol
    from benchmark.scoring.result import EvaluatedData, Result, write_result
    from benchmark.scoring.runs import score_run

    random = np.random.default_rng(0)
    true = random.uniform(0, (500, 375), (pairs * POINTS, 2)).astype(np.float32)

    def fixed(values: np.ndarray, kind: pa.DataType) -> pa.Array:
        return pa.FixedSizeListArray.from_arrays(pa.array(values.ravel(), kind.value_type), kind.list_size)

    def points(values: np.ndarray) -> pa.Array:
        kind = PREDICTION_SCHEMA.field("source_points").type.value_type
        return pa.ListArray.from_arrays(pa.array(np.arange(pairs + 1, dtype=np.int32) * POINTS), fixed(values, kind))

    size = fixed(np.tile(np.int32([500, 375]), (pairs, 1)), PREDICTION_SCHEMA.field("source_size").type)
    box = fixed(np.tile(np.float32([40, 30, 400, 330]), (pairs, 1)), PREDICTION_SCHEMA.field("source_bbox").type)
    truth = points(true)
    for number in range(count):
        model = MODELS[number % len(MODELS)]
        known = published_protocol(model)
        assert known is not None
        assert known.frame is not None
        run = f"{number:012x}"
        folder = runs / model / run
        table = pa.table(
            {
                "pair_id": [f"{pair:06d}" for pair in range(pairs)],
                "category": [f"category{pair % CATEGORIES}" for pair in range(pairs)],
                "source_size": size,
                "target_size": size,
                "source_bbox": box,
                "target_bbox": box,
                "source_points": truth,
                "target_points": truth,
                "predicted_points": points(true + random.normal(0, 15 + number % 40, true.shape).astype(np.float32)),
                "direction": [known.direction] * pairs,
            }
        )
        info = PredictionInfo("spair-71k", "test", model, known.frame, run, "5" * 64, known.direction)
        write_predictions(folder / "predictions" / "spair-71k-test.parquet", table, info)
        metrics, categories = score_run(folder, draws=2)
        steps = range(10, 20_000, 10)
        with open(folder / "log.jsonl", "w", encoding="utf-8") as log:
            log.writelines(json.dumps({"step": s, "loss": 2 / s**0.5, "lr": [3e-5]}) + "\n" for s in steps)
        result = Result(
            run=run,
            model=model,
            title=model,
            supervision="keypoints",
            backbone="resnet101.tv_in1k",
            pretrain="sc-imagenet" if number % 2 else None,
            finetune="spair-71k",
            preset="paper",
            recipe={"lr": 3e-5, "batch": 32},
            seed=number,
            direction=known.direction,
            size=known.frame,
            data=(EvaluatedData("spair-71k", "test", "5" * 64, pairs),),
            metrics=metrics,
            per_category=categories,
            seconds=1000.0 + number,
            weights_sha256=f"{number:064x}",
            peak_memory=10**9,
        )
        write_result(folder, result)


# The kernel's own count of this program's memory: that of ``getrusage`` begins with the process it was forked from.
REPORT = """
import re, sys
from benchmark.cli import main
try:
    main()
finally:
    print(re.search(r"VmHWM:\\s*(\\d+) kB", open("/proc/self/status").read())[1], file=sys.stderr)
"""


def measure(runs: Path) -> dict[str, float]:
    """Seconds and megabytes of ``scbench report`` in a process of its own, and the page's size in MB."""
    with tempfile.TemporaryDirectory() as out:
        command = [sys.executable, "-c", REPORT, "report", "--runs", str(runs), "--out", out]
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        began = time.perf_counter()
        done = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True)
        seconds = time.perf_counter() - began
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        processor = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
        peak = int(done.stderr.split()[-1]) / 1024
        size = (Path(out) / "report.html").stat().st_size
        return {"seconds": seconds, "processor_seconds": processor, "peak_mb": peak, "html_mb": size / 1e6}


def main() -> None:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("what", choices=["make", "measure"])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--runs", type=int, default=200)
    parser.add_argument("--pairs", type=int, default=12_234)
    given = parser.parse_args()
    if given.what == "make":
        make(given.folder, given.runs, given.pairs)
    else:
        print(json.dumps({name: round(value, 2) for name, value in measure(given.folder).items()}))


if __name__ == "__main__":
    main()
