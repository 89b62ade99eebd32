"""Any model or function that transfers points: on two pictures, and on the pairs of a data set, in original pixels."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, TypeAlias

import datasets
import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from PIL import Image, ImageOps
from torch import Tensor
from torch.nn.functional import interpolate, normalize
from torchvision.transforms.v2 import functional as F

from baselines.matcher import Direction, Matcher
from benchmark.running.data import NamedPairs
from benchmark.running.encoding import EncodedPairs, encode, roles, stacked
from benchmark.running.evaluate import direction_of, not_finite, predict, predict_rows
from benchmark.running.features import LIMIT, MB, check_mode
from benchmark.scoring import metric
from benchmark.scoring.metric import Scores
from benchmark.scoring.prediction_files import PREDICTION_SCHEMA, predictions_of, write_predictions
from benchmark.scoring.predictions import PredictionInfo, Predictions
from benchmark.scoring.protocol import Protocol as Scoring
from benchmark.scoring.protocols import protocols_named
from sc_imagenet.core.errors import InputError, unknown_name
from sc_imagenet.core.progress import bars
from sc_imagenet.data.images import Picture, to_rgb
from sc_imagenet.data.load import manifest_sha256
from sc_imagenet.data.pairs import PairDataset, in_frame
from sc_imagenet.generation.feature_masks import feature_masks
from sc_imagenet.geometry.resize import normalised_image

Points = NDArray[np.float64]
Function: TypeAlias = "Callable[[Image.Image, Image.Image, Points], ArrayLike]"


class HasTransfer(Protocol):
    """Anything that transfers points of one image to another, both in original pixels."""

    def transfer(self, source: Image.Image, target: Image.Image, points: Points, /) -> ArrayLike:
        """Points (K, 2) of ``source`` -> the same points (K, 2) in ``target``."""


Model: TypeAlias = "Matcher | Function | HasTransfer"


def transferred(
    model: Function | HasTransfer, source: Image.Image, target: Image.Image, points: Points, where: object
) -> Points:
    """What a function, or an object's ``transfer``, makes of points (K, 2) of ``source``: points (K, 2) of ``target``.

    Raises:
        InputError: it cannot be called, or gives anything else than K finite points.
    """
    call = getattr(model, "transfer", model)
    if not callable(call):
        raise InputError(
            f"a {type(model).__name__} transfers no points",
            fix="Give a Matcher, a function f(source, target, points) -> points, or an object with such a transfer.",
        )
    given = call(source, target, points.copy())
    given = given.detach().cpu().double() if hasattr(given, "detach") else given
    found = np.asarray(given, np.float64)
    if found.shape != points.shape:
        raise InputError(f"{model_name(model)} gives points of shape {found.shape} for {points.shape}", where=where)
    if not np.isfinite(found).all():
        raise InputError(f"{model_name(model)} gives points that are NaN or infinite", where=where)
    return found


def model_name(model: Model) -> str:
    """What records call a model: its registered name, else that of its class or function."""
    if isinstance(model, Matcher) and (card := type(model).registered()) is not None:
        return card.name
    return str(getattr(model, "__name__", type(model).__name__))


@dataclass(frozen=True)
class Evaluated:
    """Predictions of a model on a data set, in original pixels, and their scores by protocol."""

    predictions: Predictions
    scores: Scores

    def pck(self, alpha: float = 0.1, protocol: str | None = None) -> float:
        """PCK at an alpha in percent; of the first protocol where none is named."""
        return self.scores.pck(alpha, protocol)


def evaluate(
    model: Model,
    data: str,
    *,
    limit: int | None = None,
    root: Path | str | None = None,
    protocols: str | Sequence[str | Scoring] = "strict@1",
    direction: str = "forward",
    draws: int = 1000,
    workers: int = 0,
    features: str = "memory",
    features_limit: int = LIMIT,
    out: Path | str | None = None,
) -> Evaluated:
    """Predict the pairs of a data set and score them; nothing is written but ``out``, where one is named.

    The predictions are those of ``scbench run MODEL --eval DATA --direction forward``.

    Args:
        model: a ``Matcher``, which is in evaluation mode afterwards; or a function ``f(source, target, points) ->
            points`` of upright RGB images and points in their pixels, or an object that has such a ``transfer``.
        data: NAME or NAME:SPLIT of the catalogue ("test" by default), or the folder of a generated set.
        limit: so many pairs, evenly spread; all by default.
        root: where the data sets lie; else ``SC_DATA_ROOT``.
        protocols: names as ``scbench protocols`` lists them, comma-separated or in a list.
        direction: "forward", source to target; or "official", a matcher's own.
        draws: bootstrap draws behind the 95 % intervals, 0 for none.
        workers: processes that load pairs for a matcher.
        features: what becomes of the features of an image that a matcher encodes: "keep" on disk for later runs,
            "memory" until the end, or "off".
        features_limit: so many MB of them are in memory, the rest on disk.
        out: a Parquet file to write the predictions to, as ``scbench score`` reads them.

    Raises:
        InputError: unknown data set or protocol, data that is not here, or points that are not finite.
    """
    if direction not in ("forward", "official"):
        raise unknown_name("direction", direction, ("forward", "official"))
    if limit is not None and limit < 1:
        raise InputError(f"limit={limit} leaves no pair")
    check_mode(features)
    pairs = NamedPairs.parse(data, "test", None if root is None else Path(root))
    chosen = protocols_named(protocols)
    name, size = model_name(model), model.size if isinstance(model, Matcher) else 0
    for protocol in chosen:
        protocol.for_data(pairs.dataset, name, size or None)  # refused before the work, not after it
    rows = pairs.open(limit)
    about = PredictionInfo(
        dataset=pairs.name,
        form=pairs.form,
        split=pairs.split,
        model=name,
        size=size,
        run="evaluate",
        manifest_sha256=manifest_sha256(pairs.dataset, pairs.split, root=pairs.root),
        direction=direction_of(model, direction) if isinstance(model, Matcher) else "forward",
    )
    by_number = {}
    with bars() as update:
        for number, row in _predicted(model, rows, about, workers, features, features_limit * MB):
            by_number[number] = row
            update(str(pairs), len(by_number), len(rows))
    found = [by_number[number] for number in range(len(rows))]
    predictions = predictions_of(found, about)
    if out is not None:
        write_predictions(out, found, about)
    return Evaluated(predictions, metric.score_protocols(predictions, chosen, draws))


def _predicted(
    model: Model, rows: datasets.Dataset, about: PredictionInfo, workers: int, features: str, limit: int
) -> Iterator[tuple[int, dict[str, Any]]]:
    """Rows of ``PREDICTION_SCHEMA`` by number, in the order in which ``scbench run`` takes pairs."""
    if not isinstance(model, Matcher):
        yield from enumerate(_by_call(model, rows))
        return
    device = next((p.device for p in model.parameters()), torch.device("cpu"))
    pairs = PairDataset(rows, model.size, model.mean, model.std, frame=model.frame)
    direction: Direction = "forward" if about.direction == "forward" else "backward"
    order, encoded = list(range(len(rows))), None
    if model.eval().encodes_alone:
        encoded = EncodedPairs(model, pairs, direction, device, features=features, limit=limit, workers=workers)
        order = encoded.order()
        encoded.expect(order)
    for number, row in zip(order, predict_rows(model, pairs, order, direction, device, workers, encoded)):
        points = np.asarray(row["predicted_points"]).reshape(-1, 2)
        if bad := int((~np.isfinite(points).all(1)).sum()):
            raise not_finite(model, bad, len(points), f"pair {row['pair_id']} of {about.dataset}")
        yield number, row


def _by_call(model: Function | HasTransfer, rows: datasets.Dataset) -> Iterator[dict[str, Any]]:
    """Rows of ``PREDICTION_SCHEMA`` of a model that is called with two images and points."""
    names = rows.features["category"].names
    for row in rows:
        source, target = to_rgb(row["source"]), to_rgb(row["target"])
        points = np.asarray(row["source_points"], np.float64).reshape(-1, 2)
        if row["mirrored"]:
            source, target = ImageOps.mirror(source), ImageOps.mirror(target)
            points[:, 0] = source.width - points[:, 0]
        found = transferred(model, source, target, points, f"pair {row['pair_id']}")
        if row["mirrored"]:
            found = np.stack([target.width - found[:, 0], found[:, 1]], axis=1)
        yield {
            **{name: row[name] for name in PREDICTION_SCHEMA.names if name in row},
            "category": names[row["category"]],
            "source_size": source.size,
            "target_size": target.size,
            "predicted_points": found,
            "direction": "forward",
        }


SEARCHED = 16  # side of the grid among whose points the most consistent are looked for
RIM = 0.12  # share of the image at each edge left out of that search: what is photographed is rarely there
KEPT = 12  # of those
CELLS = 20  # along each side of the grid on which features of all layers are compared
SHOWN = 0.9, 0.75, 0.5  # of a mask: from which on a cell is the object's; the first that leaves enough points
APART = 0.12  # least distance of two of them, in diagonals of the image or of what is the object's in it


@dataclass(frozen=True)
class Matches:
    """Matched points, (K, 2) in original pixels of each image.

    ``loop`` (K,) says how far from where it started, in pixels of the source, a point ends that is transferred
    to the target and back: small where the model is consistent with itself.
    """

    source_points: Points
    target_points: Points
    loop: NDArray[np.float64]

    def rows(self) -> list[dict[str, Any]]:
        """Plain values, for JSON."""
        return [
            {"source": [round(v, 2) for v in a], "target": [round(v, 2) for v in b], "loop": round(c, 2)}
            for a, b, c in zip(self.source_points.tolist(), self.target_points.tolist(), self.loop.tolist())
        ]


def match(
    model: Model,
    source: Picture,
    target: Picture,
    points: ArrayLike | None = None,
    grid: int | None = None,
) -> Matches:
    """Transfer points of ``source`` to ``target``, pictures of any size.

    Args:
        model: a ``Matcher``, of either direction: one made for the other way is given the images exchanged; or a
            function ``f(source, target, points) -> points`` of upright RGB images and points in their pixels, or an
            object that has such a ``transfer``.
        source: the image the points are in: a file's path, which is opened upright, an image of Pillow's of any
            mode, or an array (see ``sc_imagenet.data.images.to_rgb``).
        target: the image they are looked for in.
        points: (K, 2), original pixels of ``source``.
        grid: instead, a grid of so many points along each side. Without either, the points of a finer grid
            that come back nearest to where they started, spread over the image; of a matcher that sees each image by
            itself those on the object, as far as its features tell it from what is around it.

    Raises:
        InputError: a point outside ``source``, no picture, or a match that is NaN or infinite.
    """
    source, target = to_rgb(source), to_rgb(target)
    if points is None:
        if grid:
            return _both_ways(model, source, target, grid_points(source.size, grid))
        size = np.array(source.size, dtype=np.float64)
        middle = RIM * size + (1 - 2 * RIM) * grid_points(source.size, SEARCHED)
        if isinstance(model, Matcher) and model.encodes_alone:
            likely = on_object(model, source, middle)
            for limit in SHOWN:
                if (likely >= limit).sum() >= KEPT:
                    middle = middle[likely >= limit]
                    size = np.ptp(middle, axis=0)
                    break
        return _most_consistent(_both_ways(model, source, target, middle), size)
    points = np.asarray(points, dtype=np.float64)
    for index, (x, y) in enumerate(points.tolist(), start=1):
        if not (0 <= x <= source.width and 0 <= y <= source.height):
            raise InputError(
                f"point {index} at ({x:g}, {y:g}) lies outside the first image of "
                f"{source.width} x {source.height} pixels"
            )
    return _both_ways(model, source, target, points)


def parse_points(text: str) -> Points:
    """Points from text such as ``"120,80 200,95"``.

    >>> parse_points("120,80 200.5,95").tolist()
    [[120.0, 80.0], [200.5, 95.0]]

    Raises:
        InputError: anything else.
    """
    number = r"[+-]?(?:\d+\.?\d*|\.\d+)"
    written = re.sub(r"\s*,\s*", ",", text.strip())
    pairs = [pair for pair in re.split(r"[\s;]+", written) if pair]
    wrong = [pair for pair in pairs if not re.fullmatch(f"{number},{number}", pair)]
    if wrong or not pairs:
        what = f"{wrong[0]!r} is not a point" if wrong else "no points were given"
        raise InputError(what, where="--points", fix="Write 'x,y x,y ...' in pixels of the first image.")
    return np.array([[float(value) for value in pair.split(",")] for pair in pairs])


def grid_points(size: tuple[int, int], count: int) -> Points:
    """The centres of ``count`` x ``count`` equal cells of an image of ``size`` (width, height), row by row.

    >>> grid_points((100, 20), 2).tolist()
    [[25.0, 5.0], [75.0, 5.0], [25.0, 15.0], [75.0, 15.0]]
    """
    at = (np.arange(count) + 0.5) / count
    x, y = np.meshgrid(at * size[0], at * size[1])
    return np.stack([x.ravel(), y.ravel()], axis=1)


def _both_ways(model: Model, source: Image.Image, target: Image.Image, points: Points) -> Matches:
    if isinstance(model, Matcher):
        found, returned = _by_matcher(model, source, target, points)
    else:
        found = transferred(model, source, target, points, "source to target")
        returned = transferred(model, target, source, found, "target to source")
    return Matches(points, found, np.linalg.norm(returned - points, axis=1))


@torch.inference_mode()
def _by_matcher(matcher: Matcher, source: Image.Image, target: Image.Image, points: Points) -> tuple[Points, Points]:
    """Points in the target, and these back in the source; they stay in the model's frame in between."""
    device = next((p.device for p in matcher.parameters()), torch.device("cpu"))
    a, b = (_as_input(matcher, image).to(device) for image in (source, target))
    frame = matcher.frame
    start = torch.from_numpy(points * frame.scale(source.size) + frame.offset(source.size)).float()[None]
    to, fro = _ways(matcher, a, b)
    there = predict(matcher, {**to, "source_points": start.to(device)}, "forward")
    back = predict(matcher, {**fro, "source_points": there}, "forward")
    found, returned = (
        frame.original(placed[0].double().cpu().numpy(), image.size)
        for placed, image in ((there, target), (back, source))
    )
    if bad := int((~np.isfinite(np.hstack([found, returned])).all(1)).sum()):
        raise not_finite(matcher, bad, len(points), None)
    return found, returned


