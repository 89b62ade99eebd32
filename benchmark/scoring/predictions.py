"""Predictions in memory: true points, what is known of them, and where a model said they are."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import numpy as np

from baselines.protocol import PublishedProtocol
from benchmark.scoring.frames import ProtocolFrame
from sc_imagenet.core.errors import InputError

# The columns of the pair schema that grade a pair, as SPair-71k does.
PAIR_GRADES = ("viewpoint_variation", "scale_variation", "truncation", "occlusion")


@dataclass(frozen=True)
class PredictionInfo:
    """Where predictions come from; stored as JSON in the Parquet file's metadata.

    ``form`` names the data set of the catalogue that a generated one is like; None for one of the catalogue.
    """

    dataset: str
    split: str
    model: str  # the registry's name
    size: int  # side of the model's square frame; 0: it has none
    run: str
    manifest_sha256: str
    direction: Literal["forward", "backward"]
    form: str | None = None
    images_sha256: str | None = None  # of the images predicted on, in the order of the pairs; None in older files
    protocol: PublishedProtocol | None = None  # how the model is scored in its paper; None in older files

    @property
    def scored_as(self) -> str:
        """The data set of the catalogue whose protocol these pairs are scored under."""
        return self.form or self.dataset


@dataclass(frozen=True)
class Predictions:
    """The predictions of N pairs with P points in all, column by column.

    ``sizes``, ``boxes`` and ``true`` are those of the image the predictions lie in, ``other_*`` and ``other``
    those of the image that the given points lie in. The points of pair i are rows ``offsets[i]:offsets[i + 1]``.
    A point may be visible in one image alone (``true_visible``, ``other_visible``); what is not visible has no
    meaning in ``true`` or ``other``. ``further`` are valid targets beside ``true``, of the points ``further_of``.
    """

    pair_ids: np.ndarray  # (N,) str
    categories: np.ndarray  # (N,) str, of the image the predictions lie in
    sizes: np.ndarray  # (N, 2), width and height
    other_sizes: np.ndarray  # (N, 2)
    boxes: np.ndarray  # (N, 4) float64, NaN where there is none
    other_boxes: np.ndarray  # (N, 4)
    true: np.ndarray  # (P, 2) float64, original pixels
    predicted: np.ndarray  # (P, 2), same image, in ``frame``
    other: np.ndarray  # (P, 2), the given points, original pixels of the other image
    offsets: np.ndarray  # (N + 1,) int64
    info: PredictionInfo
    ids: np.ndarray = field(default_factory=lambda: np.empty(0, int))  # (P,) of the keypoints, -1 unknown
    true_visible: np.ndarray = field(default_factory=lambda: np.empty(0, bool))  # (P,)
    other_visible: np.ndarray = field(default_factory=lambda: np.empty(0, bool))  # (P,)
    scores: np.ndarray | None = None  # (P,) of the model, optional
    other_categories: np.ndarray | None = None  # (N,) str; None: as ``categories``
    azimuths: np.ndarray | None = None  # (N, 2) SPair's azimuth ids of the other image and this one, -1 unknown
    grades: np.ndarray | None = None  # (N, 4) of PAIR_GRADES, -1 unknown
    images: np.ndarray | None = None  # (N, 2) str, names of the other image and of this one
    further: np.ndarray | None = None  # (Q, 2)
    further_of: np.ndarray | None = None  # (Q,) rows of points
    symmetric_ids: np.ndarray | None = None  # (P,) ids of left-right partners, -1 unknown; None: none is told
    frame: ProtocolFrame = field(default=ProtocolFrame())  # that ``predicted`` lies in

    def __post_init__(self) -> None:
        points = len(self.true)
        for name, value in (("ids", -1), ("true_visible", True), ("other_visible", True)):
            if len(getattr(self, name)) != points:
                object.__setattr__(self, name, np.full(points, value))

    def __len__(self) -> int:
        return len(self.pair_ids)

    @property
    def counts(self) -> np.ndarray:
        """Points of each pair, (N,)."""
        return np.diff(self.offsets)

    @property
    def owner(self) -> np.ndarray:
        """The pair of each point, (P,)."""
        return np.repeat(np.arange(len(self)), self.counts)

    @property
    def mutual(self) -> np.ndarray:
        """Whether a point is visible in both images, (P,)."""
        return self.true_visible & self.other_visible

    @property
    def dataset(self) -> str:
        """The data set of the catalogue that the pairs are scored as."""
        return self.info.scored_as

    def predicted_in(self, frame: ProtocolFrame) -> np.ndarray:
        """The predictions (P, 2) in a frame; as they are where they lie in it already."""
        if self.frame.same_place(frame):
            return self.predicted
        sizes = self.sizes[self.owner]
        return frame.carry(self.frame.original(self.predicted, sizes), sizes)

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
        """The pairs of these row numbers, in their order; a row may be named twice."""
        counts = self.counts[rows]
        offsets = np.concatenate([[0], np.cumsum(counts)])
        points = np.repeat(self.offsets[:-1][rows] - offsets[:-1], counts) + np.arange(offsets[-1])
        return self._chosen(rows, points, offsets)

    def where(self, points: np.ndarray) -> Predictions:
        """All pairs with only the points of a mask (P,); pairs may become empty."""
        counts = np.bincount(self.owner[points], minlength=len(self))
        return self._chosen(np.arange(len(self)), np.flatnonzero(points), np.concatenate([[0], np.cumsum(counts)]))

    def _chosen(self, rows: np.ndarray, points: np.ndarray, offsets: np.ndarray) -> Predictions:
        chosen: dict[str, Any] = {"offsets": offsets.astype(np.int64)}
        for name in _PER_PAIR:
            chosen[name] = None if getattr(self, name) is None else getattr(self, name)[rows]
        for name in _PER_POINT:
            chosen[name] = None if getattr(self, name) is None else getattr(self, name)[points]
        if self.further is not None and self.further_of is not None:
            order = np.argsort(self.further_of, kind="stable")
            starts = np.searchsorted(self.further_of[order], points, "left")
            ends = np.searchsorted(self.further_of[order], points, "right")
            chosen["further_of"] = np.repeat(np.arange(len(points)), ends - starts)
            picked = [np.arange(a, b) for a, b in zip(starts, ends)]
            chosen["further"] = self.further[order][np.concatenate(picked) if picked else np.empty(0, int)]
        return replace(self, **chosen)


_PER_PAIR = (
    *("pair_ids", "categories", "other_categories", "sizes", "other_sizes", "boxes", "other_boxes"),
    *("azimuths", "grades", "images"),
)
_PER_POINT = ("true", "predicted", "other", "ids", "true_visible", "other_visible", "scores", "symmetric_ids")
NOWHERE = PredictionInfo("", "test", "", 0, "", "", "forward")


def joined(parts: Sequence[Predictions]) -> Predictions:
    """The pairs of all parts, one after another; what only some of them know is unknown in the others.

    Raises:
        InputError: they are of other data, or their predictions lie in other frames.
    """
    first = parts[0]
    for part in parts[1:]:
        if part.dataset != first.dataset or not part.frame.same_place(first.frame):
            raise InputError(
                f"predictions of {part.dataset or 'no data set'} in {part.frame} cannot be joined to those of "
                f"{first.dataset or 'no data set'} in {first.frame}"
            )
    values: dict[str, Any] = {}
    for name in (*_PER_PAIR, *_PER_POINT):
        columns = [getattr(part, name) for part in parts]
        if all(column is None for column in columns):
            values[name] = None
            continue
        values[name] = np.concatenate(
            [_unknown(name, part) if column is None else column for part, column in zip(parts, columns)]
        )
    starts = np.cumsum([0, *(len(part.true) for part in parts)])
    values["offsets"] = np.concatenate([[0], *(part.offsets[1:] + start for part, start in zip(parts, starts))])
    if any(part.further is not None for part in parts):
        more = [
            (part.further, part.further_of, start) for part, start in zip(parts, starts) if part.further is not None
        ]
        values["further"] = np.concatenate([points for points, _, _ in more])
        values["further_of"] = np.concatenate([of + start for _, of, start in more if of is not None])
    return replace(first, **values)


def without_repeats(predictions: Predictions) -> Predictions:
    """Each pair once, in the order of their ids; as they are where one has no id.

    Raises:
        InputError: a pair is there twice with different points or predictions.
    """
    ids = predictions.pair_ids
    if (ids == "").any():
        return predictions
    _, first, index = np.unique(ids, return_index=True, return_inverse=True)
    for row in np.flatnonzero(first[index] != np.arange(len(ids))).tolist():
        one, two = (predictions.take(np.array([each])) for each in (row, first[index[row]]))
        same = all(np.array_equal(getattr(one, name), getattr(two, name), True) for name in ("true", "predicted"))
        if not same:
            raise InputError(f"pair {ids[row]} is there twice, with different points", fix="Give each pair once.")
    return predictions.take(first)


def _unknown(name: str, part: Predictions) -> np.ndarray:
    if name == "other_categories":
        return part.categories
    if name == "scores":
        return np.full(len(part.true), np.nan)
    if name == "symmetric_ids":
        return np.full(len(part.true), -1)
    if name == "images":
        return np.full((len(part), 2), "")
    return np.full((len(part), 2 if name == "azimuths" else len(PAIR_GRADES)), -1)


def predictions_of_pairs(pairs: Sequence[Mapping[str, Any]], info: PredictionInfo = NOWHERE) -> Predictions:
    """Predictions of pairs given one by one.

    Each pair is a mapping with ``target_points`` (K, 2), ``predicted_points`` (K, 2), ``target_size`` (width,
    height) in original pixels; and where known ``pair_id``, ``category``, ``source_category``, ``source_points``,
    ``source_size``, ``source_bbox``, ``target_bbox``, ``ids`` and ``symmetric_ids`` of left-right partners (K,),
    ``source_visible`` and ``target_visible`` (K,), ``scores`` (K,), ``azimuths`` (2,), the four grades of SPair-71k,
    and ``further_targets``, for each point a list of further valid targets. Lists, numpy
    arrays and tensors are read alike.

    Raises:
        InputError: an entry is missing, has the wrong shape, or a prediction is not a number (the pair is named).
    """
    parts = [_one(pair, row) for row, pair in enumerate(pairs)]
    if not parts:
        raise InputError("there is no pair")
    whole: dict[str, Any] = {
        name: np.concatenate([part[name] for part in parts]) for name in parts[0] if name != "further"
    }
    offsets = np.concatenate([[0], np.cumsum([len(part["true"]) for part in parts])]).astype(np.int64)
    further = [(point, row + start) for part, start in zip(parts, offsets) for row, point in part["further"]]
    return Predictions(
        offsets=offsets,
        info=info,
        further=np.array([point for point, _ in further], float).reshape(-1, 2) if further else None,
        further_of=np.array([row for _, row in further], int) if further else None,
        **whole,
    )


KNOWN = {
    *("pair_id", "category", "source_category", "source_points", "target_points", "predicted_points"),
    *("source_size", "target_size", "source_bbox", "target_bbox", "ids", "source_visible", "target_visible"),
    *("symmetric_ids", "scores", "azimuths", "further_targets", *PAIR_GRADES),
}


def _one(pair: Mapping[str, Any], row: int) -> dict[str, Any]:
    where = f"pair {pair.get('pair_id', row)}"
    if unknown := sorted(set(pair) - KNOWN):
        raise InputError(
            f"has {unknown[0]!r}, which is not an entry of a pair", where, f"Entries: {', '.join(sorted(KNOWN))}"
        )
    missing = [name for name in ("target_points", "predicted_points", "target_size") if pair.get(name) is None]
    if missing:
        raise InputError(f"has no {missing[0]}", where)
    true = _array(pair["target_points"], (-1, 2), "target_points", where)
    count = len(true)
    predicted = _array(pair["predicted_points"], (count, 2), "predicted_points", where)
    source = pair.get("source_points")
    true_visible = _flags(pair.get("target_visible"), count, "target_visible", where)
    other_visible = _flags(pair.get("source_visible"), count, "source_visible", where)
    for points, flags, name in (
        (true, true_visible, "target_points"),
        (predicted, true_visible & other_visible, "predicted_points"),
    ):
        if not np.isfinite(points[flags]).all():
            raise InputError(f"has {name} that are not finite", where)
    size = _array(pair["target_size"], (2,), "target_size", where)
    if not (size > 0).all():
        raise InputError(f"has the target_size {size.tolist()}", where, "Give width and height in pixels.")
    grades = [-1 if pair.get(name) is None else int(pair[name]) for name in PAIR_GRADES]
    category = str(pair.get("category") or "")
    further = pair.get("further_targets") or []
    return {
        "pair_ids": np.array([str(pair.get("pair_id", row))]),
        "categories": np.array([category]),
        "other_categories": np.array([str(pair.get("source_category") or category)]),
        "sizes": size[None],
        "other_sizes": _optional(pair.get("source_size"), 2, "source_size", where),
        "boxes": _optional(pair.get("target_bbox"), 4, "target_bbox", where),
        "other_boxes": _optional(pair.get("source_bbox"), 4, "source_bbox", where),
        "true": true,
        "predicted": predicted,
        "other": np.full((count, 2), np.nan) if source is None else _array(source, (count, 2), "source_points", where),
        "ids": _each(pair.get("ids"), count, "ids", where, -1).astype(int),
        "true_visible": true_visible,
        "other_visible": other_visible,
        "scores": _each(pair.get("scores"), count, "scores", where, np.nan),
        "symmetric_ids": _each(pair.get("symmetric_ids"), count, "symmetric_ids", where, -1).astype(int),
        "azimuths": _optional(pair.get("azimuths"), 2, "azimuths", where, -1).astype(int),
        "grades": np.array([grades]),
        "further": [
            (k, point)
            for k, points in enumerate(further)
            for point in _array(points if len(points) else np.empty((0, 2)), (-1, 2), "further_targets", where)
        ],
    }


def _array(value: Any, shape: tuple[int, ...], name: str, where: str) -> np.ndarray:
    """Numbers of a list, an array or a tensor, whichever device it is on."""
    if hasattr(value, "detach"):
        value = value.detach().cpu()
        value = value.float().numpy() if "bfloat16" in str(value.dtype) else value.numpy()
    elif isinstance(value, (list, tuple)):
        value = [part.tolist() if hasattr(part, "tolist") else part for part in value]
    try:
        array = np.asarray(value, float)
    except (TypeError, ValueError) as error:
        raise InputError(f"has {name} that are no numbers", where) from error
    if not array.size and shape[0] in (-1, 0):
        return array.reshape(0, *shape[1:])
    if array.ndim != len(shape) or any(want not in (-1, got) for want, got in zip(shape, array.shape)):
        wanted = " x ".join("K" if side == -1 else str(side) for side in shape)
        raise InputError(f"has {name} of shape {' x '.join(map(str, array.shape))}, not {wanted}", where)
    return array


def _each(value: Any, count: int, name: str, where: str, missing: float) -> np.ndarray:
    return np.full(count, missing) if value is None else _array(value, (count,), name, where)


def _flags(value: Any, count: int, name: str, where: str) -> np.ndarray:
    return np.full(count, True) if value is None else _array(value, (count,), name, where) > 0


def _optional(value: Any, width: int, name: str, where: str, missing: float = np.nan) -> np.ndarray:
    return np.full((1, width), missing) if value is None else _array(value, (width,), name, where)[None]
