"""What an evaluation protocol is made of: plain values, so that it can be printed, compared and reused."""

from __future__ import annotations

import random
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from typing import Any

import numpy as np

from baselines.protocol import PublishedProtocol
from benchmark.scoring.frames import FRAME_KINDS, ProtocolFrame
from sc_imagenet.core.errors import InputError, unknown_name
from sc_imagenet.geometry.map_points import Readout

# What d is, for the image that the prediction lies in.
THRESHOLDS = {
    "image": "longer side of the image, in the frame",
    "box": "longer side of the object's box, in the frame",
    "box-corners": "longer side of the object's box, its corners rounded in the frame as true points are",
    "box-longer": "longer side of the object's box in original pixels, times S over the image's longer side",
    "box-y": "longer side of the object's box in original pixels, scaled as y is",
    "box-min": "longer side of the object's box in original pixels, scaled as the less enlarged axis is",
    "tight": "longer side of the tight box around the valid true points, in the frame",
    "padded": "largest coordinate of the true points + 1 (points padded with -1 before max - min)",
    "padded2": "largest coordinate of the true points + 2 (the same with -2)",
    "data set": "what the strict protocol takes for the data set: its catalogue says image, box or tight",
}
AVERAGES = {
    "image": "mean over pairs of each pair's share of hits",
    "point": "hits over points, all pairs at once",
    "macro-image": "plain mean over categories of their image averages",
    "macro-point": "plain mean over categories of their point averages",
    "pair-weighted": "mean over categories of their POINT averages, weighted by their pairs",
}
# How the catalogue and the metrics of stored runs call some of them.
NAMED_THRESHOLDS = {
    "img": "image",
    "bbox": "box",
    "bbox-kp": "tight",
    "bbox-padded": "padded",
    "bbox-padded2": "padded2",
}


@dataclass(frozen=True)
class HitRule:
    """How an error e is held against alpha and d; the dtypes decide exact ties.

    ``limit`` is the dtype that alpha * d is rounded to. With ``quotient`` e / d is held against alpha.
    """

    strict: bool = False  # e < alpha * d instead of <=
    quotient: bool = False
    distance: str = "float64"
    alpha: str = "float64"
    threshold: str = "float64"
    limit: str = "float64"

    def within(self, error: np.ndarray, threshold: np.ndarray, alphas: tuple[float, ...]) -> np.ndarray:
        """Whether errors (R,) lie within alpha * threshold (R,), (R, A); never where a quotient is not a number.

        >>> import numpy as np
        >>> live = HitRule(strict=True, distance="float32", alpha="float32")
        >>> live.within(np.array([10.0, 5.0]), np.array([100.0, 100.0]), (0.1, 0.05)).tolist()
        [[True, False], [True, True]]
        """
        levels = np.array(alphas).astype(self.alpha)
        error = np.asarray(error).astype(self.distance)[:, None]
        scale = np.asarray(threshold).astype(self.threshold)[:, None]
        if self.quotient:
            with np.errstate(invalid="ignore", divide="ignore"):
                ratio = error / scale
            found = ratio < levels if self.strict else ratio <= levels
            return np.asarray(found)
        limit = (levels * scale).astype(self.limit)
        found = error < limit if self.strict else error <= limit
        return np.asarray(found)

    def __str__(self) -> str:
        sign = "<" if self.strict else "<="
        if self.quotient:
            return f"e / d {sign} alpha; e {self.distance}, d {self.threshold}, alpha {self.alpha}"
        return f"e {sign} alpha * d; e {self.distance}, alpha {self.alpha}, d {self.threshold}, product {self.limit}"


@dataclass(frozen=True)
class Input:
    """How an image becomes what the backbone sees."""

    side: int | None = None
    fit: str = ""  # a frame's kind
    filter: str = ""  # lanczos, bilinear, bicubic; "antialias" is said where it is used on tensors
    padding: str = ""  # colour and place
    patch: int | None = None


