"""Predictions of any program, joined to the pairs of their data set and scored.

What is missing or double is named, partial data is said; predictions that look wrong as a whole (in another frame, with
x and y exchanged) are not scored silently.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import ArrayLike

from benchmark.scoring import metric
from benchmark.scoring.foreign import Foreign, ForeignPair, read_foreign
from benchmark.scoring.frames import ProtocolFrame
from benchmark.scoring.metric import Scores
from benchmark.scoring.prediction_files import read_predictions
from benchmark.scoring.predictions import NOWHERE, Predictions, predictions_of_pairs
from benchmark.scoring.protocol import Protocol
from benchmark.scoring.protocols import protocols_named
from benchmark.scoring.runs import prediction_files
from sc_imagenet.core.errors import InputError
from sc_imagenet.data.catalog import canonical

Given: TypeAlias = "Predictions | Path | str | Mapping[str, ArrayLike] | Sequence[Mapping[str, Any]]"


@dataclass(frozen=True)
class Joined:
    """Predictions of the pairs that both have, and what to say of the rest."""

    predictions: Predictions
    notes: tuple[str, ...]


def score(
    predictions: Given,
    dataset: str | None = None,
    protocols: str | Sequence[str | Protocol] = "strict@1",
    *,
    split: str = "test",
    root: Path | str | None = None,
    frame: str | None = None,
    draws: int = 1000,
    seed: int = 0,
) -> Scores:
    """Scores of predictions under named protocols, whoever made them.

    >>> pair = {"predicted_points": [[1, 2], [9, 9]], "target_points": [[1, 2], [30, 9]], "target_size": (40, 30)}
    >>> score([pair], "pf-willow", "strict@1,dift@1", draws=0).pck(0.1, "strict@1")
    50.0

    Args:
        predictions: a file of any form that ``scbench score`` reads, or a run's folder; points (K, 2) by the id of
            their pair, in the order of the points that both of its images show; pairs with their truth, as
            ``PCK.update`` takes them; or ``Predictions``.
        dataset: of the catalogue; files of ours tell it themselves.
        protocols: names, comma-separated or in a list, ``all`` for every one.
        split: of the data set.
        root: where the data sets lie; else ``SC_DATA_ROOT``.
        frame: that the points lie in where it is not original pixels, as ``letterbox-840``.
        draws: bootstrap draws behind the 95 % intervals, 0 for none.
        seed: of these draws.

    Raises:
        InputError: an unknown protocol or data set, predictions that do not fit it, or that lie in another frame.
    """
    chosen = protocols_named(protocols)
    name = None if dataset is None else canonical(dataset)
    found = _given(predictions, name, split, root, frame)
    scores = metric.score_protocols(found.predictions, chosen, draws, seed)
    return replace(scores, notes=(*found.notes, *scores.notes))


def _given(predictions: Given, dataset: str | None, split: str, root: Path | str | None, frame: str | None) -> Joined:
    if isinstance(predictions, (str, Path)):
        file = _file_of(Path(predictions), dataset, split)
        return opened(file, dataset, split, root, frame)
    if isinstance(predictions, Mapping):
        pairs = [
            ForeignPair(np.asarray(points, float).reshape(-1, 2), str(name)) for name, points in predictions.items()
        ]
        return _joined(Foreign(pairs, "Python"), dataset, split, root, frame, None)
    if not isinstance(predictions, Predictions):
        known = predictions_of_pairs(predictions, replace(NOWHERE, dataset=dataset or "", split=split))
        return Joined(replace(known, frame=ProtocolFrame.parse(frame or "original")), ())
    if dataset not in (None, predictions.dataset):
        if predictions.dataset:
            raise InputError(f"these are predictions of {predictions.dataset}, not of {dataset}")
        return Joined(replace(predictions, info=replace(predictions.info, dataset=dataset)), ())
    return Joined(predictions, ())


def _file_of(path: Path, dataset: str | None, split: str) -> Path:
    """The one file of predictions that is meant: itself, or that of a run's folder on a data set."""
    if path.is_file():
        return path
    files = prediction_files(path)
    told = {file: read_predictions(file).info for file in files}
    fitting = [
        file for file in files if dataset is None or (told[file].scored_as, told[file].split) == (dataset, split)
    ]
    if len(fitting) != 1:
        held = ", ".join(f"{info.dataset}:{info.split} ({file.name})" for file, info in told.items())
        raise InputError(f"holds {held}", where=path, fix="Say which: give dataset and split, or the file.")
    return fitting[0]


def opened(
    path: Path, dataset: str | None, split: str, root: Path | str | None = None, frame: str | None = None
) -> Joined:
    """Predictions of a file with the true points of their data set.

    Raises:
        InputError: the file or data set cannot be used, they do not fit, or the predictions cannot be in the frame
            that they are taken to be in; with ``frame`` given the last is only said.
    """
    if path.suffix.lower() == ".parquet":
        stored = read_predictions(path)
        backward = stored.info.direction == "backward"
        note = "predictions lie in the source images (backward); the protocols are meant for the target"
        return Joined(stored, (note,) if backward else ())
    return _joined(read_foreign(path) if dataset is not None else None, dataset, split, root, frame, path)


