"""The qualitative figure: pairs chosen by rule, never by hand, drawn where their images are at hand."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from benchmark import comparison, pck
from benchmark.pair_images import PairImages
from benchmark.pck import Metric
from benchmark.predictions import Predictions, read_predictions
from benchmark.report import text
from benchmark.report.build import Board, Entry, Report
from benchmark.result import Result
from sc_imagenet.drawing import draw_pair
from sc_imagenet.errors import InputError

HEIGHT = 220  # pixels of a drawn image: small enough that a report of many boards stays a small file
QUALITY = 72  # of WebP
MOST_BYTES = 2_500_000  # of all pictures of a report together
KINDS = (("best gain", -1), ("median gain", None), ("worst gain", 0))


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


def figures(report: Report, root: Path | None = None) -> tuple[Figure | None, ...]:
    """A figure for each board of a report, None where there is nothing to compare.

    Args:
        report: with runs whose predictions are still there.
        root: where the data sets lie; else ``SC_DATA_ROOT``.
    """
    folders = {sheet.result.run: Path(sheet.folder) for sheet in report.sheets}
    found: list[Figure | None] = []
    spent = 0
    for board in report.boards:
        figure = _figure(board, folders, root, draw=spent < MOST_BYTES)
        spent += sum(len(picture) for shown in figure.shown for picture in shown.pictures) if figure else 0
        found.append(figure)
    return tuple(found)


def baseline_of(entries: Sequence[Entry]) -> tuple[Entry, str] | None:
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
    return others[-1], "the weakest run"


def _figure(board: Board, folders: dict[str, Path], root: Path | None, draw: bool) -> Figure | None:
    name, metric = board.key.partition(":")[0], board.metrics[1]
    files = {
        entry.result.run: folders[entry.result.run] / "predictions" / f"{name}-{board.split}.parquet"
        for entry in board.entries
    }
    entries = [entry for entry in board.entries if entry.scores[1] and files[entry.result.run].is_file()]
    chosen = baseline_of(entries) if entries else None
    if chosen is None:
        return None
    baseline, compared = chosen[0].result, entries[0].result
    try:
        first, second = comparison.align(*(read_predictions(files[run.run]) for run in (baseline, compared)))
        shares = comparison.pair_shares(first, metric), comparison.pair_shares(second, metric)
    except InputError:  # damaged since it was scored; the run's own sheet says so
        return None
    rows = _rows(first, shares[1] - shares[0])
    images, note = (_images(name, board.split, root) if draw else (None, "left out to keep this file small"))
    shown = []
    for kind, row in rows:
        pictures = ("", "")
        if images is not None:
            try:
                sides = images.of(str(first.pair_ids[row]))
                pictures = _drawn(first, row, metric, sides), _drawn(second, row, metric, sides)
            except InputError as error:
                note = str(error)
        shown.append(
            Shown(
                kind,
                str(first.pair_ids[row]),
                str(first.categories[row]),
                float(shares[0][row]),
                float(shares[1][row]),
                pictures,
            )
        )
    return Figure(baseline, compared, chosen[1], metric, len(first), tuple(shown), note)


def _rows(predictions: Predictions, gains: np.ndarray) -> list[tuple[str, int]]:
    """The rows of the best, the median and the worst gain; ties in the order of pair ids."""
    counted = np.flatnonzero(np.isfinite(gains))
    order = counted[np.lexsort((predictions.pair_ids[counted], gains[counted]))]
    if not len(order):
        return []
    found = [(kind, int(order[len(order) // 2 if place is None else place])) for kind, place in KINDS]
    return list({row: (kind, row) for kind, row in reversed(found)}.values())[::-1]


def _images(name: str, split: str, root: Path | None) -> tuple[PairImages | None, str]:
    try:
        return PairImages(name, split, root), ""
    except InputError as error:
        return None, str(error)


def _drawn(
    predictions: Predictions, row: int, metric: Metric, images: tuple[Image.Image, Image.Image]
) -> str:
    """One pair as a data URI: given points left, predictions right, the truth crossed."""
    one = predictions.take(np.array([row]))
    left, right = images if predictions.info.direction == "forward" else images[::-1]
    if left.size != tuple(one.other_sizes[0]) or right.size != tuple(one.sizes[0]):
        raise InputError(f"the images of pair {one.pair_ids[0]!r} here have another size than when it was predicted")
    reach = metric.alpha * pck.thresholds(one, metric.threshold, metric.frame)
    correct = pck.distances(one, metric.frame) <= reach
    picture = draw_pair(left, right, one.other, one.predicted, correct=correct, truth=one.true, height=HEIGHT)
    packed = io.BytesIO()
    picture.save(packed, "WEBP", quality=QUALITY, method=4)
    return "data:image/webp;base64," + base64.b64encode(packed.getvalue()).decode()


def described(figure: Figure, shown: Shown, second: bool) -> str:
    """A picture in words, for those who do not see it."""
    run, share = (figure.compared, shown.compared) if second else (figure.baseline, shown.baseline)
    return f"{shown.category}: {text.arrow(run)} by {run.title}, {share:.0f} % of the points right"
