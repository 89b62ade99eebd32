"""No points, thresholds of zero, exact ties in each arithmetic, GECO's classes: what decides them."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from benchmark.scoring import details, protocols
from benchmark.scoring.evaluation import evaluate_predictions
from benchmark.scoring.frames import ProtocolFrame
from benchmark.scoring.predictions import predictions_of_pairs
from benchmark.scoring.protocol import Protocol
from tests.golden.references import Arrays, Compared, beside
from tests.golden.synthetic import info

FILES = ("edge_cases.json",)
ROUND = 100.0  # a threshold whose ties are exact


def compare(name: str, arrays: Arrays, root: Path) -> list[Compared]:
    cases: dict[str, Any] = arrays[name]
    return [*_weak(cases["sd4match"]), *_live(cases["geoaware"]), *_unit(cases["omniprobe"]), *_geco(cases["geco"])]


def _pair(width: float, errors: list[float]) -> dict[str, Any]:
    """Points that miss by the given errors, of an object as wide as said."""
    true = [(0.0, 0.0)] * len(errors)
    return {
        "category": "cat",
        "target_size": (840, 840),
        "target_bbox": (0, 0, width, 0),
        "target_points": true or np.empty((0, 2)),
        "predicted_points": [(error, 0.0) for error in errors] or np.empty((0, 2)),
    }


def _shares(protocol: Protocol, width: float, errors: list[float]) -> np.ndarray:
    ours = protocol.for_data("spair-71k")
    ours = replace(ours, frame=ProtocolFrame(dtype=ours.frame.dtype), threshold="box")
    return evaluate_predictions(predictions_of_pairs([_pair(width, errors)], info()), ours).shares[0]


def _weak(cases: dict[str, Any]) -> Iterator[Compared]:
    protocol = protocols.protocol_named("sd4match").at(0.05, 0.10, 0.15)
    for name, theirs in cases.items():
        if name == "no points":
            ours = _shares(protocol, 100, [])
        elif name.startswith("zero threshold"):
            ours = _shares(protocol, 0, [0.0 if "exact" in name else 1.0])
        else:
            width = float(name.rpartition(" ")[2])
            ours = _shares(protocol, width, [0.1 * width])
        yield beside(f"sd4match: {name}", ours, theirs)


def _live(cases: dict[str, Any]) -> Iterator[Compared]:
    protocol = protocols.protocol_named("geoaware")
    yield beside("geoaware: no points", _shares(protocol, 100, []), cases["no points"])
    yield beside("geoaware: zero threshold, exact", _shares(protocol, 0, [0.0]), cases["zero threshold, exact"])
    for name, comparison in (
        ("live path (thresholds float64)", protocols.LIVE),
        ("result.pkl path (float32)", protocols.STORED),
    ):
        for alpha, theirs in cases[f"tie, {name}"].items():
            error = np.array([float(alpha) * ROUND])
            ours = comparison.within(error, np.array([ROUND]), protocol.alphas)[0]
            yield beside(f"geoaware: tie at {alpha}, {name}", ours, theirs)
    dtype = f"torch.{protocols.LIVE.threshold}"
    yield beside("geoaware: dtype of d", dtype, cases["dtype of threshold list of numpy numbers"])


def _unit(cases: dict[str, Any]) -> Iterator[Compared]:
    protocol = protocols.protocol_named("omniprobe")
    for name, width, errors in (("zero scale, exact", 0.0, [0.0]), ("scale 0.5", 0.5, [0.0]), ("no points", 1.0, [])):
        ours = evaluate_predictions(
            predictions_of_pairs([_pair(width, errors)], info()),
            replace(protocol.for_data("spair-71k"), frame=ProtocolFrame(dtype="float32")),
        )
        ratio = [float(e / w) if w else math.nan for e, w in zip(ours.error, ours.threshold[ours.owner])]
        yield beside(f"omniprobe: {name}", ratio, _numbers(cases[name][0]))


def _numbers(text: str) -> list[float]:
    return [float(part) for part in text.strip("[]").split(",") if part.strip()]


def _geco(cases: dict[str, Any]) -> Iterator[Compared]:
    """A pair of the cat's ears, or of its nose, which has no partner."""
    protocol = protocols.protocol_named("geco").for_data("spair-71k")
    for name, theirs in cases.items():
        own, mirror = (100.0, 100.0), (700.0, 700.0)
        ids = [8, 9] if name == "no mirror exists" else [0, 1]
        shown = {
            "both": [True, True],
            "mirror occluded": [True, False],
            "no mirror": [True, False],
            "only mirror": [False, True],
            "none": [False, False],
        }[next(key for key in ("both", "mirror occluded", "no mirror", "only mirror", "none") if name.startswith(key))]
        said = mirror if "only mirror" in name else (400.0, 400.0) if "neither" in name else own
        targets = [own, mirror]
        if name == "both visible, both within":
            targets, said = [own, (110.0, 100.0)], own
        pair = {
            "category": "cat",
            "ids": ids,
            "target_size": (840, 840),
            "target_points": targets,
            "predicted_points": [said, (0.0, 0.0)],
            "target_visible": shown,
            "source_visible": [True, False],
        }
        found = details.geco_counters(predictions_of_pairs([pair], info()), protocol)
        ours = {key: int(value[0, 0]) for key, value in found.items() if value[0, 0]}
        yield beside(f"geco: {name}", sorted(ours.items()), sorted(theirs.items()))
