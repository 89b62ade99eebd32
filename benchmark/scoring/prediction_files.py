"""Stored predictions: what a model said, once, in original pixels; every PCK is computed from this file.

One Parquet file holds one data set's split scored by one model. It keeps the truth beside the prediction, so
that scoring needs no images, no model and no data set.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from baselines.protocol import PublishedProtocol
from benchmark.scoring.predictions import PAIR_GRADES, PredictionInfo, Predictions
from sc_imagenet.core.errors import LONGEST, STEERING, InputError, check_names
from sc_imagenet.core.files import atomic_path
from sc_imagenet.data.parquet import parquet_file, with_fixed_lists, with_plain_lists

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
        # Since version 2, each null where it is not known.
        ("source_category", pa.string()),  # null: as category
        ("source_image", pa.string()),  # names of the images in their data set
        ("target_image", pa.string()),
        ("keypoint_ids", pa.list_(pa.int16())),
        ("source_visible", pa.list_(pa.bool_())),  # null: all; a point that one image alone shows lies anywhere there
        ("target_visible", pa.list_(pa.bool_())),
        ("scores", pa.list_(pa.float32())),  # of the model, of each point
        ("further_targets", pa.list_(_POINTS)),  # of each point, valid beside the target's
        ("source_azimuth", pa.int8()),  # SPair-71k's eighths of a turn, and its grades
        ("target_azimuth", pa.int8()),
        *((name, pa.int8()) for name in PAIR_GRADES),
        ("symmetric_ids", pa.list_(pa.int16())),  # of each point, the id of its left-right partner
    ]
)
FIRST_COLUMNS = tuple(PREDICTION_SCHEMA.names[:10])  # of version 1
METADATA_KEY = b"sc_imagenet"
PREDICTIONS_VERSION = 2
READ_VERSIONS = (1, 2)
MARK = 8  # digits of a manifest

_AGAIN = "Predict again with 'scbench run'."


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

    Points may be nested lists, arrays or CPU tensors (K, 2). Columns that version 1 does not have may be left out.

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
    info, version = _info(stored, path)
    columns = FIRST_COLUMNS if version == 1 else PREDICTION_SCHEMA.names[:-1]  # the last came later
    if set(table.column_names) == set(columns):
        table = all_columns(table.select(columns))
    return _columnar(table, info, path)


def all_columns(table: pa.Table) -> pa.Table:
    """A table of an older version in all of today's columns and their order; what it does not have is null.

    Raises:
        KeyError: it lacks a column that every version has.
    """
    for name in PREDICTION_SCHEMA.names[len(FIRST_COLUMNS) :]:
        if name not in table.column_names:
            table = table.append_column(name, pa.nulls(len(table), PREDICTION_SCHEMA.field(name).type))
    return table.select(PREDICTION_SCHEMA.names)


def _table(rows: Sequence[Mapping[str, Any]] | pa.Table, where: object) -> pa.Table:
    try:
        if isinstance(rows, pa.Table):
            return all_columns(rows).cast(PREDICTION_SCHEMA)
        columns = {
            name: [_plain(row[name] if name in FIRST_COLUMNS else row.get(name)) for row in rows]
            for name in PREDICTION_SCHEMA.names
        }
        return pa.Table.from_pydict(columns, schema=PREDICTION_SCHEMA)
    except KeyError as error:
        raise InputError(f"the predictions have no column {error}", where=where) from error
    except (pa.ArrowException, TypeError) as error:
        raise InputError(f"the predictions do not fit their columns ({error})", where=where) from error


def _info(stored: bytes, path: Path | str) -> tuple[PredictionInfo, int]:
    """What the metadata tells, and the version of the file."""
    try:
        content = json.loads(stored)
        version = content.pop("version")
    except (ValueError, KeyError, AttributeError, TypeError, RecursionError) as error:
        raise InputError("its metadata is damaged", where=path, fix=_AGAIN) from error
    if type(version) is not int or version not in READ_VERSIONS:
        newer = isinstance(version, int) and version > PREDICTIONS_VERSION
        fix = "Update sc-imagenet." if newer else _AGAIN
        raise InputError(
            f"is version {version} of stored predictions, this is {PREDICTIONS_VERSION}", where=path, fix=fix
        )
    known = {field.name for field in fields(PredictionInfo)}
    if not known - {"form", "images_sha256", "protocol"} <= set(content) <= known:
        raise InputError("its metadata is not that of predictions", where=path, fix=_AGAIN)
    if "protocol" in content:
        content["protocol"] = PublishedProtocol.read(content["protocol"], path)
    info = PredictionInfo(**content)
    check_names("name in its metadata", (info.dataset, info.scored_as, info.split, info.model, info.run), path)
    check_names("manifest in its metadata", [info.manifest_sha256, info.images_sha256 or "none"], path)
    if type(info.size) is not int or not 0 <= info.size < 1 << 20:
        raise InputError(f"is of a model of size {info.size!r:.40}", where=path, fix=_AGAIN)
    return info, version


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
    for name in ("pair_id", "category", "direction", "source_category", "source_image", "target_image"):
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
    assert offsets is not None
    owner = np.repeat(np.arange(len(pair_ids)), np.diff(offsets))

    def each(name: str, missing: float) -> np.ndarray:
        """A column of a value for each point, (P,)."""
        found = column[name]
        valid = found.is_valid().to_numpy(zero_copy_only=False)
        counts = pc.fill_null(found.value_lengths(), 0).to_numpy(zero_copy_only=False)
        refuse(valid & (counts != np.diff(offsets)), f"has another number of {name} than of source_points")
        values = np.full(len(owner), missing)
        flat = pc.fill_null(found.flatten().cast(pa.float64()), missing).to_numpy(zero_copy_only=False)
        values[valid[owner]] = flat
        return values

    ids = each("keypoint_ids", -1).astype(int)
    visible = {side: each(f"{side}_visible", 1) > 0 for side in ("source", "target")}
    mutual = visible["source"] & visible["target"]
    for name in ("source_points", "target_points", "predicted_points"):
        shown = visible.get(name.split("_")[0], mutual)
        bad = ~np.isfinite(points[name]).all(axis=1) & shown
        refuse(np.bincount(owner, bad, len(pair_ids)) > 0, f"has {name} that are not finite")
    refuse(np.bincount(owner, ids < -1, len(pair_ids)) > 0, "has negative keypoint_ids")

    here, there = ("target", "source") if info.direction == "forward" else ("source", "target")
    sizes = {side: _fixed(column[f"{side}_size"], 2) for side in ("source", "target")}
    for side, size in sizes.items():
        refuse(np.asarray(~(size > 0).all(axis=1)), f"has no {side}_size")
    partners = None if column["symmetric_ids"].null_count == len(table) else each("symmetric_ids", -1).astype(int)
    further, further_of = _further(column["further_targets"], offsets, path)
    return Predictions(
        pair_ids=pair_ids,
        categories=categories,
        sizes=sizes[here].astype(np.int64),
        other_sizes=sizes[there].astype(np.int64),
        boxes=_fixed(column[f"{here}_bbox"], 4),
        other_boxes=_fixed(column[f"{there}_bbox"], 4),
        true=points[f"{here}_points"],
        predicted=points["predicted_points"],
        other=points[f"{there}_points"],
        offsets=offsets,
        info=info,
        ids=ids,
        true_visible=visible[here],
        other_visible=visible[there],
        scores=None if column["scores"].null_count == len(table) else each("scores", np.nan),
        other_categories=_texts(column["source_category"], categories) if info.direction == "forward" else None,
        azimuths=_numbers(column, (f"{there}_azimuth", f"{here}_azimuth")),
        grades=_numbers(column, PAIR_GRADES),
        images=_images(column, there, here),
        symmetric_ids=partners,
        further=further,
        further_of=further_of,
    )


def _texts(column: pa.Array, missing: np.ndarray) -> np.ndarray | None:
    """A column of names, ``missing`` in place of nulls; None where all are null."""
    if column.null_count == len(column):
        return None
    return np.array([text or other for text, other in zip(column.to_pylist(), missing.tolist())])


def _numbers(column: Mapping[str, pa.Array], names: Sequence[str]) -> np.ndarray | None:
    """Columns of small numbers side by side, (N, columns), -1 for null; None where all are null."""
    if all(column[name].null_count == len(column[name]) for name in names):
        return None
    return np.stack([pc.fill_null(column[name], -1).to_numpy(zero_copy_only=False) for name in names], axis=1).astype(
        int
    )


def _images(column: Mapping[str, pa.Array], there: str, here: str) -> np.ndarray | None:
    names = [column[f"{side}_image"] for side in (there, here)]
    if any(each.null_count == len(each) for each in names):
        return None
    return np.array([[text or "" for text in each.to_pylist()] for each in names]).T


def _further(
    column: pa.Array, offsets: np.ndarray, path: Path | str
) -> tuple[np.ndarray, np.ndarray] | tuple[None, None]:
    """Further valid targets and the points that they are of; None where there are none."""
    points: list[list[float]] = []
    rows: list[int] = []
    if column.null_count == len(column):
        return None, None
    for start, end, lists in zip(offsets[:-1].tolist(), offsets[1:].tolist(), column.to_pylist()):
        if lists is not None and len(lists) != end - start:
            raise InputError("a pair has another number of further_targets than of points", where=path)
        for row, targets in enumerate(lists or []):
            points += targets or []
            rows += [start + row] * len(targets or [])
    found = np.array(points, float).reshape(-1, 2)
    if not np.isfinite(found).all():
        raise InputError("further_targets are not finite", where=path)
    return (found, np.array(rows, int)) if rows else (None, None)


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
