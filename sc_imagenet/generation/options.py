"""Everything that decides what a generated data set holds, and reading it from a file."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, Literal

from sc_imagenet.backbones import LITE0
from sc_imagenet.core.errors import InputError, unknown_name
from sc_imagenet.generation.loops import Rules

# Everything that decides what a generated data set holds, in one place.

VERSION = 2  # of how labels are made; raised whenever the same photographs and options give others
NETWORK = "work/network"  # of a data set's folder: where its cascade is trained
TRAINED_MODEL = f"{NETWORK}/model"  # the folder that --network and --checkpoint take
LOOP_KINDS = ("clique", "independent")
SIZE, POOLING = 448, 1.4  # of the input and of its features' cells: 20 x 20 cells of 22 pixels


@dataclass(frozen=True)
class GenerationOptions:
    """How a data set is made. [R] marks our reading of what the paper leaves open.

    network     file of a trained cascade; None: the backbone's raw features with Hough scores
    backbone    timm's name (the paper: iBOT's ViT-B/16); a trained network brings its own
    pretrained  its weights: True, or a file
    size        input side, pixels (the paper: 512)
    pooling, standardise  [R] see ``features.FeatureReader``
    saliency    [R] see ``saliency.open_saliency``
    counts      [R] see ``counting.open_counter``
    loops       "clique" [R] or "independent", the paper's text; see ``loops``
    least_single  [R] a class of which fewer images show one object is left out
    share, pairs, points  what is kept; see ``selection.Rules``
    seed        of the groups
    """

    network: str | None = None
    backbone: str = LITE0
    pretrained: bool | str = True
    size: int = SIZE
    pooling: float = POOLING
    standardise: bool = True
    saliency: str = "features"
    counts: str = "masks"
    loops: Literal["clique", "independent"] = "clique"
    least_single: float = 0.2
    share: float = 0.3
    pairs: int = 7
    points: int = 32
    seed: int = 0

    def __post_init__(self) -> None:
        """Check the values.

        Raises:
            InputError: one that cannot be used.
        """
        if self.loops not in LOOP_KINDS:
            raise unknown_name("kind of loops", self.loops, LOOP_KINDS)
        for name in ("share", "least_single"):
            if not 0 <= getattr(self, name) <= 1:
                raise InputError(f"{name} = {getattr(self, name)} must lie between 0 and 1")
        for name in ("size", "pooling", "pairs", "points"):
            if not getattr(self, name) >= 1:
                raise InputError(f"{name} = {getattr(self, name)} must be at least 1")

    @property
    def rules(self) -> Rules:
        """What is kept."""
        return Rules(self.share, self.pairs, self.points)

    def as_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return asdict(self)


# What a label shard does not depend on: these may change without labelling again.
AFTER_LABELS = ("share", "pairs", "points")
FILES = ("network", "pretrained", "saliency", "counts")  # may name files, which count by their content


def options_key(options: GenerationOptions, without: Sequence[str] = ()) -> str:
    """A hash of the options but some, and of the version; of files that they name only that there is one."""
    values = {name: value for name, value in options.as_dict().items() if name not in without}
    given = {name: "a file" for name in FILES if Path(str(values[name])).expanduser().exists()}
    return key_of({**values, **given, "version": VERSION})


def key_before(options: GenerationOptions, without: Sequence[str], *content: str) -> str:
    """The one hash that shards of labels had before they told what they were made of."""
    values = {name: value for name, value in options.as_dict().items() if name not in without}
    return key_of({**values, "version": VERSION}, *content)


def key_of(values: Any, *content: str) -> str:
    """A short hash of plain values and strings."""
    return hashlib.sha256("\n".join([json.dumps(values, sort_keys=True), *content]).encode()).hexdigest()[:24]


# Options that come from a file: each is of the kind of its default, and no number is beyond all sense.

LARGEST = 1 << 31
WIDEST = 4096  # of what a network is built from; wider ones would not fit into any memory


def check_kinds(options: Any, where: str, largest: float = LARGEST, but: tuple[str, ...] = ()) -> None:
    """Check the values of a frozen dataclass whose fields have plain defaults; fields in ``but`` are left out.

    Raises:
        InputError: a value of another kind, or a number that is not finite or beyond ``largest``.
    """
    for field in fields(options):
        if field.name in but:
            continue
        value, default = getattr(options, field.name), field.default
        if not _alike(value, default):
            raise InputError(
                f"{field.name} = {value!r:.80} is not of the kind of its default, {default!r}", where=where
            )
        for number in value if isinstance(value, tuple) else (value,):
            if isinstance(number, (int, float)) and not (abs(number) <= largest and math.isfinite(number)):
                raise InputError(f"{field.name} = {number!r:.80} is too large", where=where)


def _alike(value: Any, default: Any) -> bool:
    if isinstance(default, tuple):
        return isinstance(value, tuple) and all(_alike(each, default[0]) for each in value)
    if isinstance(default, float):
        return isinstance(value, (int, float)) and not isinstance(value, bool)
    return type(value) is type(default)