def patched_side(side: int, patch: int) -> int:
    """The multiple of the patch nearest to a side, the lower one on ties, one patch at least (OmniProbe).

    >>> patched_side(800, 14), patched_side(7, 14)
    (798, 14)
    """
    low = side // patch * patch
    return max(patch, low + patch if side - low > low + patch - side else low)


@dataclass(frozen=True)
class Sample:
    """Which pairs are scored unless all are asked for.

    kind    all; legacy: numpy's RandomState(seed) anew for every category, with replacement; shuffle: Python's
            Random(seed) shuffles a category's list, of which the first stay
    """

    kind: str = "all"
    count: int | None = None  # a category
    seed: int | None = None
    note: str = ""

    def rows(self, pairs: int) -> np.ndarray:
        """The rows that are drawn of a category's pairs in the protocol's order."""
        if self.kind == "all" or self.count is None:
            return np.arange(pairs)
        if self.kind == "legacy":
            return np.random.RandomState(self.seed).choice(pairs, self.count)
        order = list(range(pairs))
        random.Random(self.seed).shuffle(order)
        return np.array(order[: self.count], int)


@dataclass(frozen=True)
class Protocol:
    """A named, versioned way to score predictions.

    ``on`` holds what is different on single data sets; ``Protocol.for_data`` applies it.
    """

    name: str
    version: int
    title: str
    frame: ProtocolFrame
    threshold: str
    comparison: HitRule
    alphas: tuple[float, ...]
    averages: tuple[str, ...]  # the first is what the paper's table prints
    points: str = "mutual"  # "mutual": visible in both images; "source": in the source
    validity: str = ""  # "dagger": a hit counts only if no other mutual point is nearer
    commit: str = ""
    decimals: int | None = 2  # printed, of percent; None: not rounded
    unit: str = "percent"
    category_dtype: str = "float64"  # that a category's average is rounded to before categories are averaged
    empty: str = "left out"  # what the authors' code does with a pair without points
    sample: Sample = field(default=Sample())
    readout: Readout = field(default=Readout())
    input: Input = field(default=Input())
    per_model: bool = False  # frame and threshold are the model's own
    subset: str = ""  # "live": the geometry-aware subset as printed in the loop; "ids": from the result file
    notes: tuple[str, ...] = ()
    on: Mapping[str, Mapping[str, Any]] = field(default_factory=dict, hash=False)

    def __post_init__(self) -> None:
        if self.threshold not in THRESHOLDS:
            raise unknown_name("threshold", self.threshold, THRESHOLDS)
        for average in self.averages:
            if average not in AVERAGES:
                raise unknown_name("average", average, AVERAGES)

    def __str__(self) -> str:
        return f"{self.name}@{self.version}"

    def for_data(
        self, dataset: str, model: str = "", size: int | None = None, published: PublishedProtocol | None = None
    ) -> Protocol:
        """The protocol as it is on a data set, everything resolved.

        Args:
            dataset: of the catalogue; "" where it is none.
            model: the registry's name, for a protocol whose frame is the model's.
            size: side of the frame of a model that no table knows.
            published: how the model's authors scored it, where predictions tell; None: by its name.

        Raises:
            InputError: it depends on the data set and the catalogue does not know it, or on the model and none is
                given.
        """
        changed = dict(self.on.get(dataset, {}))
        if self.threshold == "data set" and "threshold" not in changed:
            changed["threshold"] = self._threshold_of(dataset)
        if self.per_model:
            if not model and not size:
                raise InputError(f"{self} is what a model's authors did", fix="Say which model: model='cats'.")
            from sc_imagenet.data.catalog import canonical

            known = published or published_protocol(model) or PublishedProtocol(size or None, "forward")
            changed["frame"] = ProtocolFrame.square(known.frame_on(canonical(dataset)))
            if canonical(dataset) == "pf-willow":
                changed["threshold"] = NAMED_THRESHOLDS[known.padded]
        return replace(self, **changed, on={}, per_model=False)

    def _threshold_of(self, dataset: str) -> str:
        from sc_imagenet.data.catalog import info

        if not dataset:
            raise InputError(f"{self} takes the threshold of the data set", fix="Say which: dataset='spair-71k'.")
        return NAMED_THRESHOLDS[info(dataset).threshold]

    def at(self, *alphas: float) -> Protocol:
        """The same at other alphas."""
        return replace(self, alphas=alphas)

    def facts(self) -> dict[str, str]:
        """Every statement of the protocol in words, by its heading."""
        told: dict[str, str] = {
            "title": self.title,
            "code": self.commit,
            "frame": f"{self.frame}: {_kind(self.frame)}",
            "true points": f"{self.frame.dtype}"
            + (f", clamped {self.frame.margin:g} inside the border" if self.frame.margin else ""),
            "threshold d": f"{self.threshold}: {THRESHOLDS[self.threshold]}",
            "comparison": str(self.comparison),
            "alphas": ", ".join(f"{alpha:g}" for alpha in self.alphas),
            "points": "visible in both images" if self.points == "mutual" else "visible in the source",
            "averages": "; ".join(f"{name}: {AVERAGES[name]}" for name in self.averages),
            "pairs": _worded(self.sample),
            "pairs without points": self.empty,
            "printed": "not rounded" if self.decimals is None else f"{self.unit}, {self.decimals} decimals",
            "read-out": _worded(self.readout),
            "input": _worded(self.input),
        }
        if self.validity:
            told["validity"] = self.validity
        if self.subset:
            told["geometry-aware subset"] = self.subset
        for dataset, changes in self.on.items():
            told[f"on {dataset}"] = ", ".join(
                f"{name} {' '.join(map(str, value)) if isinstance(value, tuple) else value}"
                for name, value in changes.items()
            )
        if self.notes:
            told["notes"] = " ".join(self.notes)
        return {name: text for name, text in told.items() if text}


