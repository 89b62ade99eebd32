"""Pairs as Parquet: what releases are converted into, generated sets are written in, and all is read from.

    <folder>/<config>/<split>-00000-of-00008.parquet   columns of ``schema``; class names in the schema itself
    <folder>/<config>/<split>.json                     the record, written last

A folder of shards without a record (made by another program) is read through once to make one.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from datasets import Features

from sc_imagenet.content_hash import ContentHash
from sc_imagenet.errors import InputError
from sc_imagenet.files import atomic_path, read_json, write_json
from sc_imagenet.plain_lists import with_plain_lists
from sc_imagenet.schema import image_features, pair_features, without_images

FORMAT = 1
SHARD_ROWS = 8_192
FEWEST_SHARDS = 8  # of a split that has rows enough, so that processes and loaders have parts to share
WHERE_IMAGES_LIE = ("source", "target", "image", "source_size", "target_size", "size")


@dataclass(frozen=True)
class Shard:
    """One Parquet file of a split."""

    file: str
    rows: int
    bytes: int


@dataclass(frozen=True)
class Record:
    """What is known of a split in Parquet without opening it.

    ``manifest_sha256`` identifies the pairs and their annotations: the same on every machine, whether the
    images are at hand or not and however the rows are cut into files. ``content_sha256`` also covers image
    paths and sizes.
    """

    dataset: str
    config: str
    split: str
    rows: int
    images: int
    points: int
    points_outside: int
    categories: tuple[str, ...]
    manifest_sha256: str
    content_sha256: str
    shards: tuple[Shard, ...]
    folder: Path = field(compare=False)
    format: int = FORMAT

    @property
    def files(self) -> list[Path]:
        """The Parquet files, in order."""
        return [self.folder / shard.file for shard in self.shards]


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


def make_record(folder: Path, dataset: str, config: str, split: str, points_outside: int = 0) -> Record:
    """Read a split's shards through once, check them, and write its record beside them."""
    record = scan(folder, dataset, config, split, points_outside)
    save_record(record, folder / f"{split}.json")
    return record


def save_record(record: Record, path: Path) -> None:
    """Write a record as JSON."""
    content = asdict(record)
    del content["folder"]
    write_json(path, content)


def read_record(folder: Path, split: str) -> Record | None:
    """The record beside a split's shards, or None if there is none of today's format."""
    path = folder / f"{split}.json"
    return load_record(path, folder) if path.exists() else None


def load_record(path: Path, folder: Path) -> Record | None:
    """Read a record of the shards in ``folder``; None if it is of another format.

    Raises:
        InputError: it is damaged, or a shard it names is missing or not of the size written then.
    """
    content = read_json(path)
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        return None
    try:
        shards = tuple(Shard(**shard) for shard in content.pop("shards"))
        content["categories"] = tuple(content["categories"])
        record = Record(**content, folder=folder, shards=shards)
    except (KeyError, TypeError) as error:
        raise InputError(f"is not a record of Parquet shards ({error})", where=path) from error
    for shard, file in zip(shards, record.files):
        size = file.stat().st_size if file.exists() else None
        if size != shard.bytes:
            state = "is missing" if size is None else f"has {size:,} bytes, {shard.bytes:,} were written"
            raise InputError(
                f"{state}; {path.name} names it",
                where=file,
                fix="Get the file again, or convert again with force (scbench data convert --force).",
            )
    return record


def scan(folder: Path, dataset: str, config: str, split: str, points_outside: int = 0) -> Record:
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
    shards, rows, points = [], 0, 0
    categories: tuple[str, ...] | None = None
    identifier = "image_id" if config == "images" else "pair_id"
    for path in paths:
        parquet = open_parquet(path)
        names = category_names(parquet.schema_arrow, path)
        categories = categories or names
        schema = features_of(config, categories).arrow_schema
        lacking = [name for name in schema.names if name not in parquet.schema_arrow.names]
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
        manifest_sha256=content.hexdigest(categories, without=WHERE_IMAGES_LIE),
        content_sha256=content.hexdigest(categories),
        shards=tuple(shards),
        folder=folder,
    )


def open_parquet(path: Path) -> pq.ParquetFile:
    """Open a Parquet file.

    Raises:
        InputError: missing, truncated, or not Parquet.
    """
    try:
        return pq.ParquetFile(path, memory_map=True)
    except FileNotFoundError as error:
        raise InputError("no such file", where=path) from error
    except (pa.ArrowException, OSError) as error:
        raise InputError(
            f"is not a whole Parquet file ({error})", where=path, fix="Get or make the file again."
        ) from error


def read_batches(parquet: pq.ParquetFile, schema: pa.Schema, path: Path) -> Iterable[pa.Table]:
    """The tables of a Parquet file, a row group at a time, in the columns of the schema.

    Raises:
        InputError: the file breaks off or is damaged inside.
    """
    try:
        for batch in parquet.iter_batches(SHARD_ROWS, columns=schema.names):
            yield pa.table(batch).select(schema.names).cast(schema)
    except (pa.ArrowException, OSError) as error:
        raise InputError(f"is damaged ({error})", where=path, fix="Get or make the file again.") from error


def category_names(schema: pa.Schema, path: Path) -> tuple[str, ...]:
    """The class names that a shard's schema carries.

    Raises:
        InputError: it carries none.
    """
    try:
        return tuple(Features.from_arrow_schema(schema)["category"].names)
    except (KeyError, AttributeError, TypeError) as error:
        raise InputError(
            "carries no class names",
            where=path,
            fix="Write it with sc_imagenet.shards.write_pairs, or with pair_features(...).arrow_schema.",
        ) from error


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
