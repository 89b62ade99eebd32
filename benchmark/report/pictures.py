"""Stored predictions drawn on their images, and the pairs that the report shows, chosen by rule."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
from PIL import Image

from benchmark.report import run_details
from benchmark.report.contents import Report
from benchmark.report.leaderboard import Leaderboard, LeaderboardEntry
from benchmark.scoring import comparison
from benchmark.scoring.comparison import Comparison, Measure
from benchmark.scoring.pck import Metric
from benchmark.scoring.prediction_files import prediction_file, read_predictions
from benchmark.scoring.predictions import Predictions
from benchmark.scoring.result import Result
from sc_imagenet.core.errors import InputError
from sc_imagenet.data.drawing import contact_sheet, draw_pair
from sc_imagenet.data.images import open_image
from sc_imagenet.data.roots import open_source
from sc_imagenet.sources.source import Entry, check_entry

# The two images of pairs by their ids, for pictures of stored predictions.


class PairImages:
    """The images of one split, opened when they are asked for.

    Reads the split's list of pairs alone: nothing is converted.

    Args:
        dataset: as predictions name it.
        split: of it.
        root: where it lies; else ``SC_DATA_ROOT``. Of a generated set its own folder.
        form: of a generated set, the data set of the catalogue that it is like.

    Raises:
        InputError: the data set or its images are not here; the message says how to get them.
    """

    def __init__(self, dataset: str, split: str, root: Path | None = None, form: str | None = None) -> None:
        if form is not None:
            from sc_imagenet.data.schema import generated_name  # and with it datasets

            if root is None or dataset not in (generated_name(root), root.absolute().name):
                raise InputError(
                    f"where the generated set {dataset} lies is not known", fix="Give its folder as --data-root."
                )
        source = open_source(form or dataset, root)
        folder = source.image_root()
        if folder is None or not folder.is_dir():
            raise InputError(f"the images of {dataset} are not here", where=folder)
        if (reason := source.missing(split)) is not None:
            raise InputError(f"'{split}' of {dataset} cannot be read: {reason}")
        self.folder = folder
        self.entries: dict[str, Entry] = {entry.pair_id: entry for entry in source.entries(split)}
        self._open = lru_cache(maxsize=4)(open_image)

    def of(self, pair_id: str) -> tuple[Image.Image, Image.Image]:
        """Source and target of a pair, in original pixels.

        Raises:
            InputError: no such pair, or an image that is missing or damaged.
        """
        if pair_id not in self.entries:
            raise InputError(f"pair {pair_id!r} is not in the data set here", where=self.folder)
        entry = self.entries[pair_id]
        check_entry(entry, self.folder)
        return self._open(self.folder / entry.source), self._open(self.folder / entry.target)


# Stored predictions drawn on their images: green is correct, red is wrong, the truth is crossed.

WIDTH = 2000  # pixels of a picture with both runs side by side


def picture_of_pair(
    predictions: Predictions,
    pair_id: str,
    metric: Measure,
    images: tuple[Image.Image, Image.Image],
    title: str | None = None,
    height: int = 400,
) -> Image.Image:
    """One pair: the image of the given points left, that of the predictions right.

    Args:
        predictions: that hold the pair.
        pair_id: its id.
        metric: decides what is correct.
        images: source and target, in original pixels.
        title: a line above.
        height: of the images in the picture.

    Raises:
        InputError: no such pair, or images of another size than when it was predicted.
    """
    one = predictions.subset([pair_id])
    left, right = images if predictions.info.direction == "forward" else images[::-1]
    if left.size != tuple(one.other_sizes[0]) or right.size != tuple(one.sizes[0]):
        raise InputError(f"the images of pair {pair_id!r} here have another size than when it was predicted")
    correct = comparison.correct_points(one, metric)
    return draw_pair(left, right, one.other, one.predicted, correct=correct, truth=one.true, title=title, height=height)


def picture_of_changes(
    comparison: Comparison, first: Predictions, second: Predictions, images: PairImages
) -> Image.Image:
    """The pairs that changed most, one a row, the first run left and the second right.

    Raises:
        InputError: no pair changed, or an image is missing or damaged.
    """
    changed = (*comparison.gained, *comparison.lost)
    if not changed:
        raise InputError(f"no pair of {comparison.data} changed under {comparison.ranking}: nothing to draw")
    drawn = []
    for pair in changed:
        sides = images.of(pair.pair_id)
        for name, predictions in (("first", first), ("second", second)):
            title = f"{name}: {predictions.info.model} {predictions.info.run}, {pair.category}, {pair.pair_id}"
            drawn.append(picture_of_pair(predictions, pair.pair_id, comparison.ranking, sides, title))
    return contact_sheet(drawn, 2, WIDTH)


def best_median_worst(gains: np.ndarray, pair_ids: np.ndarray) -> list[tuple[str, int]]:
    """The rows of the best, the median and the worst gain, each row once; ties in the order of pair ids.

    >>> best_median_worst(np.array([0.0, 50.0, -20.0]), np.array(["a", "b", "c"]))
    [('best gain', 1), ('median gain', 0), ('worst gain', 2)]
    """
    counted = np.flatnonzero(np.isfinite(gains))
    order = counted[np.lexsort((pair_ids[counted], gains[counted]))].tolist()
    if not order:
        return []
    found = {"best gain": order[-1], "median gain": order[len(order) // 2], "worst gain": order[0]}
    kinds = {row: kind for kind, row in reversed(found.items())}  # the first kind of a row is its kind
    return [(kind, row) for kind, row in found.items() if kinds[row] == kind]


# The qualitative figure: pairs chosen by rule, never by hand, drawn where their images are at hand.

HEIGHT = 280  # pixels of a drawn image: small enough that a report of many boards stays a small file
QUALITY = 72  # of WebP
MOST_BYTES = 2_500_000  # of all pictures of a report together
# What two runs have in common that differ in their seeds alone.
TRAINING = ("model", "backbone", "pretrain", "finetune", "checkpoint", "preset", "changes")


@dataclass(frozen=True)
class Shown:
    """A chosen pair: what of it both runs have right in percent, and both pictures as data URIs ("" for none)."""

    kind: str
    pair_id: str
    category: str
    baseline: float
    compared: float
    pictures: tuple[str, str]

    @property
    def gain(self) -> float:
        """Compared minus baseline, in points."""
        return self.compared - self.baseline


@dataclass(frozen=True)
class Figure:
    """Three pairs of a board, under a baseline run and the run compared with it."""

    baseline: Result
    compared: Result
    reason: str  # why these two
    metric: Metric
    pairs: int  # shared by both
    shown: tuple[Shown, ...]
    note: str  # why there are no pictures; "" where there are

    def in_words(self, shown: Shown, second: bool) -> str:
        """A picture in words, for those who do not see it: of the baseline or of the second run, the compared one."""
        run, share = (self.compared, shown.compared) if second else (self.baseline, shown.baseline)
        return f"{shown.category}: {run_details.arrow(run)} by {run.title}, {share:.0f} % of the points right"


def figures(report: Report, root: Path | None = None) -> tuple[Figure | None, ...]:
    """A figure for each board of a report, None where there is nothing to compare.

    Args:
        report: with runs whose predictions are still there.
        root: where the data sets lie; else ``SC_DATA_ROOT``.
    """
    folders = {details.result.run: Path(details.folder) for details in report.details}
    found: list[Figure | None] = []
    spent = 0
    for board in report.leaderboards:
        figure = _figure(board, folders, root, draw=spent < MOST_BYTES)
        spent += sum(len(picture) for shown in figure.shown for picture in shown.pictures) if figure else 0
        found.append(figure)
    return tuple(found)


def baseline_of(entries: Sequence[LeaderboardEntry]) -> tuple[LeaderboardEntry, str] | None:
    """The run that the best one of a board (the first) is held against, and why.

    The same model and fine-tuning without its pre-training, if there is such a run; else an untrained run,
    ``nearest`` first; else the weakest.
    """
    best, others = entries[0].result, entries[1:]
    if not others:
        return None
    twins = [
        entry
        for entry in others
        if best.pretrain
        and entry.result.pretrain is None
        and (entry.result.model, entry.result.finetune) == (best.model, best.finetune)
    ]
    untrained = [entry for entry in others if not entry.result.trained]
    nearest = [entry for entry in untrained if entry.result.model == "nearest"]
    for candidates, reason in (
        (twins, "the same model without pre-training"),
        (nearest, "untrained nearest neighbours"),
        (untrained, "an untrained model"),
    ):
        if candidates:
            same_seed = [entry for entry in candidates if entry.result.seed == best.seed]
            return (same_seed or candidates)[0], reason
    weakest = others[-1]
    alike = all(getattr(weakest.result, name) == getattr(best, name) for name in TRAINING)
    return weakest, "the same with another seed" if alike else "the weakest run"


def _figure(board: Leaderboard, folders: dict[str, Path], root: Path | None, draw: bool) -> Figure | None:
    metric = board.metrics[1]
    names = {entry.result.run: prediction_file(board.dataset, board.split, entry.mark) for entry in board.entries}
    files = {run: folders[run] / "predictions" / name for run, name in names.items()}
    entries = [entry for entry in board.entries if entry.scores[1] and files[entry.result.run].is_file()]
    chosen = baseline_of(entries) if entries else None
    if chosen is None:
        return None
    baseline, compared = chosen[0].result, entries[0].result
    try:
        first, second = comparison.align(*(read_predictions(files[run.run]) for run in (baseline, compared)))
        shares = comparison.pair_shares(first, metric), comparison.pair_shares(second, metric)
    except InputError:  # damaged since it was scored; what is told of the run says so
        return None
    images, note = _images(board, root) if draw else (None, "left out to keep this file small")
    shown = []
    for kind, row in best_median_worst(shares[1] - shares[0], first.pair_ids):
        pair_id, pictures = str(first.pair_ids[row]), ("", "")
        if images is not None:
            try:
                sides = images.of(pair_id)
                pictures = _drawn(first, pair_id, metric, sides), _drawn(second, pair_id, metric, sides)
            except InputError as error:
                note = str(error)
        category, before, after = str(first.categories[row]), float(shares[0][row]), float(shares[1][row])
        shown.append(Shown(kind, pair_id, category, before, after, pictures))
    return Figure(baseline, compared, chosen[1], metric, len(first), tuple(shown), note)


def _images(board: Leaderboard, root: Path | None) -> tuple[PairImages | None, str]:
    try:
        return PairImages(board.dataset, board.split, root, board.form), ""
    except InputError as error:
        return None, str(error)


def _drawn(predictions: Predictions, pair_id: str, metric: Metric, images: tuple[Image.Image, Image.Image]) -> str:
    """One pair as a data URI."""
    picture = picture_of_pair(predictions, pair_id, metric, images, height=HEIGHT)
    packed = io.BytesIO()
    picture.save(packed, "WEBP", quality=QUALITY, method=4)
    return "data:image/webp;base64," + base64.b64encode(packed.getvalue()).decode()
