"""GECO (Hartwig et al., ICCV 2025): low-rank updates of DINOv2, trained by optimal transport between cells.

Cells of both images and a bin for what has no partner are matched by unbalanced transport; the plan's entries should be
large for keypoints, small for their left-right partners and between object and background."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from baselines.matcher import Batch, Features, Matcher
from baselines.nearest import Described
from baselines.protocol import PublishedProtocol
from baselines.recipe import LAPTOP_BACKBONE, Recipe, recipe
from baselines.registry import register
from baselines.weights import PublishedWeights
from sc_imagenet.backbones.backbone import Backbone, build_backbone, last_blocks
from sc_imagenet.core.errors import InputError
from sc_imagenet.data.tensor_files import State
from sc_imagenet.geometry.grids import read_at

PUBLISHED_BACKBONE = "vit_base_patch14_dinov2.lvd142m"
REGULARISATION, DIVERGENCE, ITERATIONS = 0.1, 10.0, 10  # of the transport
BIN = 0.3  # similarity of every cell with the bin
OBJECT = 0.9  # share of the mass that lies on the object's cells
WEIGHTS = (1.0, 1.0, 10.0, 10.0)  # of the losses: pairs, bin, partners, object with background
CHANNELS = 64  # up-sampled at a time


class Supervision(NamedTuple):
    """Entries (row, column) of a pair's plan by what they should be, each (n, 2); N is the bin's row and column."""

    pairs: Tensor
    bin: Tensor
    partners: Tensor
    background: Tensor


@register(
    "geco",
    title="GECO",
    paper="Hartwig et al., ICCV 2025",
    licence="none: the authors' repository has no licence file that we found",
    supervision="keypoints",
    backbone=PUBLISHED_BACKBONE,
    trained_on=("ap-10k", "spair-71k", "pf-pascal"),
    protocol=PublishedProtocol(None, "forward"),
)
class GECO(Matcher):
    """GECO on any backbone; the defaults are the published model.

    In a vision transformer queries and values of all blocks have a low-rank update. In a network without such blocks
    the 1 x 1 convolutions of its last stages have one, or there is a single one behind its features.

    Args:
        backbone: timm's name.
        layers: layers to read (see ``sc_imagenet/backbones/backbone.py``); None: the last block of a vision
            transformer, behind its last norm, or the coarse layers of other networks.
        size: side S of the input; the next that the backbone's cells fill is taken.
        rank: of the updates.
        stages: of a CNN, how many of the last stages have updates; 0: one update behind the features.
        cells: along each side of the maps that are matched in training, to which features are up-sampled; 0: as many
            as they have. Where cells are large a keypoint and its left-right partner fall into one and the same.
        pretrained: the backbone's weights: True, False, or a file (see ``sc_imagenet/backbones/pretrained.py``).

    Raises:
        InputError: a backbone that cannot be had, or a size below its least.
    """

    direction = "forward"
    training_arguments = ("cells",)
    backbone: Backbone

    def __init__(
        self,
        backbone: str = PUBLISHED_BACKBONE,
        layers: Sequence[int] | None = None,
        size: int = 518,
        rank: int = 10,
        stages: int = 0,
        cells: int = 0,
        pretrained: bool | str = True,
    ) -> None:
        super().__init__()
        for name, value, least in (("rank", rank, 1), ("stages", stages, 0)):
            if value < least:
                raise InputError(f"{name} = {value} must be at least {least}", where="geco")
        self.cells = cells
        self.check_training_arguments()
        self.backbone = build_backbone(backbone, layers, size, pretrained, final_norm=True).requires_grad_(False)
        self.size, self.mean, self.std = self.backbone.size, self.backbone.mean, self.backbone.std
        self.lora = nn.ModuleDict()
        for number, block in enumerate(attending_blocks(self.backbone)):
            of_query, of_value = (LowRank(block.attn.qkv.in_features, rank) for _ in range(2))
            self.lora[f"{number}_q"], self.lora[f"{number}_v"] = of_query, of_value
            block.attn.qkv = UpdatedProjection(block.attn.qkv, of_query, of_value)
        if not self.lora:
            for number, (part, name) in enumerate(pointwise_convolutions(self.backbone, stages)):
                convolution = getattr(part, name)
                update = LowRank(convolution.in_channels, rank, convolution.out_channels)
                self.lora[str(number)] = update
                setattr(part, name, UpdatedConvolution(convolution, update))
        if not self.lora:
            self.lora["after"] = LowRank(sum(self.backbone.channels), rank)

    def train(self, mode: bool = True) -> GECO:
        """The frozen network stays in evaluation mode."""
        super().train(mode)
        self.backbone.eval()
        return self

    def check_training_arguments(self) -> None:
        """See ``Matcher``."""
        if type(self.cells) is not int or self.cells < 0:
            raise InputError(f"cells = {self.cells!r:.80} must be a whole number from 0 on", where="geco")

    def encode(self, images: Tensor) -> list[Tensor]:
        """Images (B, 3, S, S) -> features (B, C, h, w)."""
        maps = self.backbone(images)
        if "0_q" in self.lora:
            return maps[-1:]
        grid = max(features.shape[-1] for features in maps)
        unit = [F.normalize(F.instance_norm(each), dim=1) for each in maps]
        joined = torch.cat([F.interpolate(each, (grid, grid), mode="bilinear") for each in unit], 1)
        if "after" not in self.lora:
            return [joined]
        return [joined + self.lora["after"](joined.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)]

    def match(self, source: Features, target: Features) -> Described:
        """Nothing yet: which similarities are computed depends on the points."""
        return Described(source[0], target[0])

    def transfer(self, output: Described, points: Tensor) -> Tensor:
        """Points (B, K, 2) of the source -> the pixels of the target whose up-sampled features are most similar."""
        if points.shape[1] == 0:
            return points
        frame, target = (self.size, self.size), output.target
        read = read_at(output.source, points.floor() + 0.5, self.size)
        products = F.interpolate((read @ target.flatten(2)).unflatten(2, target.shape[-2:]), frame, mode="bilinear")
        squares = sum(F.interpolate(some, frame, mode="bilinear").square().sum(1) for some in target.split(CHANNELS, 1))
        best = (products / torch.as_tensor(squares).sqrt()[:, None].clamp(min=1e-6)).flatten(2).argmax(2)
        return torch.stack((best % self.size, best // self.size), -1) + 0.5

    def loss(self, output: Described, batch: Batch) -> Tensor:
        """The four losses of the transport plans, each the mean over its entries in the whole batch."""
        found: list[list[Tensor]] = [[], [], [], []]
        grid = self.cells or output.source.shape[-1]
        source, target = (
            maps if maps.shape[-1] == grid else F.interpolate(maps, (grid, grid), mode="bilinear") for maps in output
        )
        for pair in range(len(source)):
            wanted, masks = self.supervision(batch, pair, grid)
            masses = [mass(mask, 1.0) for mask in masks]  # a batch has no points that one image alone shows
            plan = transport(source[pair], target[pair], *masses)
            for losses, entries in zip(found, entry_losses(plan, wanted)):
                losses.append(entries)
        means = [torch.cat(losses).sum() / max(sum(map(len, losses)), 1) for losses in found]
        return sum(weight * mean for weight, mean in zip(WEIGHTS, means)) + 0 * output.source.sum()

    def supervision(self, batch: Batch, pair: int, grid: int) -> tuple[Supervision, list[Tensor]]:
        """The entries of a pair's plan that are known, and the objects' cells; boxes stand for masks."""
        valid = batch["valid"][pair]
        cells = []
        for side in ("source", "target"):
            columns, rows = (batch[f"{side}_points"][pair] * (grid / self.size)).long().clamp(0, grid - 1).unbind(-1)
            cells.append(rows * grid + columns)
        partners = batch.get("partners", torch.full_like(batch["valid"], -1, dtype=torch.int64))[pair]
        known = valid & (partners >= 0) & (partners != torch.arange(len(valid), device=valid.device))
        opposite = torch.stack((cells[0], cells[1][partners.clamp(min=0)]), 1)[known]
        masks = [box_cells(batch[f"{side}_bbox"][pair], grid, self.size) for side in ("source", "target")]
        pairs = torch.stack(cells, 1)[valid].unique(dim=0)
        none = pairs.new_zeros(0, 2)
        return Supervision(pairs, none, opposite.unique(dim=0), object_and_background(*masks)), masks


def box_cells(box: Tensor, grid: int, side: int) -> Tensor:
    """Cells (grid * grid,) bool whose centres lie in a box (4,) of a frame; all of them where it is not known."""
    if box.isnan().any():
        return torch.ones(grid * grid, dtype=torch.bool, device=box.device)
    centres = (torch.arange(grid, device=box.device) + 0.5) * (side / grid)
    inside = [(centres >= box[axis]) & (centres <= box[axis + 2]) for axis in (0, 1)]
    return (inside[1][:, None] & inside[0]).flatten()


def object_and_background(source: Tensor, target: Tensor) -> Tensor:
    """Entries (n, 2) of an object's cell in one image and a cell of the background in the other."""
    return torch.cat(((source[:, None] & ~target).nonzero(), (~source[:, None] & target).nonzero()))


