"""The two tasks of a class: score its images by closed loops; select its pairs. Each returns a Parquet table as bytes.

A task depends on its argument alone and runs on one thread, so its bytes are the same wherever it runs.
"""

from __future__ import annotations

import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from torch import Tensor

from sc_imagenet.core.files import sha256_of
from sc_imagenet.generation.cascade.network import load_network
from sc_imagenet.generation.cascade.pmps import RawMatcher
from sc_imagenet.generation.class_features import ClassFeatures, class_features
from sc_imagenet.generation.counting import Counter, open_counter
from sc_imagenet.generation.feature_masks import FOREGROUND
from sc_imagenet.generation.features import FeatureReader, Features
from sc_imagenet.generation.loops import (
    CliqueLoops,
    Match,
    choose_pairs,
    clique_loops,
    clique_scores,
    cliques,
    independent_scores,
    keep_images,
    shortfalls,
)
from sc_imagenet.generation.options import AFTER_LABELS, FILES, GenerationOptions, key_before, key_of, options_key
from sc_imagenet.generation.photographs import FEWEST_IMAGES, Photograph
from sc_imagenet.generation.saliency import Saliency, masks_key, open_saliency

VOLUME = 2**22  # numbers in the correlation volumes of one batch
EMPTY = np.empty(0, np.float32)
ABOUT = b"about"  # key of a table's metadata


