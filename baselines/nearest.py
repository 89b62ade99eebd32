"""Nearest neighbours of frozen features: no training, any backbone.

Features of several layers are made comparable, resized to one grid and concatenated; a source point is looked for
among all target cells."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from baselines.matcher import Features, Matcher
from baselines.recipe import Recipe, recipe
from baselines.registry import register
from sc_imagenet.backbones.backbone import Backbone
from sc_imagenet.backbones.named import build_named
from sc_imagenet.core.errors import InputError
from sc_imagenet.data.feature_folder import FeatureFolder
from sc_imagenet.geometry.grids import pixels_of, read_at
from sc_imagenet.geometry.map_points import Readout, read_points
from sc_imagenet.geometry.resize import Frame
from sc_imagenet.geometry.soft_argmax import windowed_soft_argmax


class Described(NamedTuple):
    """Comparable features of both images of pairs, each (B, C, h, w)."""

    source: Tensor
    target: Tensor


@register(
    "nearest",
    title="Nearest neighbour",
    paper="zero-training baseline",
    licence="that of the backbone",
    supervision="none",
    backbone="tf_efficientnet_lite0",
)
class Nearest(Matcher):
    """Nearest neighbours among the features of any frozen backbone, or among features made elsewhere.

    Args:
        backbone: timm's name, a diffusion model, or several networks (see ``sc_imagenet/backbones/named.py``).
        layers: layers to read (see ``sc_imagenet/backbones/backbone.py``); None: the coarse ones, stride 16 and more.
        size: side S of the input; the next that the backbone's cells fill is taken.
        grid: cells along each side of the common grid; None: that of the finest layer read.
        standardise: give each channel of each layer mean 0 and variance 1 over the image before the L2 norm.
            Channels that are high everywhere say nothing about where a part lies.
        upsample: the target's similarities are up-sampled so many times (bicubic) before the best is taken.
        window: half side, in cells, of the soft-argmax around the best; 0 takes the best itself.
        temperature: of that soft-argmax, on mean cosine similarities.
        readout: instead of these three, one of the published read-outs as text: "window-soft-argmax window=7
            temperature=0.02", "kernel-softmax sigma=7 temperature=0.04 place=aligned query=aligned", ... (see
            ``sc_imagenet/geometry/map_points.py``).
        fit: how images fill the S x S frame: "stretch", or "letterbox" and "corner-letterbox", which keep their shape
            (see ``sc_imagenet/geometry/letterbox.py``).
        padding: "black" or "white" beside a letterboxed image.
        resample: "bilinear", "bicubic" or "lanczos".
        pretrained: the backbone's weights: True, False, or a file (see ``sc_imagenet/backbones/pretrained.py``).
        features: in place of a backbone, a folder with an array (C, n, n) for each image, made of the image in the
            S x S frame that ``size``, ``fit`` and ``padding`` say (see ``sc_imagenet/data/feature_folder.py``).

    Raises:
        InputError: see ``build_named`` and ``FeatureFolder``.
    """

    direction = "forward"
    match_arguments = ("upsample", "window", "temperature", "readout")
    backbone: Backbone | None

    def __init__(
        self,
        backbone: str = "tf_efficientnet_lite0",
        layers: Sequence[int] | None = None,
        size: int = 320,
        grid: int | None = None,
        standardise: bool = True,
        upsample: int = 4,
        window: float = 3.5,
        temperature: float = 0.025,
        readout: str | None = None,
        fit: str = "stretch",
        padding: str = "black",
        resample: str = "bilinear",
        pretrained: bool | str = True,
        features: str | None = None,
    ) -> None:
        super().__init__()
        self.grid = grid
        self.standardise = standardise
        self.upsample = upsample
        self.window = window
        self.temperature = temperature
        self.size = size
        if features is not None:
            self.feature_folder = FeatureFolder(features)
        else:
            self.backbone = build_named(backbone, layers, size, pretrained).requires_grad_(False)
            self.size, self.mean, self.std = self.backbone.size, self.backbone.mean, self.backbone.std
        self.readout = None if readout is None else Readout.parse(readout)
        self._frame = Frame(self.size, fit=fit, padding=padding, resample=resample)

    @property
    def frame(self) -> Frame:
        """How images lie in the squares that it is given."""
        return self._frame

    def encode(self, images: Tensor) -> list[Tensor]:
        """Images (B, 3, S, S) -> features (B, C, h, w) whose inner products are the mean of the layers' cosines."""
        if self.backbone is None:
            where = self.feature_folder.folder if self.feature_folder else None
            fix = "'scbench run --eval' and benchmark.evaluate do; others want --backbone."
            raise InputError("features are found by an image's name, which this does not tell", where=where, fix=fix)
        return self._described(self.backbone(images), self.backbone.shares)

    def from_array(self, features: Tensor) -> list[Tensor]:
        """Features (1, C, n, n) as ``encode`` gives those of a backbone's one layer."""
        return self._described([features], ())

    def _described(self, maps: Sequence[Tensor], shares: Sequence[float]) -> list[Tensor]:
        grid = self.grid or max(features.shape[-1] for features in maps)
        resized = [self._to_grid(features, grid) for features in maps]
        if self.standardise:
            resized = [F.instance_norm(features) for features in resized]
        shares = shares or (1.0,) * len(maps)
        units = [F.normalize(features, dim=1) * share**0.5 for features, share in zip(resized, shares)]
        return [torch.cat(units, 1) / sum(shares) ** 0.5]

    def match(self, source: Features, target: Features) -> Described:
        """Nothing yet: which rows of the correlation are computed depends on the points."""
        return Described(source[0], target[0])

    @staticmethod
    def _to_grid(features: Tensor, grid: int) -> Tensor:
        if features.shape[-1] == grid:
            return features
        # Antialias where a map is made smaller: all that a cell covers counts.
        return F.interpolate(features, (grid, grid), mode="bilinear", antialias=features.shape[-1] > grid)

    def transfer(self, output: Described, points: Tensor) -> Tensor:
        """Points (B, K, 2) of the source -> the most similar places of the target.

        Only the asked rows of the correlation are computed. A point between cells reads its row bilinearly.
        """
        if points.shape[1] == 0:
            return points
        if self.readout is not None:
            arrays = zip(*(each.float().cpu().numpy() for each in (output.source, output.target, points)))
            found = [read_points(self.readout, source, target, own, self.size) for source, target, own in arrays]
            return torch.from_numpy(np.stack(found)).to(points)
        asked = read_at(output.source, points, self.size)
        rows = (asked @ output.target.flatten(2)).unflatten(2, output.target.shape[-2:])
        if self.upsample > 1:
            rows = F.interpolate(rows, scale_factor=self.upsample, mode="bicubic")
        cells = windowed_soft_argmax(rows, self.window * self.upsample, self.temperature)
        return pixels_of(cells, self.size / rows.shape[-1])


# ``nearest`` is not trained: its recipes only say how it is built.


@recipe("nearest")
def paper() -> Recipe:
    """EfficientNet-Lite0 at 320 px: ``scbench run nearest --eval pf-willow``, about two minutes on two cores.

    540 pairs, PF-WILLOW's six cluttered classes, bbox-kp, image average: 34.7 / 57.7 / 68.8 at .05 / .10 / .15.
    """
    return Recipe(epochs=0, lr=0.0, backbone_lr=0.0)


@recipe("nearest", preset="small")
def small() -> Recipe:
    """The same at 256 px; 32.5 / 56.6 / 68.6."""
    return Recipe(model={"size": 256}, epochs=0, lr=0.0, backbone_lr=0.0)


@recipe("nearest", preset="tiny")
def tiny() -> Recipe:
    """The same at 160 px, a 10 x 10 grid."""
    return Recipe(model={"size": 160}, epochs=0, lr=0.0, backbone_lr=0.0)