def mass(mask: Tensor, visible: float) -> Tensor:
    """Mass (N + 1,) of the cells of an image and of the bin; ``visible`` is the share of its points that are seen."""
    inside, outside = mask.sum(), (~mask).sum()
    of_object = mask * (OBJECT * visible / inside.clamp(min=1))
    cells = of_object + ~mask * ((1 - OBJECT) / outside.clamp(min=1))
    return torch.cat((cells, (1 - cells.sum())[None].clamp(min=1e-8)))


def transport(source: Tensor, target: Tensor, source_mass: Tensor, target_mass: Tensor) -> Tensor:
    """Plan (N + 1, M + 1) of unbalanced entropic transport between the cells of two maps (C, h, w) and a bin."""
    cosines = F.normalize(source.flatten(1), dim=0).mT @ F.normalize(target.flatten(1), dim=0)
    scores = F.pad(cosines, (0, 1, 0, 1), value=BIN) / REGULARISATION
    share = DIVERGENCE / (DIVERGENCE + REGULARISATION)
    rows, columns = torch.zeros_like(scores[:, 0]), torch.zeros_like(scores[0])
    logs = [each.to(scores).log() for each in (source_mass, target_mass)]
    for _ in range(ITERATIONS):
        rows = share * (logs[0] - (scores + columns).logsumexp(1))
        columns = share * (logs[1] - (scores + rows[:, None]).logsumexp(0))
    plan = (scores + rows[:, None] + columns).exp()
    corner = torch.ones_like(plan)
    corner[-1, -1] = 0
    return plan * corner