def _joined(
    foreign: Foreign | None, dataset: str | None, split: str, root: Path | str | None, frame: str | None, where: object
) -> Joined:
    if foreign is None or dataset is None:
        raise InputError(
            "these predictions do not say which data set they are of", where=where, fix="Give --dataset: spair-71k."
        )
    from benchmark.scoring.truth import read_truth  # imports datasets, which stored predictions do not need

    given = None if frame is None else ProtocolFrame.parse(frame)
    try:
        found = join(foreign, read_truth(dataset, split, root), given)
    except InputError as error:
        line = str(error)
        raise error if where is None or str(where) in line else InputError(line, where=where) from error
    doubt = suspicion(found.predictions)
    if doubt and given is None:
        raise InputError(
            f"these predictions are not scored: {doubt}", where=where, fix="If they are right, say so with --frame."
        )
    return Joined(found.predictions, (*found.notes, *([doubt] if doubt else [])))


def join(foreign: Foreign, truth: Predictions, frame: ProtocolFrame | None = None) -> Joined:
    """Predictions of the pairs of ``truth`` that ``foreign`` has.

    Args:
        foreign: as read from a file.
        truth: the pairs of the data set; what they predict is not looked at.
        frame: that the points lie in, if the file's form does not tell or tells it wrongly.

    Raises:
        InputError: a pair is not the data set's or there twice, its points do not fit, or one is not a number.
    """
    what = f"{truth.info.dataset}:{truth.info.split}"
    rows = _rows(foreign, truth, what)
    chosen = truth.take(np.array(list(rows)))
    chosen = replace(chosen, frame=frame or foreign.frame or ProtocolFrame())
    predicted = np.full(chosen.true.shape, np.nan)
    scores = np.full(len(chosen.true), np.nan)
    for place, pair in enumerate(rows.values()):
        points = np.arange(chosen.offsets[place], chosen.offsets[place + 1])
        points = _points(pair, chosen, points, what)
        predicted[points[points >= 0]] = pair.points[points >= 0]
        if pair.scores is not None:
            scores[points[points >= 0]] = pair.scores[points >= 0]
    _check_finite(chosen, predicted, what)
    notes = list(foreign.notes)
    if len(rows) < len(truth):
        notes.append(
            f"partial: {len(rows):,} of the {len(truth):,} pairs of {what}; the first that is missing is "
            f"{next(pair for row, pair in enumerate(truth.pair_ids.tolist()) if row not in rows)}"
        )
    known = replace(chosen, predicted=predicted, scores=None if np.isnan(scores).all() else scores)
    return Joined(known, tuple(notes))


def _rows(foreign: Foreign, truth: Predictions, what: str) -> dict[int, ForeignPair]:
    """The row of ``truth`` of every foreign pair, ascending."""
    by_id, by_names = _by_id(truth), _by_names(truth)
    if foreign.pairs[0].row is not None and len(foreign.pairs) != len(truth):
        raise InputError(
            f"{len(foreign.pairs):,} pairs without ids or names, {what} has {len(truth):,}",
            fix="Tensors must be of all its pairs, in the order of its list.",
        )
    rows: dict[int, ForeignPair] = {}
    unknown: list[str] = []
    double: list[str] = []
    for pair in foreign.pairs:
        row = pair.row
        if row is None:
            key = pair.pair_id
            row = by_names.get(_names(pair)) if key is None else by_id.get(_plain(key))
        if row is None or row < 0:
            unknown.append(pair.name)
        elif row in rows:
            double.append(pair.name)
        else:
            rows[row] = pair
    if unknown:
        raise InputError(
            f"{len(unknown):,} of {len(foreign.pairs):,} pairs are not of {what}, the first is {unknown[0][:120]!r}",
            fix="Are these predictions of another data set or split?" if not rows else "Leave them out.",
        )
    if double:
        raise InputError(f"{len(double):,} pairs are there twice, the first is {double[0][:120]!r}")
    return dict(sorted(rows.items()))


def _plain(pair_id: str) -> str:
    """A pair's id in whichever way it is written: with ':' or '-', with a folder or ending."""
    return PurePosixPath(pair_id.replace("\\", "/")).name.removesuffix(".json").replace(":", "-")


def _by_id(truth: Predictions) -> Mapping[str, int]:
    """Rows by id, and by id without the category where that is enough; -1 where it is not."""
    found: dict[str, int] = {}
    for row, (pair, category) in enumerate(zip(truth.pair_ids.tolist(), truth.categories.tolist())):
        whole = _plain(pair)
        short = whole.removesuffix(f"-{category}")
        found[whole] = row
        if short != whole:
            found[short] = row if short not in found else -1
    return found


def _by_names(truth: Predictions) -> Mapping[tuple[str, str], int]:
    """Rows by the stems of both images' names; -1 where several pairs have them."""
    if truth.images is None:
        return {}
    found: dict[tuple[str, str], int] = {}
    for row, (source, target) in enumerate(truth.images.tolist()):
        category = str(truth.categories[row])
        for key in ((_stem(source), _stem(target)), (f"{category}/{_stem(source)}", f"{category}/{_stem(target)}")):
            found[key] = row if key not in found else -1
    return found


