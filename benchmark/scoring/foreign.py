"""Predictions as other programs write them, read into one form; which pairs they are of is told by id or by names.

NPZ     ``predicted`` (N, K, 2); ``pair_id`` (N,), or ``source`` and ``target`` (N,) names of images; and where wanted
        ``ids`` (N, K) or (K,), ``scores`` (N, K), ``frame`` (). Rows of a pair that are not there are NaN.
CSV     a line a point: ``pair_id``, or ``source`` and ``target``; ``x``, ``y``; and where wanted ``id``, ``score``.
JSONL   a line a pair: ``pair_id``, or ``source`` and ``target``; ``points`` [[x, y], ...]; and where wanted ``ids``,
        ``scores``. OmniProbe's lines (``pred``, ``meta``) are known by themselves.
PKL     what GeoAware-SC, Jamais Vu, CleanDIFT and DistillDIFT write (result.pkl) and DIY-SC's dictionary.
PT      tensors (N, K, 2), a list of them or a dictionary with one, of all pairs in the order of the data set's list, as
        SD4Match's and MARCO's evaluators hold them.

Without ids, the k-th point of a pair is that of the k-th point that both images show, in the data set's order.
"""

from __future__ import annotations

import csv
import io
import json
import zipfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from benchmark.scoring.frames import ProtocolFrame
from benchmark.scoring.pickled import LARGEST_FILE, read_pickle
from benchmark.scoring.predictions import PredictionInfo, Predictions, predictions_of_pairs
from sc_imagenet.core.errors import InputError, check_name, unknown_name

KEYS = ("pair_id", "source", "target")


@dataclass(frozen=True)
class ForeignPair:
    """The points of one pair; ``pair_id`` or both names say which. ``ids`` None: by rank among the mutual points."""

    points: np.ndarray  # (K, 2)
    pair_id: str | None = None
    source: str | None = None
    target: str | None = None
    ids: np.ndarray | None = None  # (K,)
    scores: np.ndarray | None = None  # (K,)
    row: int | None = None  # of the data set's list, where neither id nor names are told

    @property
    def name(self) -> str:
        """What an error calls it."""
        if self.pair_id is not None:
            return self.pair_id
        return f"row {self.row}" if self.source is None else f"{self.source} -> {self.target}"


@dataclass(frozen=True)
class Foreign:
    """What a file says: its pairs, the form it has, and the frame its points lie in where the form tells."""

    pairs: list[ForeignPair]
    form: str
    frame: ProtocolFrame | None = None
    notes: tuple[str, ...] = field(default=())


def read_foreign(path: Path) -> Foreign:
    """The predictions of a file, by its ending.

    Raises:
        InputError: no form is known by its ending, or it is not of that form.
    """
    if not path.is_file():
        raise InputError("no such file", where=path)
    if path.suffix.lower() not in _READERS:
        raise unknown_name("form of predictions", path.suffix or path.name, _READERS)
    if path.stat().st_size > LARGEST_FILE:
        raise InputError("is too large to be predictions", where=path)
    found = _READERS[path.suffix.lower()](path)
    if not found.pairs:
        raise InputError("holds no pair", where=path)
    for pair in found.pairs:
        for name in (pair.pair_id, pair.source, pair.target):
            if name is not None:
                check_name("name of a pair or image", name, path)
    return found


def _npz(path: Path) -> Foreign:
    arrays: dict[str, np.ndarray] = {}
    try:
        with zipfile.ZipFile(path) as archive:
            if sum(entry.file_size for entry in archive.infolist()) > LARGEST_FILE:
                raise InputError("is too large to be predictions", where=path)
            for name in archive.namelist():
                with archive.open(name) as file:
                    arrays[name.removesuffix(".npy")] = np.lib.format.read_array(file, allow_pickle=False)
    except (zipfile.BadZipFile, ValueError, OSError, KeyError, EOFError, MemoryError) as error:
        raise InputError(f"is not an .npz file of plain arrays ({error})", where=path) from error
    if "predicted" not in arrays:
        raise InputError(f"has no array 'predicted', but {', '.join(sorted(arrays)) or 'none'}", where=path)
    predicted = _numbers(arrays["predicted"], "predicted", path)
    if predicted.ndim != 3 or predicted.shape[2] != 2:
        raise InputError(f"has 'predicted' of shape {predicted.shape}, not (pairs, points, 2)", where=path)
    count, width = predicted.shape[:2]
    names = {name: arrays[name].astype(str).tolist() for name in KEYS if name in arrays}
    _check_keys(names, path)
    ids, scores = arrays.get("ids"), arrays.get("scores")
    for name, value, shapes in (
        *((name, np.array(value), [(count,)]) for name, value in names.items()),
        ("ids", ids, [(count, width), (width,)]),
        ("scores", scores, [(count, width)]),
    ):
        if value is not None and value.shape not in shapes:
            raise InputError(f"has {name!r} of shape {value.shape} beside {count} x {width} points", where=path)
    pairs = []
    for row in range(count):
        own = None if ids is None else ids[row] if ids.ndim == 2 else ids
        here = ~np.isnan(predicted[row]).all(axis=1) if own is None else own >= 0
        pairs.append(
            _named(
                {name: value[row] for name, value in names.items()},
                predicted[row][here],
                None if own is None else own[here].astype(int),
                None if scores is None else scores[row][here],
            )
        )
    frame = ProtocolFrame.parse(str(arrays["frame"])) if "frame" in arrays else None
    return Foreign(pairs, "NPZ", frame)