# How predictions are scored that were stored before they told it themselves (``PredictionInfo.protocol``): scoring
# them imports no model, and with it torch. New models do not stand here: how they are scored stands in their file.
_OF_OLDER_FILES = {
    "cats": PublishedProtocol(256, "backward"),
    "semimatch": PublishedProtocol(256, "backward"),
    "scorrsan": PublishedProtocol(256, "backward"),
    "vat": PublishedProtocol(512, "backward"),
    "ncnet": PublishedProtocol(224, "backward"),
    "dhpf": PublishedProtocol(240, "forward"),
    "dhpf-weak": PublishedProtocol(240, "forward"),
    "transformatcher": PublishedProtocol(240, "forward", padded="bbox-padded2"),
    "hpf": PublishedProtocol(None, "forward", padded="bbox-kp"),
}


def published_protocol(model: str) -> PublishedProtocol | None:
    """How a model's authors scored it, for predictions and results that do not tell; None where that is not known."""
    return _OF_OLDER_FILES.get(model.strip().lower().replace("_", "-"))


_NAME = re.compile(r"(?P<name>[a-z0-9][a-z0-9-]*)(@(?P<version>\d{1,4}))?")


def split_name(text: str) -> tuple[str, int | None]:
    """Name and version of ``geoaware@1``; no version means the newest.

    Raises:
        InputError: it is not written so.
    """
    found = _NAME.fullmatch(text.strip().lower().replace("_", "-"))
    if found is None:
        raise InputError(f"{text!r} is not the name of a protocol", fix="Write NAME or NAME@VERSION: geoaware@1")
    return found["name"], int(found["version"]) if found["version"] else None


def _kind(frame: ProtocolFrame) -> str:
    return FRAME_KINDS[frame.kind]


def _worded(part: Readout | Input | Sample) -> str:
    values = {entry.name: getattr(part, entry.name) for entry in fields(part)}
    return ", ".join(f"{name} {value}" for name, value in values.items() if value not in (None, ""))
