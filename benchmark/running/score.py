"""``scbench score`` of predictions in any form: read, joined to their data set, doubted, scored, with a passport."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmark.scoring import passport
from benchmark.scoring.joining import Joined, opened
from benchmark.scoring.metric import Scores, score_protocols
from benchmark.scoring.predictions import Predictions
from benchmark.scoring.protocol import Protocol
from sc_imagenet.core.errors import InputError

SEED = 0  # of the bootstrap draws


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
    scores = score_protocols(predictions, chosen, draws, SEED, details)
    stated = passport.make(predictions, scores, draws, SEED, details, path)
    return ScoredFile(path, predictions, scores, (*found.notes, *scores.notes), stated)


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
    return path, passport.disagreeing_scores(stated, found.predictions)
