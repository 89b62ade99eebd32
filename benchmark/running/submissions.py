"""Submissions of scores: a folder for each, which anybody can score again.

    <folder>/<data set>/<split>/<16 digits of the SHA-256 of the first three files' content>/
        predictions.parquet   every pair of the split, original pixels
        passport.json         its scores, protocols with version, hashes of pairs and predictions
        submission.json       what made them: method, model, supervision, backbone, training data, licence
        scores.parquet        the scores and what made them once more, a row each: what the Hub shows

The folder may be the checkout of a Git repository: every submission has files of its own, so that two made at once
both stay. ``verify`` believes none of it: it scores the predictions again, compares their pairs with the data set's
where that is here, and refuses what does not agree.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq

from benchmark.running.hub_results import SCORES, same_scores, write_card, write_scores
from benchmark.running.score import SEED, score_file
from benchmark.scoring import passport as passports
from benchmark.scoring.joining import opened
from benchmark.scoring.prediction_files import read_predictions
from benchmark.scoring.predictions import Predictions
from benchmark.scoring.protocols import protocols_named
from benchmark.scoring.result import read_result
from benchmark.scoring.runs import prediction_files
from sc_imagenet.core.errors import InputError, is_file_name, visible
from sc_imagenet.core.files import read_json, sha256_of, write_json

FORMAT = 1
PREDICTIONS, PASSPORT, SUBMISSION = FILES = ("predictions.parquet", "passport.json", "submission.json")
DRAWS = (200, 10_000)  # fewest and most, behind an interval that is worth comparing
TEXT = re.compile(r"[\w .,:;+@/()&=*'#%-]{0,200}")  # of names: nothing that a page could take for markup
REQUIRED = "strict@1"  # by which every submission can be ranked
SHOWN = 4  # differences of a submission that are told one by one
LARGEST = 256 << 20  # bytes of a file
LONGEST_FAULT = 400  # signs


@dataclass(frozen=True)
class Submission:
    """What made the predictions, in the maker's words, and the hashes of the files beside it."""

    method: str
    model: str
    supervision: str
    backbone: str
    trained_on: tuple[str, ...]
    licence: str
    run: str
    predictions_sha256: str  # of the file
    passport_sha256: str
    format: int = FORMAT


@dataclass(frozen=True)
class Verified:
    """One folder: what is wrong with it, nothing if it holds; ``unchecked`` says what could not be looked at."""

    place: str
    submission: Submission | None
    passport: Mapping[str, Any] | None
    faults: tuple[str, ...] = ()
    unchecked: str | None = None


def submit(run: Path, folder: Path, protocols: str = REQUIRED, licence: str = "", draws: int = 1000) -> list[Path]:
    """Write the predictions of a run and their passports as submissions; those that are there already stay as they are.

    The folder's ``README.md`` then tells ``datasets`` where they lie.

    Raises:
        InputError: no run, not all pairs of a split, a protocol that does not apply, or a damaged ``README.md``.
    """
    result = read_result(run)
    chosen = protocols_named(f"{REQUIRED},{protocols}")
    chosen = list({str(each): each for each in chosen}.values())
    made = []
    for file in prediction_files(run):
        predictions = read_predictions(file)
        info = predictions.info
        if info.form is not None:
            raise InputError(f"{info.dataset} is a set of your own, which nobody else has", where=file)
        wrong = [] if (truth := _truth(info.dataset, info.split, None)) is None else other_pairs(file, truth)
        if wrong:
            raise InputError(wrong[0], where=file, fix="Predict every pair, without --limit.")
        scored = score_file(file, opened(file, None, "test", None, None), chosen, (), None, draws)
        about = {
            "method": result.title,
            "model": result.model,
            "supervision": result.supervision,
            "backbone": result.backbone,
            "trained_on": [each for each in (result.pretrain, result.finetune, result.trained_on) if each],
            "licence": licence,
            "run": result.run,
        }
        made.append(_write(file, scored.passport, about, folder / info.dataset / info.split))
    write_card(folder)
    return made


def _write(file: Path, passport: Mapping[str, Any], about: Mapping[str, Any], folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(prefix=".submission.", dir=folder))
    try:
        shutil.copyfile(file, temporary / PREDICTIONS)
        passports.write(temporary / PASSPORT, {**passport, "predictions": PREDICTIONS})
        hashes = {
            "predictions_sha256": sha256_of(temporary / PREDICTIONS),
            "passport_sha256": sha256_of(temporary / PASSPORT),
        }
        write_json(temporary / SUBMISSION, {"format": FORMAT, **about, **hashes})
        read_submission(temporary / SUBMISSION)
        temporary.chmod(0o755)
        place = folder / key_of(temporary)
        write_scores(temporary, place, about, passport)
        try:
            os.rename(temporary, place)  # whole or not at all
        except OSError:
            if not place.is_dir():
                raise
        return place
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def key_of(place: Path) -> str:
    """The name of a submission's folder: it changes with any byte of its files."""
    digest = hashlib.sha256("\n".join(hashlib.sha256((place / n).read_bytes()).hexdigest() for n in FILES).encode())
    return digest.hexdigest()[:16]


