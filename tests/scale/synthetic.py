"""Makes data of the size of SC-ImageNet and measures how it is read.

    python tests/scale/synthetic.py release FOLDER --pairs 50000      pair files in the released layout
    python tests/scale/synthetic.py parquet FOLDER --pairs 794612     shards as generated sets have them
    python tests/scale/synthetic.py measure FOLDER                    convert, open, stream, random rows

``measure`` keeps what it converts under FOLDER/.cache and prints one JSON line; the figures asked for are in
tests/scale/test_synthetic_sets.py, which does the same on a small scale.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np

WNIDS = [f"n{10_000_000 + 37 * number:08d}" for number in range(679)]
POINTS = 32
SIDE = 500


def write_release(root: Path, pairs: int) -> None:
    """Pair files and a list as the authors release them, without images."""
    random = np.random.default_rng(0)
    (root / "Layout" / "large").mkdir(parents=True)
    folder = root / "PairAnnotation" / "trn"
    folder.mkdir(parents=True)
    lines = []
    for number in range(pairs):
        wnid = WNIDS[number % len(WNIDS)]
        line = f"{number:06d}-{number}-{number + 1}:{wnid}"
        points = random.uniform(0, SIDE - 1, (2, POINTS, 2)).round(2).tolist()
        content = {
            "src_kps": points[0],
            "trg_kps": points[1],
            "src_bndbox": [10, 10, 400, 400],
            "trg_bndbox": [5, 20, 300, 410],
            "category": wnid,
            "viewpoint_variation": 1,
            "scale_variation": 0,
            "truncation": 0,
            "occlusion": 2,
        }
        (folder / f"{line}.json").write_text(json.dumps(content))
        lines.append(line)
    (root / "Layout" / "large" / "trn.txt").write_text("\n".join(lines) + "\n")


def write_parquet(root: Path, pairs: int) -> None:
    """Shards with their record, columns filled by numpy; the images they name do not exist."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    from sc_imagenet.data import shards
    from sc_imagenet.data.schema import pair_features

    random = np.random.default_rng(0)
    folder = root / "pairs"
    folder.mkdir(parents=True)
    schema = pair_features(WNIDS).arrow_schema
    step = shards.shard_rows(pairs)
    count = -(-pairs // step)
    for index in range(count):
        numbers = range(index * step, min(pairs, (index + 1) * step))
        rows = len(numbers)
        wnids = [WNIDS[number % len(WNIDS)] for number in numbers]
        images = [{"bytes": None, "path": f"{wnid}/{wnid}_{number}.JPEG"} for wnid, number in zip(wnids, numbers)]
        columns = {
            "pair_id": [f"{number:06d}-{number}-{number}:{wnid}" for number, wnid in zip(numbers, wnids)],
            "dataset": ["sc-imagenet"] * rows,
            "category": [number % len(WNIDS) for number in numbers],
            "source": images,
            "target": images,
            "mirrored": [False] * rows,
            "pair_score": random.random(rows, dtype=np.float32),
        }
        for name in ("source_size", "target_size"):
            columns[name] = _fixed(np.full((rows, 2), SIDE, np.int32), 2)
        for name in ("source_bbox", "target_bbox"):
            columns[name] = _fixed(random.uniform(0, SIDE, (rows, 4)).astype(np.float32), 4)
        for name in ("source_points", "target_points"):
            points = random.uniform(0, SIDE, (rows, POINTS, 2)).astype(np.float32)
            columns[name] = _lists(_fixed(points, 2), rows)
        for name in ("confidence", "loop_offset"):
            columns[name] = _lists(pa.array(random.random(rows * POINTS, dtype=np.float32)), rows)
        for name in ("viewpoint_variation", "scale_variation", "truncation", "occlusion"):
            columns[name] = np.full(rows, -1, np.int8)
        arrays = [
            column
            if isinstance(column := columns.get(field.name, pa.nulls(rows, field.type)), pa.Array)
            else pa.array(column, field.type)
            for field in schema
        ]
        table = pa.Table.from_arrays(arrays, schema=schema)
        pq.write_table(table, folder / shards.shard_name("train", index, count), row_group_size=2_048)
    shards.make_record(folder, "sc-imagenet", "pairs", "train")


def measure(root: Path) -> dict[str, float]:
    """Seconds, megabytes and rows a second of the steps; each opening in a process of its own."""
    environment = {**os.environ, "SC_CACHE": str(root / ".cache"), "HF_HOME": str(root / ".cache" / "hf")}
    environment["PYTHONPATH"] = str(Path(__file__).parents[2])
    figures: dict[str, float] = {}
    for step in ("convert", "stream", "open", "open_again", "random"):
        command = [sys.executable, __file__, "step", str(root), step]
        done = subprocess.run(command, env=environment, check=True, capture_output=True, text=True)
        figures.update(json.loads(done.stdout.splitlines()[-1]))
    return figures


def run_step(root: Path, step: str) -> dict[str, float]:
    """One step of ``measure``, in this process."""
    import datasets
    import psutil

    import sc_imagenet
    from sc_imagenet.data.convert import convert

    datasets.disable_progress_bars()
    resident = psutil.Process().memory_info
    start = time.perf_counter()
    if step == "convert":
        rows = convert("sc-imagenet", "train", root).rows
        return {"pairs": rows, "convert_seconds": time.perf_counter() - start}
    if step == "stream":
        stream = sc_imagenet.load_dataset("sc_imagenet", split="train", root=root, streaming=True)
        stream = stream.cast_column("source", datasets.Image(decode=False))
        stream = stream.cast_column("target", datasets.Image(decode=False))
        next(iter(stream))
        first = time.perf_counter() - start
        start, rows = time.perf_counter(), sum(1 for _ in stream.take(20_000))
        return {
            "stream_first_row_seconds": first,
            "stream_rows_per_second": rows / (time.perf_counter() - start),
        }
    data = sc_imagenet.load_dataset("sc_imagenet", split="train", root=root)
    seconds = time.perf_counter() - start
    if step in ("open", "open_again"):
        name = "first_open" if step == "open" else "open"
        return {f"{name}_seconds": seconds, f"{name}_resident_mb": resident().rss / 1e6}
    names = [name for name in data.column_names if name not in ("source", "target")]
    indices = np.random.default_rng(0).integers(0, len(data), 4_000).tolist()
    undecoded = data.cast_column("source", datasets.Image(decode=False))
    undecoded = undecoded.cast_column("target", datasets.Image(decode=False))
    figures = {}
    for name, view in (("without_images", data.select_columns(names)), ("undecoded", undecoded)):
        view[0]
        start = time.perf_counter()
        for index in indices:
            view[index]
        figures[f"random_rows_per_second_{name}"] = len(indices) / (time.perf_counter() - start)
    return {**figures, "random_resident_mb": resident().rss / 1e6}


def _fixed(values: np.ndarray, length: int):  # type: ignore[no-untyped-def]
    import pyarrow as pa

    return pa.FixedSizeListArray.from_arrays(pa.array(values.reshape(-1)), length)


def _lists(values, rows: int):  # type: ignore[no-untyped-def]
    import pyarrow as pa

    return pa.ListArray.from_arrays(pa.array(np.arange(rows + 1, dtype=np.int32) * POINTS), values)


def main() -> None:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("what", choices=["release", "parquet", "measure", "step"])
    parser.add_argument("folder", type=Path)
    parser.add_argument("step", nargs="?")
    parser.add_argument("--pairs", type=int, default=50_000)
    given = parser.parse_args()
    if given.what == "release":
        write_release(given.folder, given.pairs)
    elif given.what == "parquet":
        write_parquet(given.folder, given.pairs)
    elif given.what == "measure":
        print(json.dumps({name: round(value, 3) for name, value in measure(given.folder).items()}))
    else:
        print(json.dumps(run_step(given.folder, given.step)))


if __name__ == "__main__":
    main()
