"""The qualitative figure: pairs chosen by rule, never by hand, drawn where their images are at hand."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from benchmark.report import run_text
from benchmark.report.boards import Board, Entry
from benchmark.report.build import Report
from benchmark.report.pair_images import PairImages
from benchmark.report.prediction_picture import best_median_worst, picture_of_pair
from benchmark.scoring import comparison
from benchmark.scoring.pck import Metric
from benchmark.scoring.prediction_files import prediction_file, read_predictions
from benchmark.scoring.predictions import Predictions
from benchmark.scoring.result import Result
from sc_imagenet.core.errors import InputError

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
    weakest = others[-1]
    alike = all(getattr(weakest.result, name) == getattr(best, name) for name in TRAINING)
    return weakest, "the same with another seed" if alike else "the weakest run"


def _figure(board: Board, folders: dict[str, Path], root: Path | None, draw: bool) -> Figure | None:
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
    except InputError:  # damaged since it was scored; the run's own sheet says so
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


def _images(board: Board, root: Path | None) -> tuple[PairImages | None, str]:
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


def described(figure: Figure, shown: Shown, second: bool) -> str:
    """A picture in words, for those who do not see it."""
    run, share = (figure.compared, shown.compared) if second else (figure.baseline, shown.baseline)
    return f"{shown.category}: {run_text.arrow(run)} by {run.title}, {share:.0f} % of the points right"
