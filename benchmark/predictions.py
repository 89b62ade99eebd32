"""Stored predictions: what a model said, once, in original pixels; every PCK is computed from this file.

One Parquet file holds one data set's split scored by one model. It keeps the truth beside the prediction, so
that scoring needs no images, no model and no data set.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from sc_imagenet.errors import STEERING, InputError
from sc_imagenet.files import atomic_path
from sc_imagenet.names import LONGEST, check_names
from sc_imagenet.parquet import parquet_file
from sc_imagenet.plain_lists import with_fixed_lists, with_plain_lists

_POINTS = pa.list_(pa.list_(pa.float32(), 2))
_SIZE = pa.list_(pa.int32(), 2)
_BOX = pa.list_(pa.float32(), 4)

PREDICTION_SCHEMA = pa.schema(
    [
        ("pair_id", pa.string()),
        ("category", pa.string()),
        ("source_size", _SIZE),  # width, height
        ("target_size", _SIZE),
        ("source_bbox", _BOX),  # x_min, y_min, x_max, y_max, or null
        ("target_bbox", _BOX),
        ("source_points", _POINTS),  # original pixels of their images
        ("target_points", _POINTS),
        ("predicted_points", _POINTS),  # original pixels of the image they lie in, unrounded
        ("direction", pa.string()),  # "forward": they lie in the target; "backward": in the source
    ]
)
METADATA_KEY = b"sc_imagenet"
PREDICTIONS_VERSION = 1
MARK = 8  # digits of a manifest

_PER_PAIR = ("pair_ids", "categories", "directions", "sizes", "other_sizes", "boxes", "other_boxes")
_AGAIN = "Predict again with 'scbench run'."


@dataclass(frozen=True)
class PredictionInfo:
    """Where predictions come from; stored as JSON in the Parquet file's metadata.

    ``form`` names the data set of the catalogue that a generated one is like; None for one of the catalogue.
    """

    dataset: str
    split: str
    model: str  # the registry's name
    size: int  # side of the model's square frame
    run: str
    manifest_sha256: str
    direction: Literal["forward", "backward"]
    form: str | None = None
    images_sha256: str | None = None  # of the images predicted on, in the order of the pairs; None in older files

    @property
    def scored_as(self) -> str:
        """The data set of the catalogue whose protocol these pairs are scored under."""
        return self.form or self.dataset


@dataclass(frozen=True)
class Predictions:
    """The predictions of N pairs with P points in all, column by column.

    ``sizes`` and ``boxes`` are those of the image the predictions lie in, ``other_*`` those of the image that
    the given points lie in. The points of pair i are rows ``offsets[i]:offsets[i + 1]``.
    """

    pair_ids: np.ndarray  # (N,) str
    categories: np.ndarray  # (N,) str
    directions: np.ndarray  # (N,) str
    sizes: np.ndarray  # (N, 2) int64, width and height
    other_sizes: np.ndarray  # (N, 2)
    boxes: np.ndarray  # (N, 4) float64, NaN where there is none
    other_boxes: np.ndarray  # (N, 4)
    true: np.ndarray  # (P, 2) float64, original pixels
    predicted: np.ndarray  # (P, 2), same image
    other: np.ndarray  # (P, 2), the given points, original pixels of the other image
    offsets: np.ndarray  # (N + 1,) int64
    info: PredictionInfo

    def __len__(self) -> int:
        return len(self.pair_ids)

    @property
    def counts(self) -> np.ndarray:
        """Points of each pair, (N,)."""
        return np.diff(self.offsets)

    def subset(self, pair_ids: Sequence[str]) -> Predictions:
        """The pairs of these ids, in the order they have here.

        Raises:
            InputError: an id is not among the predictions, or none is asked for.
        """
        wanted = set(pair_ids)
        known = set(self.pair_ids.tolist())
        if missing := sorted(wanted - known):
            raise InputError(f"{len(missing)} of the {len(wanted)} pairs asked for are not here: {missing[0]!r}")
        if not wanted:
            raise InputError("the subset names no pair")
        return self.take(np.flatnonzero([pair in wanted for pair in self.pair_ids.tolist()]))

    def take(self, rows: np.ndarray) -> Predictions:
        """The pairs of these row numbers, in their order."""
        counts = self.counts[rows]
        offsets = np.concatenate([[0], np.cumsum(counts)])
        points = np.repeat(self.offsets[:-1][rows] - offsets[:-1], counts) + np.arange(offsets[-1])
        chosen = {name: getattr(self, name)[rows] for name in _PER_PAIR}
        chosen |= {name: getattr(self, name)[points] for name in ("true", "predicted", "other")}
        return replace(self, **chosen, offsets=offsets)


def prediction_file(dataset: str, split: str, mark: str = "") -> str:
    """The name of the file of predictions; ``mark`` tells a set from another of its name in the same run.

    >>> prediction_file("my-set", "validation", "1a2b3c4d")
    'my-set-validation-1a2b3c4d.parquet'
    """
    return f"{dataset}-{split}{f'-{mark}' if mark else ''}.parquet"


def mark_of(path: Path | str, info: PredictionInfo) -> str:
    """The mark in the name of a file of predictions, which is the beginning of its manifest; "" where it has none."""
    mark = info.manifest_sha256[:MARK]
    return mark if Path(path).name == prediction_file(info.dataset, info.split, mark) else ""


def write_predictions(path: Path | str, rows: Sequence[Mapping[str, Any]] | pa.Table, info: PredictionInfo) -> None:
    """Write predictions, atomically; ``rows`` have the columns of ``PREDICTION_SCHEMA``.

    Points may be nested lists, arrays or CPU tensors (K, 2).

    Raises:
        InputError: a column is missing or of the wrong kind, or what ``read_predictions`` would refuse.
    """
    table = _table(rows, path)
    _columnar(table, info, path)
    told = {name: value for name, value in asdict(info).items() if value is not None}
    stored = json.dumps({"version": PREDICTIONS_VERSION, **told})
    table = table.replace_schema_metadata({METADATA_KEY: stored.encode()})
    with atomic_path(path) as temporary:
        pq.write_table(with_plain_lists(table), temporary)


def predictions_of(rows: Sequence[Mapping[str, Any]] | pa.Table, info: PredictionInfo) -> Predictions:
    """Predictions that need not be stored, as ``read_predictions`` would give them.

    Raises:
        InputError: as ``write_predictions``.
    """
    return _columnar(_table(rows, info.dataset), info, info.dataset)


def read_predictions(path: Path | str) -> Predictions:
    """Read predictions into columns.

    Raises:
        InputError: the file is missing, truncated, of another kind or version, empty, or a pair has NaN
            points, differing numbers of points, no size, or occurs twice (the message names the pair).
    """
    try:
        table = parquet_file(Path(path), fix=_AGAIN).read()
        table.validate(full=True)
        table = with_fixed_lists(table, PREDICTION_SCHEMA)
    except InputError:
        raise
    except Exception as error:  # a decoder given malformed bytes may raise anything at all
        reason = (str(error) or type(error).__name__).splitlines()[0]
        raise InputError(f"is not a readable Parquet file ({reason})", where=path, fix=_AGAIN) from error
    stored = (table.schema.metadata or {}).get(METADATA_KEY)
    if stored is None:
        raise InputError("is a Parquet file, but not of predictions", where=path)
    return _columnar(table, _info(stored, path), path)


def _table(rows: Sequence[Mapping[str, Any]] | pa.Table, where: object) -> pa.Table:
    try:
        if isinstance(rows, pa.Table):
            return rows.select(PREDICTION_SCHEMA.names).cast(PREDICTION_SCHEMA)
        columns = {name: [_plain(row[name]) for row in rows] for name in PREDICTION_SCHEMA.names}
        return pa.Table.from_pydict(columns, schema=PREDICTION_SCHEMA)
    except KeyError as error:
        raise InputError(f"the predictions have no column {error}", where=where) from error
    except (pa.ArrowException, TypeError) as error:
        raise InputError(f"the predictions do not fit their columns ({error})", where=where) from error


def _info(stored: bytes, path: Path | str) -> PredictionInfo:
    try:
        content = json.loads(stored)
        version = content.pop("version")
    except (ValueError, KeyError, AttributeError, TypeError, RecursionError) as error:
        raise InputError("its metadata is damaged", where=path, fix=_AGAIN) from error
    if version != PREDICTIONS_VERSION:
        newer = isinstance(version, int) and version > PREDICTIONS_VERSION
        fix = "Update sc-imagenet." if newer else _AGAIN
        raise InputError(
            f"is version {version} of stored predictions, this is {PREDICTIONS_VERSION}", where=path, fix=fix
        )
    known = {field.name for field in fields(PredictionInfo)}
    if not known - {"form", "images_sha256"} <= set(content) <= known:
        raise InputError("its metadata is not that of predictions", where=path, fix=_AGAIN)
    info = PredictionInfo(**content)
    check_names("name in its metadata", (info.dataset, info.scored_as, info.split, info.model, info.run), path)
    check_names("manifest in its metadata", [info.manifest_sha256, info.images_sha256 or "none"], path)
    if type(info.size) is not int or not 0 < info.size < 1 << 20:
        raise InputError(f"is of a model of size {info.size!r:.40}", where=path, fix=_AGAIN)
    return info


def _plain(value: Any) -> Any:
    """A value as Python lists: arrays and tensors have ``tolist``; also inside a list of points."""
    if hasattr(value, "tolist"):
        return value.tolist()
    if isinstance(value, (list, tuple)):
        return [_plain(part) for part in value]
    return value


def _columnar(table: pa.Table, info: PredictionInfo, path: Path | str) -> Predictions:
    def refuse(bad: np.ndarray, what: str) -> None:
        if bad.any():
            raise InputError(f"pair {str(pair_ids[np.argmax(bad)])!r} {what}", where=path, fix=_AGAIN)

    if not table.schema.equals(PREDICTION_SCHEMA):
        found, wanted = ({column.name: column.type for column in s} for s in (table.schema, PREDICTION_SCHEMA))
        wrong = [name for name in {**wanted, **found} if found.get(name) != wanted.get(name)]
        names = ", ".join(wrong) or "their order"
        raise InputError(f"its columns are not those of predictions: {names}", where=path, fix=_AGAIN)
    if not len(table):
        raise InputError("holds no pairs", where=path, fix=_AGAIN)
    column = {name: table.column(name).combine_chunks() for name in table.schema.names}
    for name in ("pair_id", "category", "direction", "source_size", "target_size"):
        if column[name].null_count:
            raise InputError(f"{column[name].null_count} pairs have no {name}", where=path, fix=_AGAIN)
    for name in ("pair_id", "category", "direction"):
        odd = pc.or_(
            pc.match_substring_regex(column[name], STEERING), pc.greater(pc.utf8_length(column[name]), LONGEST)
        )
        if pc.any(odd).as_py():  # a single long one would make all of an array as long
            raise InputError(f"a {name} is no name: {column[name].filter(odd)[0].as_py()[:80]!r}", where=path)
    pair_ids, categories, directions = (
        np.asarray(column[name].to_pylist()) for name in ("pair_id", "category", "direction")
    )
    unique, first = np.unique(pair_ids, return_index=True)
    if len(unique) < len(pair_ids):
        refuse(~np.isin(np.arange(len(pair_ids)), first), "occurs twice")
    if info.direction not in ("forward", "backward"):
        raise InputError(f"{info.direction!r} is no direction", where=path)
    refuse(directions != info.direction, f"is not {info.direction}, as the file says it is")

    points: dict[str, np.ndarray] = {}
    offsets: np.ndarray | None = None
    for name in ("source_points", "target_points", "predicted_points"):
        points[name], ends = _flat_points(column[name])
        if offsets is not None:
            refuse(np.diff(ends) != np.diff(offsets), f"has another number of {name} than of source_points")
        offsets = ends
        owner = np.repeat(np.arange(len(pair_ids)), np.diff(ends))
        bad = ~np.isfinite(points[name]).all(axis=1)
        refuse(np.bincount(owner, bad, len(pair_ids)) > 0, f"has {name} that are not finite")
    assert offsets is not None

    here, there = ("target", "source") if info.direction == "forward" else ("source", "target")
    sizes = {side: _fixed(column[f"{side}_size"], 2) for side in ("source", "target")}
    for side, size in sizes.items():
        refuse(np.asarray(~(size > 0).all(axis=1)), f"has no {side}_size")
    return Predictions(
        pair_ids=pair_ids,
        categories=categories,
        directions=directions,
        sizes=sizes[here].astype(np.int64),
        other_sizes=sizes[there].astype(np.int64),
        boxes=_fixed(column[f"{here}_bbox"], 4),
        other_boxes=_fixed(column[f"{there}_bbox"], 4),
        true=points[f"{here}_points"],
        predicted=points["predicted_points"],
        other=points[f"{there}_points"],
        offsets=offsets,
        info=info,
    )


def _flat_points(column: pa.ListArray) -> tuple[np.ndarray, np.ndarray]:
    """Points (P, 2), NaN where null, and offsets (N + 1,) of a column of lists of points."""
    counts = column.value_lengths().fill_null(0).to_numpy(zero_copy_only=False)
    return _fixed(column.flatten(), 2), np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)


def _fixed(column: pa.FixedSizeListArray, width: int) -> np.ndarray:
    """A column of fixed-size lists as (rows, width) float64, NaN where null."""
    filled = np.full((len(column), width), np.nan)
    values = column.flatten().to_numpy(zero_copy_only=False)
    filled[column.is_valid().to_numpy(zero_copy_only=False)] = values.reshape(-1, width)
    return filled
