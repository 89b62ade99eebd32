"""``scbench score`` of predictions in any form: read, joined to their data set, doubted, scored, with a passport."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from benchmark.commands.protocols import print_scores
from benchmark.scoring import passport
from benchmark.scoring.joining import Joined, opened
from benchmark.scoring.metric import score
from benchmark.scoring.protocol import Protocol
from sc_imagenet.core.errors import InputError

SEED = 0  # of the bootstrap draws
SHOWN = 8  # differences that are told one by one


def score_file(
    path: Path,
    found: Joined,
    chosen: Sequence[Protocol],
    details: Sequence[str],
    pairs: Sequence[str] | None,
    draws: int,
    out: Path | None,
    as_json: bool,
) -> None:
    """Score, print, and write the passport where one is wanted; of the pairs with these ids, or of all."""
    predictions = found.predictions if pairs is None else found.predictions.subset(pairs)
    scores = score(predictions, chosen, draws, SEED, details)
    told = passport.make(predictions, scores, draws, SEED, details, path)
    head = f"{path.name}: {predictions.info.dataset}:{predictions.info.split}, points in {predictions.frame}"
    print_scores(scores, head, found.notes, told, as_json)
    if out is not None:
        passport.write(out, told)
        print(f"wrote {out}", file=sys.stderr)


def check_passport(file: Path, path: Path | None, root: Path | None) -> bool:
    """Score again what a passport tells of, and say whether all of it agrees.

    ``path`` None: the predictions lie beside the passport, under the name that it tells.

    Raises:
        InputError: the passport or the predictions cannot be used.
    """
    told = passport.read(file)
    name = told.get("predictions")
    if path is None:
        if not isinstance(name, str) or Path(name).name != name:
            raise InputError("does not name its predictions", where=file, fix="Give their file, too.")
        path = file.parent / name
        if not path.exists():
            raise InputError("the predictions of the passport are not beside it", where=path, fix="Give their file.")
    found = opened(path, told["dataset"], told["split"], root, told["frame"])
    lines = passport.differences(told, found.predictions)
    if not lines:
        print(f"equal: {path.name} gives every score of {file.name}")
        return True
    more = [f"and {len(lines) - SHOWN:,} more"] if len(lines) > SHOWN else []
    print("\n".join([f"not equal: {path.name} and {file.name}", *lines[:SHOWN], *more]))
    return False