def entry_losses(plan: Tensor, wanted: Supervision) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Of each known entry of a plan its loss, kind by kind."""
    read = [plan[each[:, 0], each[:, 1]] for each in wanted]
    near = [-each.log() / len(plan) for each in read[:2]]
    far = [-torch.log1p(-each) for each in read[2:]]
    return near[0], near[1], far[0], far[1]


def attending_blocks(backbone: Backbone) -> list[Any]:
    """The transformer blocks whose queries, keys and values are one linear layer; none in other networks."""
    blocks = list(getattr(backbone.net, "blocks", ()))
    fit = all(isinstance(getattr(getattr(block, "attn", None), "qkv", None), nn.Linear) for block in blocks)
    return blocks if fit else []


def pointwise_convolutions(backbone: Backbone, stages: int) -> list[tuple[nn.Module, str]]:
    """The 1 x 1 convolutions of a CNN's last stages, each as the module that holds it and its name there."""
    return [
        (part, name)
        for stage in last_blocks(backbone.net, stages)
        for part in stage.modules()
        for name, child in part.named_children()
        if isinstance(child, nn.Conv2d) and child.kernel_size == (1, 1) and child.groups == 1
    ]


class LowRank(nn.Module):
    """A linear map of low rank; it begins as zero."""

    def __init__(self, width: int, rank: int, out: int | None = None) -> None:
        super().__init__()
        self.a, self.b = nn.Linear(width, rank, bias=False), nn.Linear(rank, out or width, bias=False)
        nn.init.kaiming_uniform_(self.a.weight, a=math.sqrt(5))
        nn.init.zeros_(self.b.weight)

    def forward(self, x: Tensor) -> Tensor:
        """(..., width) -> (..., out)."""
        return self.b(self.a(x))


