"""GeoAware-SC (Zhang et al., CVPR 2024): an aggregation network on frozen features, trained on keypoints.

Each layer's features pass a bottleneck; their weighted sum, at unit length, is the descriptor of a cell. A contrastive
loss tells the keypoints of a pair apart, a dense one places each; mirrored images tell left from right."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, ClassVar, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from baselines.matcher import Batch, Features, Matcher
from baselines.protocol import PublishedProtocol
from baselines.recipe import LAPTOP_BACKBONE, Recipe, recipe
from baselines.registry import register
from baselines.weights import PublishedWeights
from sc_imagenet.backbones.backbone import Backbone, build_backbone
from sc_imagenet.core.errors import InputError
from sc_imagenet.data.tensor_files import State
from sc_imagenet.geometry.map_points import Readout, read_maps
from sc_imagenet.geometry.point_maps import expected_place, similarities
from sc_imagenet.geometry.resize import Frame

PUBLISHED_BACKBONE = "vit_base_patch14_dinov2.lvd142m"
TEMPERATURE = 0.02  # of the dense loss and of the read-out
WINDOW = 7  # cells around the best that the read-out looks at
DROPPED = 0.2  # share of the input features, in training
NOISE = 0.1  # of half the threshold: standard deviation of the noise on the dense loss's targets
MIRROR_WEIGHTS = (1.0, 1.0, 0.25)  # of a pair, of both its mirror images, of the source beside its own mirror image
GROUPS = 32  # of the normalisation
READOUT = Readout("window-soft-argmax", window=WINDOW, temperature=TEMPERATURE, place="centre", query="cell")


class Descriptors(NamedTuple):
    """Descriptors of both images of pairs, and of their mirror images where they are trained on; each (B, C, h, w)."""

    source: Tensor
    target: Tensor
    mirrored_source: Tensor | None = None
    mirrored_target: Tensor | None = None


@register(
    "geoaware",
    title="GeoAware-SC",
    paper="Zhang et al., CVPR 2024",
    licence="none: the authors' repository has no licence file that we found",
    supervision="keypoints",
    backbone=PUBLISHED_BACKBONE,
    trained_on=("ap-10k", "spair-71k", "pf-pascal"),
    protocol=PublishedProtocol(840, "forward"),
)
class GeoAware(Matcher):
    """GeoAware-SC's aggregation network on any backbone; the defaults are its form on DINOv2 alone.

    Args:
        backbone: timm's name.
        layers: layers to read, a branch each (see ``sc_imagenet/backbones/backbone.py``); None: the last block of a
            vision transformer, the coarse layers of other networks.
        branches: channels of each branch, where features are not the backbone's: the published network on Stable
            Diffusion and DINOv2 has (640, 1280, 1280, 768).
        size: side S of the input; the next that the backbone's cells fill is taken.
        width: channels of a descriptor.
        mirror: encode each image's mirror image too, for the augmentation by pairs.
        pretrained: the backbone's weights: True, False, or a file (see ``sc_imagenet/backbones/pretrained.py``).

    Raises:
        InputError: sizes that do not go together, or a backbone that cannot be had.
    """

    direction = "forward"
    match_arguments: ClassVar[Sequence[str]] = ("width", "branches")
    match_weights = ("network.", "x_normal", "y_normal")
    trains_on_features = True
    backbone: Backbone

    def __init__(
        self,
        backbone: str = PUBLISHED_BACKBONE,
        layers: Sequence[int] | None = None,
        branches: Sequence[int] | None = None,
        size: int = 840,
        width: int = 768,
        mirror: bool = False,
        pretrained: bool | str = True,
    ) -> None:
        super().__init__()
        self.backbone = build_backbone(backbone, layers, size, pretrained).requires_grad_(False)
        self.size, self.mean, self.std = self.backbone.size, self.backbone.mean, self.backbone.std
        self.mirror = mirror
        self.network = AggregationNetwork(branches or self.backbone.channels, width)
        grid = self.size // min(self.backbone.strides)
        # The authors train the coordinates that the dense loss reads; the read-out does not use them.
        self.x_normal = nn.Parameter(torch.linspace(-1, 1, grid))
        self.y_normal = nn.Parameter(torch.linspace(-1, 1, grid))

    @property
    def frame(self) -> Frame:
        """Images keep their shape, enlarged or made smaller to lie in the middle of the square."""
        return Frame(self.size, fit="letterbox", resample="lanczos")

    def train(self, mode: bool = True) -> GeoAware:
        """The frozen network stays in evaluation mode."""
        super().train(mode)
        self.backbone.eval()
        return self

    def encode(self, images: Tensor) -> list[Tensor]:
        """Images (B, 3, S, S) -> raw features (B, C, h, w) of each layer, then those of the mirror images."""
        seen = (images, images.flip(-1)) if self.mirror else (images,)
        return [features for each in seen for features in self.backbone(each)]

    def match(self, source: Features, target: Features) -> Descriptors:
        """Features -> descriptors (B, C, h, w) of unit length; of mirror images in training alone."""
        count = len(self.network.bottleneck_layers)
        grid = len(self.x_normal)
        plain = [self.network(maps[:count], grid) for maps in (source, target)]
        if not (self.training and self.mirror):
            return Descriptors(*plain)
        return Descriptors(*plain, *(self.network(maps[count:], grid) for maps in (source, target)))

    def transfer(self, output: Descriptors, points: Tensor) -> Tensor:
        """Points (B, K, 2) of the source -> the expected place in a window around the best cell of the target."""
        if points.shape[1] == 0:
            return points
        rows = self.similarity(output.source, output.target, points).float().cpu().numpy()
        return torch.from_numpy(np.stack([read_maps(READOUT, maps, self.size) for maps in rows])).to(points)

    def similarity(self, source: Tensor, target: Tensor, points: Tensor) -> Tensor:
        """Cosines (B, K, h, w) of the cells that hold points (B, K, 2) of the source with all cells of the target."""
        return similarities(self.described(source, points), target)

    def described(self, descriptors: Tensor, points: Tensor) -> Tensor:
        """Descriptors (B, K, C) of the cells that hold points (B, K, 2)."""
        columns, rows = self.cells(points).long().unbind(-1)
        index = (rows * descriptors.shape[-1] + columns)[:, None].expand(-1, descriptors.shape[1], -1)
        return descriptors.flatten(2).gather(2, index).transpose(1, 2)

    def cells(self, points: Tensor) -> Tensor:
        """The cells, truncated, that hold points (B, K, 2)."""
        grid = len(self.x_normal)
        return (points * (grid / self.size)).trunc().clamp(0, grid - 1)

    def loss(self, output: Descriptors, batch: Batch) -> Tensor:
        """Contrastive plus dense loss, the mean over the pairs; with mirror images, weighed by ``MIRROR_WEIGHTS``.

        Of a pair's mirror images and of the source beside its own there is the dense loss alone. In its mirror image a
        point lies where its left-right partner was.
        """
        points, places, valid = (batch[key] for key in ("source_points", "target_points", "valid"))
        loss = self.contrastive(output, points, places, valid)
        noise = self.noise(batch, "target")
        loss = loss + self.dense(output.source, output.target, points, places, valid, noise)
        if output.mirrored_source is None or output.mirrored_target is None:
            return loss
        both = self.mirrored_pair(output, batch, self.noise(batch, "target"))
        return weighed(loss, both, self.mirrored_source(output, batch, self.noise(batch, "source")))

    def noise(self, batch: Batch, side: str) -> Tensor:
        """What is added in training to the true places (B, K, 2) on one of the sides, in cells."""
        points = batch[f"{side}_points"]
        noise = torch.randn_like(points) if self.training else torch.zeros_like(points)
        return noise * (NOISE / 2 * self.threshold(batch, side))[:, None, None]

    def mirrored_pair(self, output: Descriptors, batch: Batch, noise: Tensor) -> Tensor:
        """Dense loss of both mirror images; ``noise`` (B, K, 2) in cells."""
        assert output.mirrored_source is not None
        assert output.mirrored_target is not None
        own, other = (self.flipped(batch[f"{side}_points"]) for side in ("source", "target"))
        return self.dense(output.mirrored_source, output.mirrored_target, own, other, batch["valid"], noise)

    def mirrored_source(self, output: Descriptors, batch: Batch, noise: Tensor) -> Tensor:
        """Dense loss from the source's mirror image to the source, of the points whose partners are known."""
        assert output.mirrored_source is not None
        points, valid = batch["source_points"], batch["valid"]
        partners = batch.get("partners", torch.full_like(valid, -1, dtype=torch.int64))
        row = partners.clamp(min=0)
        known = valid & (partners >= 0) & valid.gather(1, row)
        own = self.flipped(points).gather(1, row[..., None].expand(-1, -1, 2))
        return self.dense(output.mirrored_source, output.source, own, points, known, noise)

    def flipped(self, points: Tensor) -> Tensor:
        """Points (B, K, 2) of an image where its mirror image has them."""
        return torch.stack((self.size - points[..., 0], points[..., 1]), -1)

    def contrastive(self, output: Descriptors, points: Tensor, places: Tensor, valid: Tensor) -> Tensor:
        """Symmetric cross-entropy of a pair's keypoints with each other, the mean over the pairs that have some."""
        own, other = self.described(output.source, points), self.described(output.target, places)
        logits = own @ other.mT * self.network.logit_scale.exp()
        both_valid = valid[:, :, None] & valid[:, None]
        logits = logits.masked_fill(~both_valid, torch.finfo(logits.dtype).min)
        there, back = (-way.log_softmax(2).diagonal(dim1=1, dim2=2) for way in (logits, logits.mT))
        return mean_of_pairs((there + back) / 2, valid)

    def dense(
        self, source: Tensor, target: Tensor, points: Tensor, places: Tensor, valid: Tensor, noise: Tensor
    ) -> Tensor:
        """End-point error in cells of the expected places, from the source's cells on; the mean over the pairs.

        The true flow is that of the fractional points, plus ``noise`` (B, K, 2) in cells.
        """
        rows, last = self.similarity(source, target, points), len(self.x_normal) - 1
        expected = expected_place(rows, TEMPERATURE, self.x_normal, self.y_normal)
        flow = (expected + 1) * (last / 2) - self.cells(points)
        true = (places - points) * (len(self.x_normal) / self.size) + noise
        return mean_of_pairs((flow - true).norm(dim=-1), valid)

    def threshold(self, batch: Batch, side: str) -> Tensor:
        """The longer side (B,) of an image's box in cells; of the frame where there is none."""
        box = batch[f"{side}_bbox"]
        longer = (box[:, 2:] - box[:, :2]).amax(1)
        return torch.where(longer.isnan(), self.size, longer) * (len(self.x_normal) / self.size)