def _csv(path: Path) -> Foreign:
    lines = csv.DictReader(io.StringIO(_text(path)))
    columns = [name.strip() for name in lines.fieldnames or []]
    lines.fieldnames = columns
    _check_keys(columns, path)
    if missing := [name for name in ("x", "y") if name not in columns]:
        raise InputError(f"has no column {missing[0]!r}, but {', '.join(columns)}", where=path)
    rows: dict[tuple[str | None, ...], list[Mapping[str, str]]] = {}
    for number, line in enumerate(lines, start=2):
        if None in line or None in line.values():
            raise InputError(f"line {number} has another number of columns than the header", where=path)
        rows.setdefault(tuple(line.get(name) for name in KEYS), []).append(line)

    def column(part: list[Mapping[str, str]], name: str) -> np.ndarray:
        try:
            return np.array([float(line[name]) for line in part])
        except ValueError as error:
            raise InputError(f"column {name!r}: {error}", where=path) from error

    pairs = [
        _named(
            dict(zip(KEYS, key)),
            np.column_stack([column(part, "x"), column(part, "y")]),
            column(part, "id").astype(int) if "id" in columns else None,
            column(part, "score") if "score" in columns else None,
        )
        for key, part in rows.items()
    ]
    return Foreign(pairs, "CSV")


def _jsonl(path: Path) -> Foreign:
    pairs, frame, form = [], None, "JSONL"
    for number, line in _json_lines(path):
        try:
            if "pred" in line and "meta" in line:
                form, frame = "OmniProbe", ProtocolFrame("unit", 800)
                pairs.append(_omniprobe(line))
                frame = ProtocolFrame("centred-unit", 800) if "subset" in line["meta"] else frame
                continue
            _check_keys(line, f"{path}, line {number}")
            points = np.array(line["points"], float).reshape(-1, 2)
            pairs.append(
                _named(
                    {name: line.get(name) for name in KEYS},
                    points,
                    _column(line, "ids", len(points), int),
                    _column(line, "scores", len(points), float),
                )
            )
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            if isinstance(error, InputError):
                raise
            raise InputError(f"line {number} is not a pair ({error})", where=path) from error
    return Foreign(pairs, form, frame)


def _omniprobe(line: Mapping[str, Any]) -> ForeignPair:
    """A line of OmniProbe's JSON: points by id, also of what is not visible."""
    points = np.array(line["pred"], float).reshape(-1, 2)
    stem = Path(str(line["meta"]["pair_filename"])).name.removesuffix(".json")
    return ForeignPair(points, stem, ids=np.arange(len(points)))


def _json_lines(path: Path) -> Iterator[tuple[int, Any]]:
    for number, line in enumerate(_text(path).splitlines(), start=1):
        if line.strip():
            try:
                value = json.loads(line)
            except (ValueError, RecursionError) as error:
                fix = "One JSON object a line, a line for each pair."
                raise InputError(f"line {number} is not JSON ({error})", where=path, fix=fix) from error
            if not isinstance(value, dict):
                raise InputError(f"line {number} is no object", where=path, fix="One JSON object a line.")
            yield number, value


def _pkl(path: Path) -> Foreign:
    content = read_pickle(path)
    rows = content.get("result") if isinstance(content, dict) else content
    if not isinstance(rows, list) or not rows:
        raise InputError("is a pickle, but not of a list of pairs", where=path)
    pairs, sides = [], set()
    for number, row in enumerate(rows):
        try:
            points = np.asarray(row["src_kpts_pred"], float)[:, :2]
            sides.add(int(row.get("resize_resolution", 840)))
            used = np.asarray(row["used_points"], int) if "used_points" in row else np.arange(len(points))
            ids = used if len(used) == len(points) else np.arange(len(points))
            source, target = str(row["src_fn"]), str(row["trg_fn"])
            pairs.append(ForeignPair(points, source=source, target=target, ids=ids))
        except (KeyError, TypeError, ValueError, IndexError, AttributeError) as error:
            raise InputError(f"pair {number} of the pickle has no {error}", where=path) from error
    if len(sides) > 1:
        raise InputError(f"has pairs at {', '.join(map(str, sorted(sides)))} pixels", where=path)
    return Foreign(pairs, "GeoAware-SC's result", ProtocolFrame("letterbox", sides.pop()))