class CellMatcher(Protocol):
    """What labels are made with: ``RawMatcher`` or the trained cascade."""

    def match(
        self, source: Features, target: Features, source_mask: Tensor | None = None, target_mask: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """See ``RawMatcher.match``."""


@dataclass(frozen=True)
class ClassTask:
    """A class to label, or to select from; ``labels`` is the label shard for the latter."""

    root: Path
    category: str
    photographs: tuple[Photograph, ...]
    options: GenerationOptions
    features: Path  # folder of features and masks
    labels: bytes = b""

    def __str__(self) -> str:
        return f"class {self.category!r}"

    def made_of(self, without: Sequence[str]) -> dict[str, str]:
        """Hashes of all that a shard depends on, by what they are of, but of the options ``without``."""
        files = tool_files(self.options)
        if (masks := masks_key(self.options.saliency, self.photographs)) is not None:
            files["saliency"] = masks
        return {
            "options": options_key(self.options, without),
            "photographs": key_of("", *self._content),
            **{TOLD[name]: digest for name, digest in files.items()},
        }

    def changed(self, about: Mapping[str, Any], without: Sequence[str]) -> list[str]:
        """What is another now than when the shard was made that ``about`` lies beside; [] if it can be taken."""
        now, then = self.made_of(without), about.get("made_of")
        if isinstance(then, Mapping):
            return [name for name in {**now, **then} if now.get(name) != then.get(name)]
        files = tool_files(self.options)
        hashes = [files[name][:64] for name in ("pretrained", "saliency", "counts", "network") if name in files]
        if about.get("key") != key_before(self.options, without, *hashes, *self._content):
            return ["photographs or options"]
        of_folder = TOLD["saliency"] in now and "saliency" not in files
        return [f"{TOLD['saliency']}, perhaps: they were not looked at before"] if of_folder else []

    @property
    def _content(self) -> list[str]:
        return [f"{each.path} {each.content}" for each in self.photographs]


TOLD = {"network": "network", "pretrained": "weights", "saliency": "masks", "counts": "counts"}  # of FILES, in words
LABELS = pa.schema(
    [
        ("path", pa.string()),
        ("objects", pa.int32()),  # -1: not counted
        ("area", pa.float32()),  # share of the image that is foreground
        ("score", pa.float32()),  # mean offset of its loops, pixels of the network's input; null: not used
    ]
)
POINTS = pa.list_(pa.list_(pa.float32(), 2))
SELECTED = pa.schema(
    [
        ("source", pa.int32()),  # numbers of photographs of the class
        ("target", pa.int32()),
        ("source_points", POINTS),  # original pixels
        ("target_points", POINTS),
        ("source_bbox", pa.list_(pa.float32(), 4)),
        ("target_bbox", pa.list_(pa.float32(), 4)),
        ("confidence", pa.list_(pa.float32())),
        ("loop_offset", pa.list_(pa.float32())),  # pixels of the network's input
        ("pair_score", pa.float32()),
    ]
)


def label_class(task: ClassTask) -> bytes:
    """Score the images of a class: a table of ``LABELS``.

    Its ``about`` says the class's counts and, where it is left out, the reason.
    """
    torch.set_num_threads(1)
    tools, options = open_tools(task.options), task.options
    known = _features(task, tools)
    objects = tools.counter.counts(task.root, task.photographs, known.masks)
    area = (known.masks >= FOREGROUND).float().mean((1, 2))
    single = [number for number, count in enumerate(objects) if count == 1 and area[number] > 0]
    scores = np.full(len(objects), np.nan, np.float32)
    about: dict[str, Any] = {
        "made_of": task.made_of(AFTER_LABELS),
        "images": len(objects),
        "single": len(single),
        "left_out": None,
        "masks": tools.saliency.notes(task.root, task.photographs),
    }
    share = len(single) / len(objects)
    if share < options.least_single:
        about["left_out"] = f"only {100 * share:.0f} % of its images show one object"
    elif len(single) < FEWEST_IMAGES:
        about["left_out"] = f"has {len(single)} images of one object, {FEWEST_IMAGES} are needed"
    else:
        found, about["matchings"], about["loops"] = _image_scores(single, known, tools.matcher, options)
        scores[single] = found * _stride(known, tools.reader)
    table = pa.table(
        {
            "path": [each.path for each in task.photographs],
            "objects": objects,
            "area": area.tolist(),
            "score": pa.array(scores, from_pandas=True),
        },
        schema=LABELS,
    )
    return to_bytes(table, about)


def select_class(task: ClassTask) -> bytes:
    """Choose the best images, pairs and points of a labelled class: a table of ``SELECTED``."""
    torch.set_num_threads(1)
    tools, options = open_tools(task.options), task.options
    labels = pq.read_table(io.BytesIO(task.labels))
    about: dict[str, Any] = {"made_of": task.made_of(()), "left_out": about_of(labels)["left_out"]}
    if about["left_out"]:
        return to_bytes(SELECTED.empty_table(), about)
    scores = labels["score"].to_numpy(zero_copy_only=False)
    usable = np.flatnonzero(np.isfinite(scores))
    kept = [int(usable[k]) for k in keep_images(scores[usable], options.share)]
    about |= {"usable": len(usable), "kept": len(kept)}
    if len(kept) < 3:
        about["left_out"] = f"keeps {len(kept)} of {len(usable)} images, a loop needs 3"
        return to_bytes(SELECTED.empty_table(), about)
    known = _features(task, tools)
    grid, stride = known.features.grid, _stride(known, tools.reader)
    foreground = _foreground(known.masks[kept])
    match = matching(known, tools.matcher, kept)
    groups = [clique_loops(group, match, grid, _batch(grid)) for group in cliques(len(kept), options.seed)]
    pairs = choose_pairs(groups, foreground, grid, options.rules)
    before = np.concatenate([_all_offsets(group, foreground) for group in groups]) * stride
    chosen = np.concatenate([pair.offset for pair in pairs]) * stride if pairs else np.zeros(0, np.float32)
    about["shortfalls"] = shortfalls(len(usable), len(kept), pairs, options.rules)
    about["offsets"] = {"matched": histogram(before), "selected": histogram(chosen)}
    about["matchings"] = sum(len(group.images) * (len(group.images) - 1) for group in groups)
    boxes = [_bbox(mask, task.photographs[image]) for mask, image in zip(foreground.reshape(-1, *grid), kept)]
    rows = []
    for pair in pairs:
        source, target = kept[pair.source], kept[pair.target]
        rows.append(
            {
                "source": source,
                "target": target,
                "source_points": _pixels(pair.source_places, grid, task.photographs[source]),
                "target_points": _pixels(pair.target_places, grid, task.photographs[target]),
                "source_bbox": boxes[pair.source],
                "target_bbox": boxes[pair.target],
                "confidence": pair.confidence.tolist(),
                "loop_offset": (pair.offset * stride).tolist(),
                "pair_score": pair.score * stride,
            }
        )
    return to_bytes(pa.Table.from_pylist(rows, schema=SELECTED), about)


@dataclass(frozen=True)
class Tools:
    """What tasks work with, opened once in a process."""

    reader: FeatureReader
    identity: str  # of the reader
    matcher: CellMatcher
    saliency: Saliency
    counter: Counter


def open_tools(options: GenerationOptions) -> Tools:
    """Open them; those of the same options and files were perhaps opened before.

    Raises:
        InputError: a network, masks or counts that cannot be had.
    """
    return _open_tools(options, tuple(tool_files(options).items()))


@lru_cache(maxsize=1)
def _open_tools(options: GenerationOptions, files: tuple[tuple[str, str], ...]) -> Tools:
    device = "cuda" if torch.cuda.is_available() else "cpu"
    matcher: CellMatcher
    if options.network is not None:
        reader, network = load_network(options.network)
        reader, matcher = reader.to(device), network.to(device)
        weights = sha256_of(_network_file(options.network))
    else:
        reader = FeatureReader(
            options.backbone,
            size=options.size,
            pretrained=options.pretrained,
            pooling=options.pooling,
            standardise=options.standardise,
        ).to(device)
        matcher = RawMatcher()
        weights = sha256_of(options.pretrained) if isinstance(options.pretrained, str) else str(options.pretrained)
    saliency, counter = open_saliency(options.saliency), open_counter(options.counts, device)
    return Tools(reader, reader.identity(weights), matcher, saliency, counter)


def _network_file(folder: str) -> Path:
    return Path(folder) / "model.safetensors"


def tool_files(options: GenerationOptions) -> dict[str, str]:
    """Hashes of the files that the options name, so that another file of the same name is not taken for it.

    A network is two: its weights, and the configuration beside them.
    """
    given = {name: Path(str(getattr(options, name))).expanduser() for name in FILES}
    if options.network is not None:
        given["network"] = _network_file(options.network)
    hashes = {name: sha256_of(file) for name, file in given.items() if file.is_file()}
    config = given["network"].with_name("config.json")
    if "network" in hashes and config.is_file():
        hashes["network"] += sha256_of(config)
    return hashes


def matching(known: ClassFeatures, matcher: CellMatcher, images: Sequence[int]) -> Match:
    """Matches between some images of a class, by their numbers among ``images``."""
    device = "cuda" if torch.cuda.is_available() else "cpu"
    features, masks = known[images]  # float32 once, not for each of an image's 22 matchings
    features, masks = features.to(device), masks.to(device)

    @torch.inference_mode()
    def match(sources: Sequence[int], targets: Sequence[int]) -> tuple[np.ndarray, np.ndarray]:
        s, t = list(sources), list(targets)
        places, confidence = matcher.match(features[s], features[t], masks[s], masks[t])
        return places.float().cpu().numpy(), confidence.float().cpu().numpy()

    return match


def _image_scores(
    images: Sequence[int], known: ClassFeatures, matcher: CellMatcher, options: GenerationOptions
) -> tuple[np.ndarray, int, int]:
    """Mean loop offset of each image in cells, how many matchings it took, and how many loops were followed."""
    grid, foreground = known.features.grid, _foreground(known.masks[list(images)])
    match, count = matching(known, matcher, images), len(images)
    if options.loops == "independent":
        loops = 100 * count
        return independent_scores(count, match, grid, foreground, options.seed), 3 * loops, loops
    matchings = loops = 0
    groups = []
    for group in cliques(count, options.seed):
        found = clique_loops(group, match, grid, _batch(grid))
        groups.append(replace(found, places=EMPTY, confidence=EMPTY))  # which the scores do not need
        matchings += len(group) * (len(group) - 1)
        loops += len(group) * (len(group) - 1) * (len(group) - 2)
    return clique_scores(groups, foreground), matchings, loops


def _features(task: ClassTask, tools: Tools) -> ClassFeatures:
    return class_features(task.root, task.photographs, tools.reader, tools.identity, tools.saliency, task.features)


def _batch(grid: tuple[int, int]) -> int:
    return max(1, VOLUME // (grid[0] * grid[1]) ** 2)


def _stride(known: ClassFeatures, reader: FeatureReader) -> np.float32:
    """Pixels of the network's input from one cell to the next."""
    return np.float32(reader.size / known.features.grid[0])


def _foreground(masks: Tensor) -> np.ndarray:
    return (masks >= FOREGROUND).flatten(1).numpy()


def _all_offsets(group: CliqueLoops, foreground: np.ndarray) -> np.ndarray:
    """Offsets of all foreground points of all pairs of a group."""
    count = len(group.images)
    inside = foreground[list(group.images)][:, None] & ~np.eye(count, dtype=bool)[:, :, None]
    return group.offset[inside]


BINS = np.concatenate([np.arange(0, 64, 2), np.arange(64, 512, 32), [np.inf]]).astype(np.float32)


def histogram(offsets: np.ndarray) -> list[int]:
    """How many offsets lie between each of ``BINS`` and the next."""
    return np.histogram(offsets, BINS)[0].tolist()


def _pixels(places: np.ndarray, grid: tuple[int, int], photograph: Photograph) -> list[list[float]]:
    """Cells -> original pixels: a cell's centre is half a cell from its edge."""
    scale = np.array([photograph.width / grid[1], photograph.height / grid[0]], np.float32)
    return ((places + np.float32(0.5)) * scale).astype(np.float32).tolist()


def _bbox(mask: np.ndarray, photograph: Photograph) -> list[float]:
    """The box (x_min, y_min, x_max, y_max) of a mask (h, w), original pixels; the whole image of an empty one."""
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    if not len(rows):
        return [0.0, 0.0, float(photograph.width), float(photograph.height)]
    edges = np.array([columns[0], rows[0], columns[-1] + 1, rows[-1] + 1], np.float32)
    scale = np.array([photograph.width / mask.shape[1], photograph.height / mask.shape[0]] * 2, np.float32)
    return (edges * scale).tolist()


def to_bytes(table: pa.Table, about: dict[str, Any]) -> bytes:
    """A table as a Parquet file that also holds plain values."""
    sink = io.BytesIO()
    pq.write_table(table.replace_schema_metadata({ABOUT: json.dumps(about, sort_keys=True)}), sink)
    return sink.getvalue()


def about_of(table: pa.Table) -> dict[str, Any]:
    """The plain values beside a table."""
    return json.loads(table.schema.metadata[ABOUT])