def weighed(*losses: Tensor) -> Tensor:
    """The mean of a pair's loss and those of its mirror images, by ``MIRROR_WEIGHTS``."""
    weights = torch.tensor(MIRROR_WEIGHTS).to(losses[0])
    return (torch.stack(losses) * weights).sum() / weights.sum()


def mean_of_pairs(values: Tensor, valid: Tensor) -> Tensor:
    """The mean over the pairs that have valid points of the mean over these; values and ``valid`` (B, K).

    >>> mean_of_pairs(torch.tensor([[1.0, 3.0], [9.0, 9.0]]), torch.tensor([[True, True], [False, False]])).item()
    2.0
    """
    counts = valid.sum(1)
    sums = torch.where(valid, values, 0).sum(1) / counts.clamp(min=1)
    return sums.sum() / (counts > 0).sum().clamp(min=1)


class AggregationNetwork(nn.Module):
    """A bottleneck for each branch and the weights of their sum."""

    def __init__(self, channels: Sequence[int], width: int) -> None:
        super().__init__()
        if width % (4 * GROUPS):
            raise InputError(f"a width of {width} is not a multiple of {4 * GROUPS}")
        self.bottleneck_layers = nn.ModuleList(nn.Sequential(Bottleneck(count, width)) for count in channels)
        self.mixing_weights = nn.Parameter(torch.ones(len(channels)))
        self.logit_scale = nn.Parameter(torch.tensor(math.log(1 / 0.07)))
        # In published checkpoints, but never used; it gets no gradient.
        self.self_logit_scale = nn.Parameter(torch.tensor(math.log(10.0))).requires_grad_(False)

    def forward(self, maps: Features, grid: int) -> Tensor:
        """Features (B, C, h, w) of each branch -> descriptors (B, width, grid, grid) of unit length."""
        mixed = self.mixed(maps, grid)
        return mixed / (mixed.norm(dim=1, keepdim=True) + 1e-10)

    def mixed(self, maps: Features, grid: int) -> Tensor:
        """The same before they are made of unit length."""
        if len(maps) != len(self.bottleneck_layers):
            raise InputError(f"{len(maps)} maps for a network of {len(self.bottleneck_layers)} branches")
        mixed = torch.zeros((), device=maps[0].device, dtype=maps[0].dtype)
        for weight, branch, each in zip(self.mixing_weights.softmax(0), self.bottleneck_layers, maps):
            if each.shape[-1] != grid:
                each = F.interpolate(each, (grid, grid), mode="bilinear")
            mixed = mixed + weight * branch(F.dropout(each, DROPPED, self.training))
        return mixed