def _names(pair: ForeignPair) -> tuple[str, str]:
    return _stem(pair.source or ""), _stem(pair.target or "")


def _stem(name: str) -> str:
    return PurePosixPath(name.replace("\\", "/")).stem


def _points(pair: ForeignPair, truth: Predictions, rows: np.ndarray, what: str) -> np.ndarray:
    """The rows of the points that a foreign pair predicts, (K,); -1 for ids that nothing shows."""
    if pair.ids is None:
        mutual = rows[truth.mutual[rows]]
        if len(mutual) != len(pair.points):
            raise InputError(
                f"pair {pair.name} has {len(pair.points)} points, in {what} both images show {len(mutual)}"
            )
        return mutual
    if (truth.ids[rows] < 0).any():
        raise InputError(f"{what} has no keypoint ids", fix="Give points in its order, without ids.")
    place = {int(number): int(row) for number, row in zip(truth.ids[rows], rows)}
    if len(set(pair.ids.tolist())) < len(pair.ids):
        raise InputError(f"pair {pair.name} names a keypoint twice")
    found = np.array([place.get(int(number), -1) for number in pair.ids], int)
    lacking = set(truth.ids[rows[truth.mutual[rows]]].tolist()) - set(pair.ids.tolist())
    if lacking:
        raise InputError(
            f"pair {pair.name} has no point of id {min(lacking)}, which both images of {what} show",
            fix="Ids are those of the data set.",
        )
    return found


def _check_finite(truth: Predictions, predicted: np.ndarray, what: str) -> None:
    bad = truth.mutual & ~np.isfinite(predicted).all(axis=1)
    if bad.any():
        pair = truth.pair_ids[truth.owner[np.flatnonzero(bad)[0]]]
        raise InputError(f"{int(bad.sum()):,} predicted points are not numbers, the first in pair {pair} of {what}")


FRAMES = ("original", "letterbox-840", "stretch-840", "stretch-768", "stretch-770", "corner-aligned-840", "stretch-256",
          "stretch-240", "stretch-224", "stretch-512", "unit-800")  # fmt: skip
_MOST = 0.5  # of all points


def suspicion(predictions: Predictions) -> str | None:
    """Why the predictions are probably not in the frame they are said to be in, with a hint; None if they may be."""
    rows = np.flatnonzero(predictions.mutual)
    if not len(rows):
        return None
    sizes = predictions.sizes[predictions.owner[rows]]
    said, true = predictions.predicted[rows], predictions.true[rows]
    placed = predictions.frame.original(said, sizes)
    outside = _outside(placed, sizes)
    better = _best_frame(predictions, rows)
    name = str(predictions.frame)
    if outside.mean() > _MOST:
        hint = f"They fit {better}: give --frame {better}." if better and better != name else ""
        if not hint and _outside(placed[:, ::-1], sizes).mean() < outside.mean() / 2:
            hint = "Exchange x and y: with y first they lie inside."
        return (
            f"{int(outside.sum()):,} of {len(rows):,} predicted points lie outside their images, taken as "
            f"{name}. {hint}".rstrip()
        )
    longer = sizes.max(axis=1)
    exchanged = predictions.frame.original(said[:, ::-1], sizes)
    as_is, swapped = ((np.hypot(*(points - true).T) <= 0.1 * longer).mean() for points in (placed, exchanged))
    if len(rows) >= 20 and swapped > 2 * as_is + 0.1:
        return (
            f"{100 * swapped:.0f} % of the points are right with x and y exchanged, {100 * as_is:.0f} % as they are. "
            "Write x first."
        )
    if better and better != name and predictions.frame.kind != "unit":
        near = {frame: _near(predictions, rows, ProtocolFrame.parse(frame)) for frame in (name, better)}
        if len(rows) >= 20 and near[better] > 2 * near[name] + 0.1:
            return (
                f"{100 * near[better]:.0f} % of the points are right taken as {better}, {100 * near[name]:.0f} % "
                f"as {name}. Give --frame {better}."
            )
    return None


def _outside(points: np.ndarray, sizes: np.ndarray) -> np.ndarray:
    return np.asarray(((points < -1) | (points > sizes)).any(axis=1))


def _near(predictions: Predictions, rows: np.ndarray, frame: ProtocolFrame) -> float:
    """The share of points within a tenth of the image of their true points, taken as in a frame."""
    taken = replace(predictions, frame=frame)
    sizes = taken.sizes[taken.owner[rows]]
    error = np.hypot(*(frame.original(taken.predicted[rows], sizes) - taken.true[rows]).T)
    return float((error <= 0.1 * sizes.max(axis=1)).mean())


def _best_frame(predictions: Predictions, rows: np.ndarray) -> str | None:
    """The frame in which most points are near their true ones, if that is many of them."""
    near = {name: _near(predictions, rows, ProtocolFrame.parse(name)) for name in FRAMES}
    best = max(near, key=lambda name: near[name])
    return best if near[best] > 0.1 else None
