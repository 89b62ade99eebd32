"""``scbench score`` of predictions in any form: read, joined to their data set, doubted, scored, with a passport."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmark.scoring import passport
from benchmark.scoring.foreign import read_foreign
from benchmark.scoring.frames import Frame
from benchmark.scoring.joining import Joined, join
from benchmark.scoring.metric import Scores, score
from benchmark.scoring.plausible import suspicion
from benchmark.scoring.prediction_files import read_predictions
from benchmark.scoring.predictions import Predictions
from benchmark.scoring.protocol import Protocol
from benchmark.scoring.truth import read_truth
from sc_imagenet.core.errors import InputError

SEED = 0  # of the bootstrap draws


def opened(path: Path, dataset: str | None, split: str, root: Path | None, frame: str | None) -> Joined:
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
    if dataset is None:
        raise InputError(
            "these predictions do not say which data set they are of", where=path, fix="Give --dataset: spair-71k."
        )
    given = None if frame is None else Frame.parse(frame)
    try:
        found = join(read_foreign(path), read_truth(dataset, split, root), given)
    except InputError as error:
        line = str(error)
        raise error if str(path) in line else InputError(line, where=path) from error
    doubt = suspicion(found.predictions)
    if doubt and given is None:
        raise InputError(
            f"these predictions are not scored: {doubt}", where=path, fix="If they are right, say so with --frame."
        )
    return Joined(found.predictions, (*found.notes, *([doubt] if doubt else [])))


@dataclass(frozen=True)
class ScoredFile:
    """One file of predictions under protocols, and the passport of these scores."""

    path: Path
    predictions: Predictions
    scores: Scores
    notes: tuple[str, ...]
    passport: dict[str, Any]


def score_file(
    path: Path,
    found: Joined,
    chosen: Sequence[Protocol],
    details: Sequence[str],
    pairs: Sequence[str] | None,
    draws: int,
) -> ScoredFile:
    """Score the pairs with these ids, or all."""
    predictions = found.predictions if pairs is None else found.predictions.subset(pairs)
    scores = score(predictions, chosen, draws, SEED, details)
    stated = passport.make(predictions, scores, draws, SEED, details, path)
    return ScoredFile(path, predictions, scores, tuple(found.notes), stated)


def disagreements(file: Path, path: Path | None, root: Path | None) -> tuple[Path, list[str]]:
    """Score again what a passport states: the file of predictions, and a line for each difference.

    ``path`` None: the predictions lie beside the passport, under the name that it states.

    Raises:
        InputError: the passport or the predictions cannot be used.
    """
    stated = passport.read(file)
    name = stated.get("predictions")
    if path is None:
        if not isinstance(name, str) or Path(name).name != name:
            raise InputError("does not name its predictions", where=file, fix="Give their file, too.")
        path = file.parent / name
        if not path.exists():
            raise InputError("the predictions of the passport are not beside it", where=path, fix="Give their file.")
    found = opened(path, stated["dataset"], stated["split"], root, stated["frame"])
    return path, passport.differences(stated, found.predictions)