class NormedConv(nn.Conv2d):
    """A convolution without bias and the normalisation behind it."""

    def __init__(self, inside: int, outside: int, kernel: int) -> None:
        super().__init__(inside, outside, kernel, padding=kernel // 2, bias=False)
        self.norm = nn.GroupNorm(GROUPS, outside)
        nn.init.kaiming_normal_(self.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, x: Tensor) -> Tensor:
        """(B, inside, h, w) -> (B, outside, h, w)."""
        return self.norm(super().forward(x))


class Bottleneck(nn.Module):
    """Three convolutions beside a shortcut."""

    def __init__(self, channels: int, width: int) -> None:
        super().__init__()
        self.shortcut = NormedConv(channels, width, 1) if channels != width else nn.Identity()
        self.conv1 = NormedConv(channels, width // 4, 1)
        self.conv2 = NormedConv(width // 4, width // 4, 3)
        self.conv3 = NormedConv(width // 4, width, 1)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, h, w) -> (B, width, h, w)."""
        return F.relu(self.conv3(F.relu(self.conv2(F.relu(self.conv1(x))))) + self.shortcut(x))


# Recipes of GeoAware-SC.

PAPER = Recipe(
    model={"backbone": PUBLISHED_BACKBONE, "size": 840, "mirror": True},
    lr=1.25e-3,
    backbone_lr=0.0,
    weight_decay=1e-3,
    batch=1,
    epochs=2,
    schedule="one-cycle",
)


@recipe("geoaware", "spair-71k")
def spair_71k() -> Recipe:
    """``scbench run geoaware --finetune spair-71k --eval spair-71k``: 53,339 steps an epoch, on DINOv2 alone.

    The authors begin with weights trained an epoch on AP-10K, and their headline figures have features of Stable
    Diffusion besides. Features are frozen: each image is encoded once, with its mirror image.
    """
    return PAPER


@recipe("geoaware", "pf-pascal")
def pf_pascal() -> Recipe:
    """``scbench run geoaware --finetune pf-pascal --eval pf-pascal``: 100 epochs, without mirror images."""
    return replace(PAPER, model={**PAPER.model, "mirror": False}, epochs=100, schedule="step")


@recipe("geoaware")
def any_data() -> Recipe:
    """The values of SPair-71k."""
    return PAPER


LAPTOP = replace(
    PAPER,
    model={"backbone": LAPTOP_BACKBONE, "layers": [4, 5, 7], "size": 256, "width": 256, "mirror": True},
    batch=8,
    epochs=10,
)


@recipe("geoaware", preset="small")
def small() -> Recipe:
    """Three layers of EfficientNet-Lite0 at 256 px: ``--preset small --finetune NAME``; images are encoded once."""
    return LAPTOP


@recipe("geoaware", preset="tiny")
def tiny() -> Recipe:
    """The same at 160 px, 10 x 10 cells: ``scbench run geoaware --preset tiny --finetune toy --eval toy``."""
    return replace(LAPTOP, model={**LAPTOP.model, "size": 160}, epochs=4)


# The checkpoints of GeoAware-SC and DIY-SC: the aggregation network alone.

PREFIX = "network."
STABLE_DIFFUSION = (640, 1280, 1280)  # channels of the branches beside DINOv2's
NETWORKS = {384: "small", 768: "base", 1024: "large"}


def from_published(state: State) -> State:
    """The authors' state under our keys."""
    return {PREFIX + key: value for key, value in state.items()}


def arguments_of(state: Mapping[str, Tensor]) -> dict[str, Any]:
    """Arguments of ``GeoAware`` for these weights.

    Raises:
        InputError: not weights of an aggregation network.
    """
    firsts = {key.split(".")[2]: value for key, value in state.items() if key.endswith(".0.conv1.weight")}
    last = state.get(f"{PREFIX}bottleneck_layers.0.0.conv3.weight")
    if not firsts or last is None or any(value.ndim != 4 for value in (*firsts.values(), last)):
        raise InputError("are no weights of an aggregation network")
    channels = [firsts[number].shape[1] for number in sorted(firsts, key=int)]
    if channels[-1] not in NETWORKS:
        raise InputError(f"holds a branch of {channels[-1]} channels, which no DINOv2 has")
    backbone = f"vit_{NETWORKS[channels[-1]]}_patch14_dinov2.lvd142m"
    branches = {} if len(channels) == 1 else {"branches": channels}
    return {"backbone": backbone, "size": 840, "width": last.shape[0], **branches}


GeoAware.published = PublishedWeights(
    about="The checkpoints of GeoAware-SC and DIY-SC: the aggregation network; DINOv2's weights are timm's.",
    marker=("bottleneck_layers.", "mixing_weights", "logit_scale"),
    convert=from_published,
    arguments=arguments_of,
    optional=("x_normal", "y_normal"),
    backbone=False,
)