class UpdatedProjection(nn.Module):
    """Queries, keys and values, of which queries and values have an update."""

    def __init__(self, qkv: nn.Linear, of_query: LowRank, of_value: LowRank) -> None:
        super().__init__()
        self.qkv = qkv
        self._updates = [of_query, of_value]  # in a list: their weights are the model's, not the backbone's

    def forward(self, x: Tensor) -> Tensor:
        """(..., C) -> (..., 3 C)."""
        query, key, value = self.qkv(x).chunk(3, -1)
        return torch.cat((query + self._updates[0](x), key, value + self._updates[1](x)), -1)


class UpdatedConvolution(nn.Module):
    """A 1 x 1 convolution that has an update."""

    def __init__(self, convolution: nn.Conv2d, update: LowRank) -> None:
        super().__init__()
        self.convolution = convolution
        self._update = [update]  # in a list: its weights are the model's, not the backbone's

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, h, w) -> (B, out, h, w), with the convolution's stride."""
        update, stride = self._update[0], self.convolution.stride
        inner = F.conv2d(x, update.a.weight[:, :, None, None], stride=stride)
        return self.convolution(x) + F.conv2d(inner, update.b.weight[:, :, None, None])


# Recipes of GECO.

PAPER = Recipe(
    model={"backbone": PUBLISHED_BACKBONE, "size": 518},
    lr=1e-4,
    backbone_lr=0.0,
    batch=6,
    epochs=8,
)


@recipe("geco")
def any_data() -> Recipe:
    """``scbench run geco --finetune spair-71k --eval spair-71k``: 368,640 weights beside DINOv2-B/14 are trained.

    The authors train on 800 pairs a category of AP-10K, SPair-71k and PF-PASCAL together, with SAM's masks, where a
    batch here has boxes; points that one image alone shows train their bin, and no batch here has such. Published,
    SPair-71k, PCK@.01/.05/.10: 14.2 / 59.6 / 73.6, by thresholds that are in part those of the image's size.
    """
    return PAPER


LAPTOP = replace(
    PAPER,
    model={"backbone": LAPTOP_BACKBONE, "layers": [5, 7], "size": 256, "rank": 64},
    batch=8,
    epochs=4,
)


@recipe("geco", preset="small")
def small() -> Recipe:
    """An update behind EfficientNet-Lite0's features at 256 px: ``--preset small --finetune NAME``."""
    return LAPTOP


@recipe("geco", preset="tiny")
def tiny() -> Recipe:
    """Updates within the last three stages at 160 px: ``scbench run geco --preset tiny --finetune toy --eval toy``."""
    return replace(LAPTOP, model={**LAPTOP.model, "size": 160, "rank": 16, "stages": 3, "cells": 20}, lr=2e-3, epochs=2)


# The files that GECO's authors save: the factors alone, queries and values alternating.

NETWORKS = {384: "small", 768: "base", 1024: "large", 1536: "giant"}


def from_published(state: State) -> State:
    """The authors' state under our keys."""
    return {key_of(key): value for key, value in state.items()}


def key_of(key: str) -> str:
    """The published key -> key.

    >>> key_of("w_a_003"), key_of("w_b_000"), key_of("model.blocks.1.attn.qkv.linear_a_v.weight")
    ('lora.1_v.a.weight', 'lora.0_q.b.weight', 'lora.1_v.a.weight')
    """
    if key.startswith("w_"):
        _, factor, number = key.split("_")
        return f"lora.{int(number) // 2}_{'qv'[int(number) % 2]}.{factor}.weight"
    if ".attn.qkv.linear_" in key:
        _, _, block, *_, last, _ = key.split(".")
        _, factor, role = last.split("_")
        return f"lora.{block}_{role}.{factor}.weight"
    return key


def arguments_of(state: Mapping[str, Tensor]) -> dict[str, Any]:
    """Arguments of ``GECO`` for these weights.

    Raises:
        InputError: not weights of GECO.
    """
    first = state.get("lora.0_q.a.weight")
    if first is None or first.ndim != 2 or first.shape[1] not in NETWORKS:
        raise InputError("are no weights of GECO: there are no updates of a DINOv2")
    return {"backbone": f"vit_{NETWORKS[first.shape[1]]}_patch14_dinov2.lvd142m", "size": 518, "rank": first.shape[0]}


GECO.published = PublishedWeights(
    about="The files that GECO's authors save: the low-rank factors; DINOv2's weights are timm's.",
    marker=("w_a_", "w_b_"),
    convert=from_published,
    arguments=arguments_of,
    backbone=False,
)
