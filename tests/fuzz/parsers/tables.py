"""Parquet and what lies beside it: shards of pairs, their records, stored predictions."""

from __future__ import annotations

import io
import json
from collections.abc import Sequence
from pathlib import Path
from random import Random
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from benchmark.scoring import pck
from benchmark.scoring.prediction_files import METADATA_KEY, PREDICTION_SCHEMA, PREDICTIONS_VERSION, read_predictions
from benchmark.scoring.runs import metrics_of
from sc_imagenet.data import shards
from sc_imagenet.data.load import _with_absolute_paths
from sc_imagenet.data.parquet import with_plain_lists
from sc_imagenet.data.record import read_record
from sc_imagenet.data.schema import pair_features
from tests.fuzz.mutations import NAMES, json_text, odd_value, spoilt_bytes, spoilt_json
from tests.fuzz.parser import Parser

CATEGORIES = ("cat", "dog")
PAIR = {
    "pair_id": "1-a-b:cat",
    "dataset": "sc-imagenet",
    "category": 0,
    "source": {"path": "cat/a.png", "bytes": None},
    "target": {"path": "cat/b.png", "bytes": None},
    "source_size": [40, 30],
    "target_size": [40, 30],
    "source_points": [[1.0, 2.0], [3.0, 4.0]],
    "target_points": [[1.5, 2.5], [3.5, 4.5]],
    "source_bbox": [0.0, 0.0, 30.0, 20.0],
    "mirrored": False,
    "pair_score": 1.5,
}
PREDICTION = {
    "pair_id": "1",
    "category": "cat",
    "source_size": [40, 30],
    "target_size": [40, 30],
    "source_bbox": [0.0, 0.0, 30.0, 20.0],
    "target_bbox": None,
    "source_points": [[1.0, 2.0], [3.0, 4.0]],
    "target_points": [[1.5, 2.5], [3.5, 4.5]],
    "predicted_points": [[1.0, 2.5], [9.5, 4.5]],
    "direction": "forward",
}
INFO = {
    "version": PREDICTIONS_VERSION,
    "dataset": "toy",
    "split": "test",
    "model": "cats",
    "size": 256,
    "run": "r",
    "manifest_sha256": "m",
    "direction": "forward",
}


def parquet(table: pa.Table, **options: Any) -> bytes:
    """A table as the bytes of a file."""
    file = io.BytesIO()
    pq.write_table(table, file, **options)
    return file.getvalue()


def pairs_table(*changes: dict[str, Any]) -> pa.Table:
    """Two pairs, or as many as there are changes."""
    rows = [{**PAIR, "pair_id": f"{n}-a-b:cat", **change} for n, change in enumerate(changes or ({}, {}))]
    return with_plain_lists(pa.Table.from_pylist(rows, schema=pair_features(CATEGORIES).arrow_schema))


def predictions_table(info: str | bytes, *changes: dict[str, Any]) -> pa.Table:
    """Two stored predictions, or as many as there are changes, under the metadata given."""
    rows = [{**PREDICTION, "pair_id": str(number), **change} for number, change in enumerate(changes or ({}, {}))]
    table = with_plain_lists(pa.Table.from_pylist(rows, schema=PREDICTION_SCHEMA))
    return table.replace_schema_metadata({METADATA_KEY: info})


def _spoilt_table(rng: Random, seeds: Sequence[bytes]) -> bytes:
    """Bytes exchanged, or a well-formed file with columns, values or metadata of other kinds."""
    if rng.random() < 0.5:
        return spoilt_bytes(rng, seeds)
    try:
        return _odd_table(rng, seeds)
    except (pa.ArrowException, IndexError, TypeError, ValueError, OverflowError, UnicodeError):
        return spoilt_bytes(rng, seeds)  # Parquet cannot hold every table that is drawn


def _odd_table(rng: Random, seeds: Sequence[bytes]) -> bytes:
    table = pq.read_table(io.BytesIO(rng.choice(seeds)))
    for _ in range(rng.choice((1, 1, 2))):
        table = _changed_table(rng, table)
    if rng.random() < 0.3:
        metadata = dict(table.schema.metadata or {})
        key = rng.choice(sorted(metadata) or [b"x"])
        metadata[key] = spoilt_json(rng, [metadata.get(key, b"{}")])
        table = table.replace_schema_metadata(metadata)
    return parquet(table, compression=rng.choice(("snappy", "none", "zstd", "gzip")))


