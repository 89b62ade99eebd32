"""Pairs as Parquet: what releases are converted into, generated sets are written in, and all is read from.

    <folder>/<config>/<split>-00000-of-00008.parquet   columns of ``schema``; class names in the schema itself
    <folder>/<config>/<split>.json                     the record (see ``record``), written last

A folder of shards without a record (made by another program) is read through once to make one.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from datasets import Features

from sc_imagenet.core.errors import LEADS_OUT, LONGEST, STEERING, InputError
from sc_imagenet.core.files import atomic_path
from sc_imagenet.data.parquet import ContentHash, parquet_file, with_plain_lists
from sc_imagenet.data.record import Record, Shard, check_categories, save_record
from sc_imagenet.data.schema import ADDED, image_features, pair_features, without_images

SHARD_ROWS = 8_192
FEWEST_SHARDS = 8  # of a split that has rows enough, so that processes and loaders have parts to share
WHERE_IMAGES_LIE = ("source", "target", "image", "source_size", "target_size", "size")


def features_of(config: str, categories: Sequence[str]) -> Features:
    """The columns of a config: "images" is a listing of images, all else are pairs."""
    return image_features(categories) if config == "images" else pair_features(categories)


def shard_rows(total: int) -> int:
    """Rows a shard for a split of that many.

    >>> shard_rows(540), shard_rows(794_612)
    (68, 8192)
    """
    return min(SHARD_ROWS, max(1, -(-total // FEWEST_SHARDS)))


def shard_name(split: str, index: int, count: int) -> str:
    """The file name of a shard.

    >>> shard_name("train", 3, 16)
    'train-00003-of-00016.parquet'
    """
    return f"{split}-{index:05d}-of-{count:05d}.parquet"


def write_shard(path: Path, rows: list[dict[str, Any]], schema: pa.Schema) -> None:
    """Write rows, plain Python values in the columns of the schema, as one Parquet file, atomically."""
    table = pa.Table.from_pylist(rows, schema=schema)
    with atomic_path(path) as temporary:
        pq.write_table(with_plain_lists(table), temporary, row_group_size=2_048)


def write_pairs(
    root: Path | str,
    split: str,
    rows: Iterable[dict[str, Any]],
    categories: Sequence[str],
    total: int,
    dataset: str = "sc-imagenet",
) -> Record:
    """Write pairs in the form ``load_dataset("sc_imagenet", root=root)`` reads; for generated sets.

    ``rows`` are dicts with the columns of ``schema.pair_features`` (a column left out is null); ``source``
    and ``target`` are ``{"path": ..., "bytes": None}``, the path relative to the image root. ``total`` is
    how many rows there will be.
    """
    folder = Path(root) / "pairs"
    schema = without_images(pair_features(categories)).arrow_schema
    rows, size = iter(rows), shard_rows(total)
    count = max(1, -(-total // size))
    for index in range(count):
        write_shard(folder / shard_name(split, index, count), list(islice(rows, size)), schema)
    return make_record(folder, dataset, "pairs", split)


def make_record(
    folder: Path, dataset: str, config: str, split: str, points_outside: int = 0, manifest: str | None = None
) -> Record:
    """Read a split's shards through once, check them, and write its record beside them.

    ``manifest`` is the hash of the annotations where the shards hold them turned with their images.
    """
    record = scan_shards(folder, dataset, config, split, points_outside)
    if manifest is not None:
        record = replace(record, manifest_sha256=manifest)
    save_record(record, folder / f"{split}.json")
    return record


def scan_shards(folder: Path, dataset: str, config: str, split: str, points_outside: int = 0) -> Record:
    """Read every shard of a split: count, check, and hash the content.

    Raises:
        InputError: no shards, a truncated one, columns missing, no rows, points that are not finite or not
            as many on both sides, or the same pair id twice.
    """
    paths = sorted(folder.glob(f"{split}-*.parquet"))
    if not paths:
        raise InputError(f"holds no {split}-*.parquet", where=folder)
    content = ContentHash()
    images: set[str] = set()
    ids: set[str] = set()
    told: set[str] = set()  # of the columns that version 2 added, those that hold anything
    shards, rows, points = [], 0, 0
    categories: tuple[str, ...] | None = None
    identifier = "image_id" if config == "images" else "pair_id"
    for path in paths:
        parquet = open_parquet(path)
        names = category_names(parquet.schema_arrow, path)
        categories = categories or names
        schema = features_of(config, categories).arrow_schema
        known = {*parquet.schema_arrow.names, *ADDED}
        lacking = [name for name in schema.names if name not in known]
        if lacking or names != categories:
            what = f"lacks the columns {', '.join(lacking)}" if lacking else "has other classes than the first"
            raise InputError(what, where=path, fix="Shards of one split share one schema (schema.py).")
        for table in read_batches(parquet, schema, path):
            found = table[identifier].to_pylist()
            before = len(ids)
            ids.update(found)
            if len(ids) != before + len(found):
                raise InputError(f"holds a {identifier} that was there before", where=path)
            if config != "images":
                points += _check_points(table, path)
            for column in ("source", "target", "image"):
                if column in table.column_names:
                    images.update(pc.struct_field(table[column], "path").to_pylist())
            content.add(table)
            told.update(name for name in ADDED if name in table.column_names and table[name].null_count < len(table))
        shards.append(Shard(path.name, parquet.metadata.num_rows, path.stat().st_size))
        rows += parquet.metadata.num_rows
    if not rows:
        raise InputError("holds no rows", where=paths[0])
    assert categories is not None
    return Record(
        dataset=dataset,
        config=config,
        split=split,
        rows=rows,
        images=len(images - {None}),
        points=points,
        points_outside=points_outside,
        categories=categories,
        # Neither changes for what version 2 added where nothing of it is told.
        manifest_sha256=content.hexdigest(categories, without=(*WHERE_IMAGES_LIE, *ADDED)),
        content_sha256=content.hexdigest(categories, without=[name for name in ADDED if name not in told]),
        shards=tuple(shards),
        folder=folder,
    )


def open_parquet(path: Path) -> pq.ParquetFile:
    """Open a Parquet file.

    Raises:
        InputError: missing, truncated, not Parquet, or of more values than its bytes can hold.
    """
    return parquet_file(path, memory_map=True)


def read_batches(parquet: pq.ParquetFile, schema: pa.Schema, path: Path) -> Iterable[pa.Table]:
    """The tables of a Parquet file, a row group at a time, in the columns of the schema.

    Raises:
        InputError: the file breaks off, is damaged inside, or holds what no pair may have (see ``check_rows``).
    """
    here = [name for name in schema.names if name in parquet.schema_arrow.names or name not in ADDED]
    batches = iter(parquet.iter_batches(SHARD_ROWS, columns=here))
    while True:
        try:
            batch = next(batches, None)
            if batch is None:
                return
            table = pa.table(batch)
            for name in schema.names:
                if name in ADDED and name not in table.column_names:  # written before version 2
                    table = table.append_column(name, pa.nulls(len(table), schema.field(name).type))
            table = table.select(schema.names).cast(schema)
            table.validate(full=True)
        except Exception as error:  # a decoder given malformed bytes may raise anything at all
            raise InputError(f"is damaged ({error})", where=path, fix="Get or make the file again.") from error
        check_rows(table, path)
        yield table


def check_rows(table: pa.Table, path: Path) -> None:
    """Check what a stranger may have written: names that lead out or steer a terminal, classes that are none.

    Raises:
        InputError: as above; or a pair or image without an id, a class or a path.
    """
    for name in ("pair_id", "image_id", "dataset"):
        if name in table.column_names:
            column = table[name]
            if column.null_count:
                raise InputError(f"holds rows without {name}", where=path)
            _refuse(column, pc.match_substring_regex(column, STEERING), f"has the {name}", path)
            _refuse(column, pc.greater(pc.utf8_length(column), LONGEST), f"has the {name}", path)
    for name in ("source", "target", "image"):
        if name in table.column_names:
            if table[name].null_count:
                raise InputError(f"holds rows without {name}", where=path)
            images = table[name].combine_chunks()
            column = pc.struct_field(images, "path")
            if pc.any(pc.and_(pc.is_null(column), pc.is_null(pc.struct_field(images, "bytes")))).as_py():
                raise InputError(f"holds a {name} that is neither a path nor an image", where=path)
            bad = pc.match_substring_regex(column, f"{LEADS_OUT}|{STEERING}")
            _refuse(column, bad, f"names a {name} outside the data set,", path)
    if "category" in table.column_names:
        count = len(Features.from_arrow_schema(table.schema)["category"].names)
        known = pc.and_(pc.greater_equal(table["category"], 0), pc.less(table["category"], count))
        if len(table) and not pc.all(pc.fill_null(known, False)).as_py():
            raise InputError(f"holds a class that is none of its {count}", where=path)


def _refuse(column: pa.ChunkedArray | pa.Array, bad: Any, what: str, path: Path) -> None:
    if pc.any(bad).as_py():
        value = column.filter(pc.fill_null(bad, False))[0].as_py()
        fix = "Paths are relative to the folder of images; do not trust this file if it is not yours."
        raise InputError(f"{what} {value[:80]!r}", where=path, fix=fix if "outside" in what else None)


def category_names(schema: pa.Schema, path: Path) -> tuple[str, ...]:
    """The class names in a shard's schema.

    Raises:
        InputError: it has none.
    """
    try:
        names = tuple(Features.from_arrow_schema(schema)["category"].names)
    except Exception as error:  # the metadata is whatever a stranger wrote
        raise InputError(
            "has no class names",
            where=path,
            fix="Write it with sc_imagenet.data.shards.write_pairs, or with pair_features(...).arrow_schema.",
        ) from error
    check_categories(names, path)
    return names


def _check_points(table: pa.Table, path: Path) -> int:
    source, target = (table[f"{side}_points"].combine_chunks() for side in ("source", "target"))
    lengths = [pc.fill_null(pc.list_value_length(points), 0).to_numpy() for points in (source, target)]
    wrong = np.flatnonzero((lengths[0] != lengths[1]) | (lengths[0] == 0))
    if len(wrong):
        pair, counts = table["pair_id"][int(wrong[0])], [int(length[wrong[0]]) for length in lengths]
        raise InputError(
            f"pair {pair} has {counts[0]} source points and {counts[1]} target points; there must be some, and as many",
            where=path,
        )
    for points in (source, target):
        finite = np.isfinite(points.flatten().flatten().to_numpy(zero_copy_only=False)).reshape(-1, 2).all(1)
        if not finite.all():
            row = int(np.searchsorted(np.cumsum(lengths[0]), np.flatnonzero(~finite)[0], side="right"))
            raise InputError(f"pair {table['pair_id'][row]} has a point that is not a number", where=path)
    return int(lengths[0].sum())
