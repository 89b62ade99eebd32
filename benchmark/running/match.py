"""Matching any two images: points of the one carried to the other, in original pixels of both."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from PIL import Image
from torch import Tensor
from torchvision.transforms.v2 import functional as F

from baselines import registry
from baselines.checkpoints import load_checkpoint
from baselines.matcher import Matcher
from benchmark.running.evaluate import not_finite, predict
from sc_imagenet.core.errors import InputError
from sc_imagenet.data.images import Picture, to_rgb
from sc_imagenet.geometry.resize import Frame

SEARCHED = 16  # side of the grid among whose points the most consistent are looked for
RIM = 0.12  # share of the image at each edge left out of that search: what is photographed is rarely there
KEPT = 12  # of those
APART = 0.12  # least distance of two of them, in diagonals of the image

Points = NDArray[np.float64]


@dataclass(frozen=True)
class Matches:
    """Matched points, (K, 2) in original pixels of each image.

    ``loop`` (K,) says how far from where it started, in pixels of the source, a point ends that is carried
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


def load_matcher(model: str, backbone: str | None = None, checkpoint: Path | str | None = None) -> Matcher:
    """A model with weights, ready to match, on the GPU where there is one.

    Raises:
        InputError: unknown model or backbone, weights that cannot be had, or a model that must be trained
            without a checkpoint.
    """
    card = registry.card(model)
    if checkpoint is not None:
        if backbone is not None:
            raise InputError("--backbone and --checkpoint were both given", fix="A checkpoint has its own backbone.")
        matcher = load_checkpoint(card.name, checkpoint)[0]
    elif card.supervision != "none":
        raise InputError(
            f"{card.name} is a trained model and no weights were given",
            fix="Give --checkpoint (a run's folder, its authors' file, OWNER/NAME of the Hub), or use --model nearest.",
        )
    else:
        matcher = registry.create(card.name, **({} if backbone is None else {"backbone": backbone}))
    return matcher.to("cuda" if torch.cuda.is_available() else "cpu").eval()


def match(
    matcher: Matcher,
    source: Picture,
    target: Picture,
    points: ArrayLike | None = None,
    grid: int | None = None,
) -> Matches:
    """Carry points of ``source`` to ``target``, pictures of any size.

    Args:
        matcher: of either direction; one made for the other way is given the images exchanged.
        source: the image the points are in: a file's path, which is opened upright, an image of Pillow's of any
            mode, or an array (see ``sc_imagenet.data.images.to_rgb``).
        target: the image they are looked for in.
        points: (K, 2), original pixels of ``source``.
        grid: instead, a grid of so many points along each side. Without either, the points of a finer grid
            that come back nearest to where they started, spread over the image.

    Raises:
        InputError: a point outside ``source``, no picture, or a match that is NaN or infinite.
    """
    source, target = to_rgb(source), to_rgb(target)
    if points is None:
        if grid:
            return _both_ways(matcher, source, target, grid_points(source.size, grid))
        size = np.array(source.size, dtype=np.float64)
        middle = RIM * size + (1 - 2 * RIM) * grid_points(source.size, SEARCHED)
        return _most_consistent(_both_ways(matcher, source, target, middle), source.size)
    points = np.asarray(points, dtype=np.float64)
    for index, (x, y) in enumerate(points.tolist(), start=1):
        if not (0 <= x <= source.width and 0 <= y <= source.height):
            raise InputError(
                f"point {index} at ({x:g}, {y:g}) lies outside the first image of "
                f"{source.width} x {source.height} pixels"
            )
    return _both_ways(matcher, source, target, points)


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


@torch.inference_mode()
def _both_ways(matcher: Matcher, source: Image.Image, target: Image.Image, points: Points) -> Matches:
    device = next((p.device for p in matcher.parameters()), torch.device("cpu"))
    a, b = (_as_input(matcher, image).to(device) for image in (source, target))
    frame = Frame(matcher.size, matcher.keep_aspect)
    start = torch.from_numpy(points * frame.scale(source.size)).float()[None]
    there = predict(matcher, {"source": a, "target": b, "source_points": start.to(device)}, "forward")
    back = predict(matcher, {"source": b, "target": a, "source_points": there}, "forward")
    returned, found = (
        frame.original(carried[0].double().cpu().numpy(), image.size)
        for carried, image in ((back, source), (there, target))
    )
    if bad := int((~np.isfinite(np.hstack([found, returned])).all(1)).sum()):
        raise not_finite(matcher, bad, len(points), None)
    return Matches(points, found, np.linalg.norm(returned - points, axis=1))


def _as_input(matcher: Matcher, image: Image.Image) -> Tensor:
    """An RGB image as evaluation feeds it, (1, 3, S, S): resized as 8-bit, or in its own shape once normalised."""
    frame = Frame(matcher.size, matcher.keep_aspect)
    pixels = frame.pixels(image.size)
    resized = image if matcher.keep_aspect else F.resize(image, pixels)
    mean, std = (torch.tensor(values).view(3, 1, 1) for values in (matcher.mean, matcher.std))
    normalised = (F.pil_to_tensor(resized).float().div_(255) - mean) / std
    return frame.place(F.resize(normalised, pixels, antialias=False))[None]


def _most_consistent(matches: Matches, size: tuple[int, int]) -> Matches:
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