def read_submission(path: Path) -> Submission:
    """What a ``submission.json`` says.

    Raises:
        InputError: damaged, of another format, or with an entry that is none or could be taken for markup.
    """
    content = read_json(path)
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        raise InputError(f"is not a submission of format {FORMAT}", where=path)
    known = {each.name for each in fields(Submission)}
    if content.keys() != known:
        raise InputError(f"has other entries: {', '.join(sorted(content.keys() ^ known))[:100]}", where=path)
    lists, texts = content["trained_on"], {k: v for k, v in content.items() if k not in ("trained_on", "format")}
    if not isinstance(lists, list) or len(lists) > 20:
        raise InputError("has trained_on that is no short list", where=path)
    for name, value in [*texts.items(), *(("trained_on", each) for each in lists)]:
        if not isinstance(value, str) or not TEXT.fullmatch(value):
            raise InputError(f"has a {name} that is no plain name: {ascii(value)[:80]}", where=path)
    if not content["method"] or not content["model"]:
        raise InputError("names no method", where=path)
    return Submission(**{**content, "trained_on": tuple(lists)})


def verify(folder: Path, root: Path | None = None) -> list[Verified]:
    """Score every submission again; what lies in the folder and is none is refused, too.

    Raises:
        InputError: no such folder.
    """
    if not folder.is_dir():
        raise InputError("no such folder of submissions", where=folder, fix="'scbench submit RUN DIR' makes one.")
    truths: dict[tuple[str, str], Mapping[str, Any] | None] = {}
    found = [_verified(folder, place, root, truths) for place in _places(folder)]
    first: dict[str, str] = {}
    again = []
    for each in found:
        mark = str(each.passport["predictions_sha256"]) if each.passport else each.place
        before = first.setdefault(mark, each.place)
        same = (f"its predictions are those of {before}",) if before != each.place else ()
        faults = tuple(map(_line, (*each.faults, *same)))
        again.append(Verified(each.place, each.submission, each.passport, faults, each.unchecked))
    return again


def _line(fault: str) -> str:
    """A fault as one line that can be printed: names in it are the sender's."""
    return visible(" ".join(fault.split()))[:LONGEST_FAULT]


def _places(folder: Path) -> Iterator[Path]:
    """Everything at the place of a submission; a dot name is a repository's."""
    places = [folder]
    for depth in range(3):
        inside = [path for each in places for path in sorted(each.iterdir()) if not path.name.startswith(".")]
        loose = [path for path in inside if path.is_symlink() or not path.is_dir()]
        if depth:
            yield from loose
        else:
            yield from (path for path in loose if path.is_symlink() or path.suffix not in (".md", ".txt"))
        places = [path for path in inside if path not in loose]
    yield from places


def _verified(
    folder: Path, place: Path, root: Path | None, truths: dict[tuple[str, str], Mapping[str, Any] | None]
) -> Verified:
    name = str(place.relative_to(folder))
    try:
        _check_files(place)
        about = read_submission(place / SUBMISSION)
        stated = passports.read(place / PASSPORT)
        faults = [*_hash_faults(place, about), *_passport_faults(place, stated)]
        if faults:
            return Verified(name, about, None, tuple(faults))
        predictions = read_predictions(place / PREDICTIONS)
        faults += _info_faults(predictions, stated, about)
        faults += passports.disagreeing_scores(stated, predictions)[:SHOWN]
        if not faults and not same_scores(place, asdict(about), stated):
            faults.append(f"{SCORES} has other scores than {PASSPORT}, or says otherwise what made them")
        data = stated["dataset"], stated["split"]
        if data not in truths:
            truths[data] = _truth(*data, root)
        truth = truths[data]
        if truth is not None:
            faults += other_pairs(place / PREDICTIONS, truth)
        unchecked = None if truth is not None else f"its pairs, as {data[0]} is not here"
        return Verified(name, about, stated, tuple(faults), unchecked)
    except InputError as error:
        return Verified(name, None, None, (str(error),))
    except (KeyError, TypeError, ValueError, AttributeError, RecursionError) as error:
        return Verified(name, None, None, (f"its passport is not one ({error!r:.100})",))


def _check_files(place: Path) -> None:
    if place.is_symlink() or not place.is_dir():
        raise InputError("is no folder of a submission", where=place)
    names, wanted = sorted(path.name for path in place.iterdir()), sorted((*FILES, SCORES))
    if names != wanted:
        raise InputError(f"holds {', '.join(names)[:100] or 'nothing'}, not {', '.join(wanted)}", where=place)
    for path in place.iterdir():
        if path.is_symlink() or not path.is_file() or path.stat().st_size > LARGEST:
            raise InputError("is no file of a submission", where=path)


def _hash_faults(place: Path, about: Submission) -> list[str]:
    faults = []
    if place.name != key_of(place):
        faults.append("its folder is not named by the content of its files: one was changed")
    for file, said in ((PREDICTIONS, about.predictions_sha256), (PASSPORT, about.passport_sha256)):
        if hashlib.sha256((place / file).read_bytes()).hexdigest() != said:
            faults.append(f"{file} is not the one that {SUBMISSION} tells of")
    return faults