def _changed_table(rng: Random, table: pa.Table) -> pa.Table:
    names = table.column_names
    name = rng.choice(names)
    place = names.index(name)
    kind = rng.randrange(6)
    if kind == 0:
        return table.drop_columns([name])
    if kind == 1:
        return table.slice(0, rng.choice((0, 1)))
    if kind == 2:
        return pa.concat_tables([table, table])
    values = table[name].to_pylist()
    if kind == 3 and values:
        values[rng.randrange(len(values))] = None
        return table.set_column(place, table.schema.field(name), pa.array(values, table.schema.field(name).type))
    try:
        odd = _odd_like(rng, values[0] if values else None)
        if kind == 4 and values:
            values[rng.randrange(len(values))] = odd
            return table.set_column(place, table.schema.field(name), pa.array(values, table.schema.field(name).type))
        return table.set_column(place, name, pa.array([odd] * len(table)))
    except (pa.ArrowException, TypeError, ValueError, OverflowError, AttributeError):
        return table.rename_columns([f"{each}x" if each == name else each for each in names])


def _odd_like(rng: Random, value: Any) -> Any:
    if isinstance(value, dict):
        return {**value, rng.choice(sorted(value)): rng.choice((None, rng.choice(NAMES), b"\xff\xd8junk"))}
    if isinstance(value, list):
        changed = [_odd_like(rng, each) if rng.random() < 0.5 else each for each in value]
        return rng.choice(([], changed, changed + changed, None))
    if isinstance(value, str):
        return rng.choice(NAMES)
    if isinstance(value, float):
        return rng.choice((float("nan"), float("inf"), -1e38, 3e38, 1e-40))
    return odd_value(rng)


def _shard(content: bytes, folder: Path) -> None:
    home = folder / "pairs"
    home.mkdir(exist_ok=True)
    file = home / "train-00000-of-00001.parquet"
    file.write_bytes(content)
    record = shards.make_record(home, "sc-imagenet", "pairs", "train")
    assert record.categories
    schema = shards.features_of("pairs", record.categories).arrow_schema
    for table in shards.read_batches(shards.open_parquet(file), schema, file):
        for row in _with_absolute_paths(table, str(folder)).to_pylist():
            path = Path(row["source"]["path"] or folder / "embedded")
            assert path.resolve().is_relative_to(folder.resolve()), f"leads out: {path}"
            assert 0 <= row["category"] < len(record.categories)
            assert row["pair_id"]


def _record(content: bytes, folder: Path) -> None:
    (folder / "train-00000-of-00001.parquet").write_bytes(parquet(pairs_table()))
    (folder / "train.json").write_bytes(content)
    record = read_record(folder, "train")
    if record is not None:
        assert all(file.parent == folder for file in record.files), "leads out"
        assert record.rows + record.images + record.points >= 0
        shards.features_of("pairs", record.categories)
        assert f"{record.manifest_sha256} {record.rows:,} {', '.join(record.categories)}"


def _record_seeds() -> list[bytes]:
    content = {
        **{"dataset": "sc-imagenet", "config": "pairs", "split": "train", "rows": 2, "images": 2, "points": 4},
        **{"points_outside": 0, "categories": ["cat", "dog"], "manifest_sha256": "a" * 64, "content_sha256": "b" * 64},
        "shards": [{"file": "train-00000-of-00001.parquet", "rows": 2, "bytes": len(parquet(pairs_table()))}],
        "format": 1,
    }
    return [json.dumps(content).encode()]


def _predictions(content: bytes, folder: Path) -> None:
    file = folder / "toy-test.parquet"
    file.write_bytes(content)
    found = read_predictions(file)
    metrics = metrics_of(found)
    pck.score_metrics(found, metrics, draws=5)
    pck.per_category(found, metrics[0])


def _predictions_metadata(content: bytes, folder: Path) -> None:
    _predictions(parquet(predictions_table(content)), folder)


def _prediction_seeds() -> list[bytes]:
    return [parquet(predictions_table(json_text(Random(0), INFO))), parquet(predictions_table(json.dumps(INFO), {}))]


PARSERS = [
    Parser("parquet-shard", lambda: [parquet(pairs_table()), parquet(pairs_table({}))], _shard, _spoilt_table, 4),
    Parser("shard-record", _record_seeds, _record, spoilt_json, 4),
    Parser("predictions", _prediction_seeds, _predictions, _spoilt_table, 3),
    Parser("predictions-metadata", lambda: [json.dumps(INFO).encode()], _predictions_metadata, spoilt_json, 2),
]