def _ways(matcher: Matcher, a: Tensor, b: Tensor) -> tuple[dict[str, Any], dict[str, Any]]:
    """Two images as a batch of ``predict`` and the other way round; each is encoded once, or once a role."""
    if not matcher.encodes_alone:
        return {"source": a, "target": b}, {"source": b, "target": a}
    kinds = roles(matcher, "forward")
    if not matcher.encodes_by_role:
        kinds = dict.fromkeys(kinds, "source")
    seen = {role: [stacked(encode(matcher, image, role)) for image in (a, b)] for role in dict.fromkeys(kinds.values())}
    to, fro = {}, {}
    for number, (side, role) in enumerate(kinds.items()):
        both = seen[role]
        to[f"{side}_features"], fro[f"{side}_features"] = both[number], both[1 - number]
    return to, fro


def _as_input(matcher: Matcher, image: Image.Image) -> Tensor:
    """An RGB image as evaluation feeds it, (1, 3, S, S): resized as 8-bit, or in its own shape once normalised."""
    frame = matcher.frame
    taken = F.pil_to_tensor(in_frame(image, frame)).float().div_(255)
    taken = normalised_image(taken, matcher.mean, matcher.std)
    if frame.keep_aspect:
        taken = F.resize(taken, frame.pixels(image.size), antialias=False)
    return frame.place(taken)[None]