def _passport_faults(place: Path, stated: Mapping[str, Any]) -> list[str]:
    faults = []
    if (stated["dataset"], stated["split"]) != (place.parent.parent.name, place.parent.name):
        faults.append("its passport is of another data set or split than its folder")
    if stated["frame"] != "original":
        faults.append("its points are not in original pixels")
    if stated["seed"] != SEED or not DRAWS[0] <= stated["draws"] <= DRAWS[1] or stated["details"]:
        faults.append(f"its intervals are not of seed {SEED} and {DRAWS[0]} to {DRAWS[1]:,} draws")
    if REQUIRED not in stated["scores"]:
        faults.append(f"its passport has no {REQUIRED}")
    if stated.get("predictions") != PREDICTIONS or not TEXT.fullmatch(stated["software"]):
        faults.append("its passport names no predictions or no plain software")
    if set(stated) != PASSPORT_ENTRIES:
        faults.append(f"its passport has other entries: {', '.join(sorted(set(stated) ^ PASSPORT_ENTRIES))[:100]}")
    return faults


PASSPORT_ENTRIES = {
    *("version", "software", "dataset", "split", "frame", "pairs", "points", "pairs_without_points", "pairs_sha256"),
    *("predictions_sha256", "predictions", "draws", "seed", "details", "scores"),
}


def _info_faults(predictions: Predictions, stated: Mapping[str, Any], about: Submission) -> list[str]:
    info, faults = predictions.info, []
    if (info.dataset, info.split) != (stated["dataset"], stated["split"]) or info.form is not None:
        faults.append("its predictions are of another data set or split than its passport")
    if (info.model, info.run) != (about.model, about.run):
        faults.append("its predictions are of another model or run than it says")
    counted = len(predictions), int(predictions.mutual.sum())
    if (stated["pairs"], stated["points"]) != counted or stated["pairs_without_points"] != _without(predictions):
        faults.append(f"its passport does not count the {counted[0]:,} pairs and {counted[1]:,} points there are")
    if not all(is_file_name(str(part)) for part in (info.dataset, info.split)):
        faults.append("its data set has no plain name")
    if not all(map(TEXT.fullmatch, predictions.categories.tolist())):
        faults.append("a category has no plain name")
    return faults


def _without(predictions: Predictions) -> int:
    return int((np.bincount(predictions.owner[predictions.mutual], minlength=len(predictions)) == 0).sum())


# The pairs of a data set, and those of predictions beside them.

COMPARED = ("source_points", "target_points", "source_size", "target_size", "source_bbox", "target_bbox")


def _truth(dataset: str, split: str, root: Path | None) -> Mapping[str, Any] | None:
    """The pairs of a split by id, and the names of its categories; None where the data set is not here."""
    from sc_imagenet.data.load import load_dataset  # datasets, which a board without submissions needs not

    try:
        rows = load_dataset(dataset, split=split, root=root)
    except InputError:
        return None
    names = rows.features["category"].names
    table = rows.select_columns(["pair_id", "category", *COMPARED]).with_format("arrow")[:]
    return {row["pair_id"]: {**row, "category": names[row["category"]]} for row in table.to_pylist()}


def other_pairs(file: Path, truth: Mapping[str, Any]) -> list[str]:
    """How the pairs of a file of predictions differ from the data set's, in words; none if they are the same.

    Points that one image alone shows may stand beside those of both; they are not compared.
    """
    columns = ["pair_id", "category", *COMPARED, "source_visible", "target_visible"]
    table = pq.read_table(file)
    rows = table.select([name for name in columns if name in table.column_names]).to_pylist()
    ids = [row["pair_id"] for row in rows]
    if set(ids) != set(truth) or len(ids) != len(truth):
        strange = len(set(ids) - set(truth))
        return [f"has {len(ids):,} pairs, {strange:,} of them none of the data set's {len(truth):,}"]
    for row in rows:
        true = truth[row["pair_id"]]
        both = _mutual(row)
        for name in ("category", *COMPARED):
            value = row[name] if not name.endswith("points") else [row[name][k] for k in both]
            if not _same(value, true[name]):
                return [f"pair {row['pair_id'][:60]!r} has another {name} than the data set"]
    return []


def _mutual(row: Mapping[str, Any]) -> Sequence[int]:
    count = len(row["target_points"])
    shown = [row.get(name) or [True] * count for name in ("source_visible", "target_visible")]
    return [k for k in range(count) if shown[0][k] and shown[1][k]]


def _same(one: Any, two: Any) -> bool:
    if one is None or two is None or isinstance(one, str):
        return bool(one == two)
    first, second = np.asarray(one, np.float32), np.asarray(two, np.float32)
    return first.shape == second.shape and bool(np.array_equal(first, second))


def as_plain(found: Sequence[Verified]) -> list[dict[str, Any]]:
    """What was verified, for JSON."""
    return [json.loads(json.dumps(asdict(each))) for each in found]
