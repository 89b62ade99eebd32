"""As many pairs and images as SPair-71k's test split has: encodings, time and memory of an evaluation.

python -m tests.scale.few_images --features memory --limit 200
python -m tests.scale.few_images --features off --pairs 1000
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from pathlib import Path

import datasets
import numpy as np
import torch
from PIL import Image

from baselines.nearest import Nearest
from benchmark.running.encoding import EncodedPairs
from benchmark.running.evaluate import CHUNK, predict_rows
from benchmark.running.features import MB, MODES
from benchmark.running.folder import process_memory
from sc_imagenet.core.processes import keep_freed_memory
from sc_imagenet.data.pairs import PairDataset
from sc_imagenet.data.schema import pair_features

PAIRS, IMAGES, CATEGORIES = 12_234, 480, 18
POINTS = 8
SIDE = 160


def rows_of(folder: Path, pairs: int) -> datasets.Dataset:
    """Pairs of images of noise; those of a category follow one another, in an order drawn by chance."""
    draw = np.random.default_rng(0)
    paths = [folder / f"{number:03d}.jpg" for number in range(IMAGES)]
    for path in paths:
        coarse = Image.fromarray(draw.integers(0, 255, (12, 16, 3), dtype=np.uint8))
        coarse.resize((500, 375), Image.Resampling.BICUBIC).save(path)
    members = np.array_split(np.arange(IMAGES), CATEGORIES)
    columns: dict[str, list[object]] = {name: [] for name in ("category", "source", "target")}
    for category, each in enumerate(members):
        wanted = PAIRS // CATEGORIES + (category < PAIRS % CATEGORIES)
        ordered = [(a, b) for a in each for b in each if a != b]
        for place in draw.permutation(len(ordered))[:wanted]:
            columns["category"].append(category)
            for side, image in zip(("source", "target"), ordered[place]):
                columns[side].append({"path": str(paths[image]), "bytes": None})
    features = pair_features([f"class {number}" for number in range(CATEGORIES)])
    table = []
    for number in np.linspace(0, len(columns["source"]) - 1, pairs).round().astype(int).tolist():
        row = {name: column[number] for name, column in columns.items()} | {"pair_id": str(number), "mirrored": False}
        row |= dict.fromkeys(("viewpoint_variation", "scale_variation", "truncation", "occlusion"), -1)
        row |= {f"{side}_points": draw.uniform(0, 370, (POINTS, 2)).tolist() for side in ("source", "target")}
        table.append(dict.fromkeys(features) | {"dataset": "noise"} | row)
    return datasets.Dataset.from_list(table, features=features)


def main() -> None:
    """Print what an evaluation took, as JSON."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--features", choices=sorted(MODES), default="memory")
    options.add_argument("--limit", type=int, default=1000, help="MB of features in memory")
    options.add_argument("--pairs", type=int, default=PAIRS)
    options.add_argument("--size", type=int, default=SIDE)
    given = options.parse_args()
    keep_freed_memory()
    model = Nearest(size=given.size).eval()
    with tempfile.TemporaryDirectory() as folder:
        rows = rows_of(Path(folder), given.pairs)
        before = process_memory()
        started, used = time.perf_counter(), time.process_time()
        pairs = PairDataset(rows, model.size, model.mean, model.std)
        device = torch.device("cpu")
        encoded = EncodedPairs(
            model, pairs, "forward", device, features=given.features, limit=given.limit * MB, quiet=False
        )
        order = encoded.order()
        encoded.expect(order)
        for start in range(0, len(order), CHUNK):
            for _ in predict_rows(model, pairs, order[start : start + CHUNK], "forward", device, 0, encoded):
                pass
        found = {
            "features": given.features,
            "pairs": len(rows),
            "encodings": encoded.encodings,
            "seconds": round(time.perf_counter() - started, 1),
            "processor_seconds": round(time.process_time() - used, 1),
            "peak_mb_before": round(before / MB),
            "peak_mb": round(process_memory() / MB),
        }
    print(json.dumps(found))


if __name__ == "__main__":
    main()