@torch.inference_mode()
def on_object(matcher: Matcher, image: Image.Image, points: Points) -> NDArray[np.float32]:
    """How surely points (K, 2) lie on what the image shows, as far as the matcher's features tell: (K,) in [0, 1]."""
    cells = described(matcher, image)
    mask = feature_masks(cells)[0].cpu().numpy()
    return mask[_cell_of(matcher, image, points, mask.shape[0])]


@torch.inference_mode()
def similarities(matcher: Matcher, source: Image.Image, target: Image.Image) -> NDArray[np.float32]:
    """Cosines between the features of all cells of two images, mean over layers: (G, G, G, G), source rows first.

    The G x G cells cut the square in which the matcher is given an image.
    """
    one, two = (described(matcher, image, role) for image, role in ((source, "source"), (target, "target")))
    found = one[0].flatten(1).T @ two[0].flatten(1)
    return found.view(*one.shape[-2:], *two.shape[-2:]).float().cpu().numpy()


def described(matcher: Matcher, image: Image.Image, role: str = "source") -> Tensor:
    """Features (1, C, G, G), the layers side by side, each of them of norm 1 over the root of their number."""
    device = next((p.device for p in matcher.parameters()), torch.device("cpu"))
    pixels = _as_input(matcher, image).to(device)
    maps = matcher.encode_target(pixels) if role == "target" else matcher.encode(pixels)
    layers = [
        interpolate(layer.float(), (CELLS, CELLS), mode="bilinear", antialias=True) for layer in maps if layer.ndim == 4
    ]
    return torch.cat([normalize(layer, dim=1) for layer in layers], 1) / len(layers) ** 0.5


def _cell_of(matcher: Matcher, image: Image.Image, points: Points, grid: int) -> tuple[NDArray, NDArray]:
    """Row and column of the cells that points lie in."""
    placed = points * matcher.frame.scale(image.size) + matcher.frame.offset(image.size)
    cells = np.clip((placed * grid / matcher.size).astype(int), 0, grid - 1)
    return cells[:, 1], cells[:, 0]


def _most_consistent(matches: Matches, size: NDArray[np.float64]) -> Matches:
    """The matches that come back nearest to where they started, none close to another."""
    apart = APART * float(np.hypot(*size))
    kept: list[int] = []
    for index in np.argsort(matches.loop, kind="stable").tolist():
        near = np.linalg.norm(matches.source_points[kept] - matches.source_points[index], axis=1) < apart
        if not near.any():
            kept.append(index)
        if len(kept) == KEPT:
            break
    kept.sort()
    return Matches(matches.source_points[kept], matches.target_points[kept], matches.loop[kept])