def _pt(path: Path) -> Foreign:
    content = read_pickle(path)
    if isinstance(content, dict):
        content = next((content[name] for name in ("predictions", "matches", "pred") if name in content), content)
    parts = content if isinstance(content, (list, tuple)) else [content]
    rows: list[np.ndarray] = []
    for part in parts:
        array = np.asarray(part, float)
        if array.ndim not in (2, 3) or array.shape[-1] != 2:
            raise InputError(f"holds a tensor of shape {array.shape}, not (pairs, points, 2)", where=path)
        rows += list(array if array.ndim == 3 else array[None])
    # Padding is negative in both coordinates (SD4Match: -2).
    pairs = [
        ForeignPair(row[~(np.isnan(row).any(axis=1) | (row == -2).all(axis=1))], row=n) for n, row in enumerate(rows)
    ]
    return Foreign(pairs, "tensors", notes=("pairs are taken in the order of the data set's list",))


_READERS: Mapping[str, Callable[[Path], Foreign]] = {
    ".npz": _npz,
    ".csv": _csv,
    ".jsonl": _jsonl,
    ".json": _jsonl,
    ".pkl": _pkl,
    ".pt": _pt,
}
ENDINGS = tuple(_READERS)


def _named(
    keys: Mapping[str, Any], points: np.ndarray, ids: np.ndarray | None, scores: np.ndarray | None
) -> ForeignPair:
    pair_id, source, target = (None if keys.get(name) is None else str(keys[name]) for name in KEYS)
    return ForeignPair(points, pair_id, source, target, ids, scores)


def _check_keys(names: Any, where: object) -> None:
    if "pair_id" not in names and not ("source" in names and "target" in names):
        raise InputError("says neither 'pair_id' nor 'source' and 'target'", where=where)


def _column(line: Mapping[str, Any], name: str, count: int, kind: type) -> np.ndarray | None:
    if line.get(name) is None:
        return None
    values: np.ndarray = np.array(line[name], kind)
    if values.shape != (count,):
        raise ValueError(f"{len(values)} {name} for {count} points")
    return values


def _numbers(array: np.ndarray, name: str, path: Path) -> np.ndarray:
    if array.dtype.kind not in "biuf":
        raise InputError(f"has {name!r} of {array.dtype}, not numbers", where=path)
    return array.astype(float)


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"cannot be read as text ({error})", where=path) from error


# SOCO's pairs: points of several categories that share a name (semantic overlap) or a concept.

SOCO_KINDS = ("semantic", "concept")


def soco_predictions(
    pairs: Sequence[Mapping[str, Any]],
    predicted: Sequence[Any],
    kind: str,
    frame: ProtocolFrame,
    info: PredictionInfo,
) -> Predictions:
    """Predictions of SOCO's pairs, for its metric SOC (``semantic``) or CC (``concept``).

    Args:
        pairs: rows of its JSON Lines.
        predicted: for each, a point in ``frame`` for every source keypoint.
        kind: ``semantic``: the target is the point of the same name, of those that ``semantic_overlap`` lists;
            ``concept``: every target point of all groups of ``concept_matches`` that name the source point.
        frame: that the predictions lie in.
        info: where they come from.

    Raises:
        InputError: a pair lacks an entry or predictions do not fit it.
    """
    rows = []
    for pair, points in zip(pairs, predicted):
        where = f"pair {pair.get('pair_id')}"
        try:
            sources = {each["name"]: each["pos"] for each in pair["src_keypoints"]}
            targets = {each["name"]: each["pos"] for each in pair["trg_keypoints"]}
            said = dict(zip(sources, np.asarray(points, float).reshape(len(sources), 2)))
            valid = _valid_targets(pair, kind)
            width, height = pair["trg_imsize"]
            # Without a box d is the longer side of the image.
            box = pair["trg_bndbox"] or [0, 0, width, height]
            rows.append(
                {
                    "pair_id": str(pair["pair_id"]),
                    "category": pair["pair_group"],
                    "source_points": [sources[name] for name in valid] or np.empty((0, 2)),
                    "target_points": [targets[names[0]] for names in valid.values()] or np.empty((0, 2)),
                    "further_targets": [[targets[name] for name in names[1:]] for names in valid.values()],
                    "predicted_points": [said[name] for name in valid] or np.empty((0, 2)),
                    "source_size": pair["src_imsize"],
                    "target_size": (width, height),
                    "target_bbox": box,
                }
            )
        except (KeyError, TypeError, ValueError) as error:
            raise InputError(f"is not a pair of SOCO's ({error})", where) from error
    return replace(predictions_of_pairs(rows, info), frame=frame)


def _valid_targets(pair: Mapping[str, Any], kind: str) -> dict[str, list[str]]:
    """The names of valid targets of each source point that has any."""
    if kind == "semantic":
        return {name: [name] for name in pair["semantic_overlap"]}
    found: dict[str, list[str]] = {}
    for group in pair["concept_matches"]:
        for name in group["src_keypoints"]:
            names = found.setdefault(name, [])
            names += [target for target in group["trg_keypoints"] if target not in names]
    return {name: names for name, names in found.items() if names}
