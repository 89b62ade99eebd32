"""The passport of a score: protocol and version, hashes of the pairs and of the predictions, the software's version."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np

from benchmark.scoring.metric import Scores, score_protocols
from benchmark.scoring.predictions import Predictions
from benchmark.scoring.protocols import protocol_named
from sc_imagenet.core.errors import InputError
from sc_imagenet.core.files import read_json, write_json

PASSPORT_VERSION = 1
_AGREE = 1e-6  # points by which a score may move between processors


def pairs_sha256(predictions: Predictions) -> str:
    """A hash of the pairs: ids, categories, sizes, boxes, true points, their ids and visibility; in any order."""
    p = predictions
    return _hash(p, (p.categories, p.sizes, p.boxes), (p.true, p.other, p.ids, p.true_visible, p.other_visible))


def predictions_sha256(predictions: Predictions) -> str:
    """A hash of what was predicted, and in which frame; in any order."""
    return _hash(predictions, (), (predictions.predicted, predictions.ids), str(predictions.frame))


def make(
    predictions: Predictions,
    scores: Scores,
    draws: int,
    seed: int,
    details: Sequence[str] = (),
    file: Path | None = None,
) -> dict[str, Any]:
    """The passport of scores of these predictions, with what they were scored with, as plain values."""
    return {
        "version": PASSPORT_VERSION,
        "software": software(),
        "dataset": predictions.info.dataset,
        "split": predictions.info.split,
        "frame": str(predictions.frame),
        "pairs": scores.pairs,
        "points": scores.points,
        "pairs_without_points": scores.empty,
        "pairs_sha256": pairs_sha256(predictions),
        "predictions_sha256": predictions_sha256(predictions),
        "predictions": None if file is None else file.name,
        "draws": draws,
        "seed": seed,
        "details": list(details),
        "scores": {
            protocol: {name: _plain(asdict(each)) for name, each in found.items()} for protocol, found in scores.items()
        },
    }


def write(path: Path, passport: Mapping[str, Any]) -> None:
    """Write a passport, atomically."""
    write_json(path, dict(passport))


def read(path: Path) -> dict[str, Any]:
    """Read a passport.

    Raises:
        InputError: missing, damaged, of another version, or not a passport.
    """
    content = read_json(path)
    if not isinstance(content, dict) or "predictions_sha256" not in content:
        raise InputError("is not a passport of a score", where=path)
    if content.get("version") != PASSPORT_VERSION:
        said = str(content.get("version"))[:20]
        raise InputError(f"is version {said} of passports, this is {PASSPORT_VERSION}", where=path)
    kinds = {
        **dict.fromkeys(("dataset", "split", "frame", "pairs_sha256", "predictions_sha256", "software"), str),
        **dict.fromkeys(("pairs", "points", "draws", "seed"), int),
        "scores": dict,
        "details": list,
    }
    for name, kind in kinds.items():
        if not isinstance(content.get(name), kind):
            raise InputError(f"has no {name} of its kind", where=path)
    if not (0 <= content["draws"] <= 1_000_000 and 0 <= content["seed"] < 1 << 63):
        raise InputError("has draws or a seed out of range", where=path)
    return content


def disagreeing_scores(passport: Mapping[str, Any], predictions: Predictions) -> list[str]:
    """What does not agree when the predictions are scored again, a line each; none if they agree.

    Raises:
        InputError: a protocol of the passport is not known here.
    """
    found = []
    for name, ours in (("pairs_sha256", pairs_sha256), ("predictions_sha256", predictions_sha256)):
        if (now := ours(predictions)) != passport[name]:
            what = "the pairs are others" if name == "pairs_sha256" else "the predictions are others"
            found.append(f"{what}: {passport[name][:12]} in the passport, {now[:12]} here")
    protocols = [protocol_named(name) for name in passport["scores"]]
    scores = score_protocols(predictions, protocols, passport["draws"], passport["seed"], passport["details"])
    for protocol, given in passport["scores"].items():
        now_of = scores.by_protocol.get(protocol, {})
        for name, values in given.items():
            found += _compared(f"{protocol} {name}", values, now_of.get(name))
    return found


def software() -> str:
    """This package and its version."""
    try:
        return f"sc-imagenet {version('sc-imagenet')}"
    except PackageNotFoundError:  # run from a folder that was never installed
        return "sc-imagenet"


def _compared(name: str, given: Mapping[str, float | None], ours: Any) -> list[str]:
    if ours is None:
        return [f"{name}: cannot be had here"]
    lines = []
    for key, value in given.items():
        now = _plain(asdict(ours)).get(key)
        same = value == now or (value is not None and now is not None and abs(value - now) <= _AGREE)
        if not same:
            lines.append(f"{name}: {key} {value} in the passport, {now} here")
    return lines


def _plain(values: Mapping[str, float]) -> dict[str, float | None]:
    return {name: value if math.isfinite(value) else None for name, value in values.items()}  # NaN is no JSON


def _hash(predictions: Predictions, per_pair: Sequence[Any], per_point: Sequence[Any], head: str = "") -> str:
    """SHA-256 over the pairs in the order of their ids, their points in the order of their keypoint ids."""
    order = np.argsort(predictions.pair_ids, kind="stable")
    chosen = np.concatenate(
        [np.arange(*predictions.offsets[[row, row + 1]]) for row in order] or [np.empty(0, int)]
    ).astype(int)
    digest = hashlib.sha256(head.encode())
    digest.update("\n".join(predictions.pair_ids[order].tolist()).encode())
    digest.update(predictions.counts[order].astype("<i8").tobytes())
    for values in per_pair:
        digest.update(_bytes(values[order]))
    for values in per_point:
        digest.update(_bytes(values[chosen]))
    return digest.hexdigest()


def _bytes(values: np.ndarray) -> bytes:
    if values.dtype.kind in "US":
        return "\n".join(values.tolist()).encode()
    return (values.astype("<f8") + 0.0).tobytes()  # minus zero is zero
