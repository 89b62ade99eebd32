"""DHPF: Learning to Compose Hypercolumns for Visual Correspondence (Min et al., ECCV 2020).

For every pair small gates choose which layers of a frozen backbone to use. What is chosen, reduced in channels,
is correlated on a fine grid; Hough voting favours matches of consistent offset; keypoints follow the best matches."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any, Literal, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from baselines.matcher import Batch, Features, Matcher
from baselines.protocol import PublishedProtocol
from baselines.recipe import ANY, Recipe, recipe
from baselines.registry import register
from baselines.weights import PublishedWeights
from sc_imagenet.backbones.backbone import Backbone, build_backbone
from sc_imagenet.core.errors import InputError
from sc_imagenet.data.tensor_files import State
from sc_imagenet.geometry.correlation import SMALLEST
from sc_imagenet.geometry.flow import cell_corners, covering, mean_shift, nearest_cell
from sc_imagenet.geometry.hough import HoughSpace, difference_scores, differences_at, pixel_space, rows_of_differences
from sc_imagenet.geometry.upsampled import inner_products, inner_products_of, square_norms

HIDDEN = 32  # channels of a gate
REDUCTION = 8  # a layer keeps this part of its channels
NOISE = 1e-10  # keeps the logarithms of the Gumbel noise finite
DAMPING = 0.001  # added to the product of two norms
ZERO_NORM = 1e-4  # stands for a squared norm of exactly zero
REACH = 5 / 4  # half side of a cell's receptive box in strides: 5 pixels at stride 4
EASY = 0.1  # a keypoint that is predicted within this part of the threshold counts less


class Hyperimages(NamedTuple):
    """A batch of pairs, seen through the layers that the gates chose.

    gates       (B, L): 1 where a layer is chosen for a pair, else 0; gradients are those of its probability
    used        (B, L) bool: the chosen layers, or the first where a pair chooses none
    source      reduced maps (B, C, h, w) of the layers that any pair uses, by number
    target      likewise
    appearance  (B, N, N), rows are source cells; no gradient flows through it
    hough       (B, 2h - 1, 2w - 1), the score of each difference between cells; no gradient either
    """

    gates: Tensor
    used: Tensor
    source: dict[int, Tensor]
    target: dict[int, Tensor]
    appearance: Tensor
    hough: Tensor


@register(
    "dhpf",
    title="DHPF",
    paper="Min et al., ECCV 2020",
    licence="that of the LICENSE file in the authors' repository, not read here",
    supervision="keypoints",
    backbone="resnet101.tv_in1k",
    trained_on=("spair-71k", "pf-pascal"),
    protocol=PublishedProtocol(240, "forward"),
    step_seconds={ANY: 0.4184},
)
class DHPF(Matcher):
    """DHPF trained with keypoints, on any backbone; the defaults are the published model.

    Args:
        backbone: timm's name.
        layers: candidate layers (see ``sc_imagenet/backbones/backbone.py``); None: all that are not finer than
            the grid, 34 of a ResNet-101, 17 of a ResNet-50.
        size: side S of the input; the next that the backbone's cells fill is taken.
        stride: pixels between cells of the grid on which layers are compared.
        rate: share of the pairs for which each layer should be chosen.
        threshold: what "easy" is measured against: the larger side of the target's object box ("bbox"), or S
            ("img", also used where there is no box).
        pretrained: the backbone's weights: True, False, or a file (see ``sc_imagenet/backbones/pretrained.py``).

    Raises:
        InputError: a backbone that cannot be had.
    """

    direction = "forward"
    training_arguments = ("rate", "threshold")
    match_weights = ("reductions.", "gates.")
    trains_on_features = True
    backbone: Backbone

    def __init__(
        self,
        backbone: str = "resnet101.tv_in1k",
        layers: Sequence[int] | None = None,
        size: int = 240,
        stride: int = 4,
        rate: float = 0.5,
        threshold: Literal["bbox", "img"] = "bbox",
        pretrained: bool | str = True,
    ) -> None:
        super().__init__()
        self.stride = stride
        self.rate = rate
        self.threshold = threshold
        self.backbone = build_backbone(
            backbone, "all" if layers is None else layers, size, pretrained, overhang=True
        ).requires_grad_(False)
        self.size, self.mean, self.std = self.backbone.size, self.backbone.mean, self.backbone.std
        side = -(-self.size // stride)
        self.grid = (side, side)
        read = zip(self.backbone.channels, self.backbone.strides)
        self.candidates = [place for place, (_, step) in enumerate(read) if layers is not None or step >= stride]
        channels = [self.backbone.channels[place] for place in self.candidates]
        self.reductions = nn.ModuleList(Reduction(count) for count in channels)
        self.gates = nn.ModuleList(
            nn.Sequential(
                nn.Conv2d(count, HIDDEN, 1, bias=False),
                PairNorm(HIDDEN),
                nn.ReLU(),
                nn.Conv2d(HIDDEN, 2, 1, bias=False),
            )
            for count in channels
        )

    def train(self, mode: bool = True) -> DHPF:
        """The frozen backbone always runs on its stored statistics."""
        super().train(mode)
        self.backbone.eval()
        return self

    @torch.no_grad()
    def encode(self, images: Tensor) -> list[Tensor]:
        """Images (B, 3, S, S) -> features (B, C, h, w) at all candidate layers."""
        maps = self.backbone(images)
        return [maps[place] for place in self.candidates]

    def match(self, source: Features, target: Features) -> Hyperimages:
        """Features -> the chosen layers of each pair, their appearance similarity and Hough scores."""
        return self.compose([torch.cat(pair) for pair in zip(source, target)])

    def compose(self, maps: list[Tensor]) -> Hyperimages:
        """The same from maps (2B, C, h, w) of all candidate layers: those of the sources, then of the targets."""
        gates = self.choose(maps)
        used = gates.detach().bool()
        used[~used.any(1), 0] = True  # a pair that chooses no layer gets the first
        source_maps, target_maps = self.reduce(maps, used)
        empty = gates.new_empty(len(gates), self.cells, self.cells)
        output = Hyperimages(gates, used, source_maps, target_maps, empty, empty)
        with torch.no_grad():
            for pair, appearance in enumerate(output.appearance):
                parts = self.appearance(output, pair)
                for rows, similarities in zip(appearance.split(self.cells_at_once(appearance)), parts):
                    rows.copy_(similarities)
            return output._replace(hough=difference_scores(output.appearance, self.hough_space))

    @property
    def cells(self) -> int:
        """Cells of the grid, N."""
        return self.grid[0] * self.grid[1]

    @property
    def hough_space(self) -> HoughSpace:
        """Bins of the offsets between cells of the grid."""
        frame = (self.size, self.size)
        return pixel_space(self.grid, self.grid, self.stride, frame, frame)

    def choose(self, maps: list[Tensor]) -> Tensor:
        """Gates (B, L) from what the maps of both images hold on average.

        While training, Gumbel noise makes the choice random; the gradient is that of the softmax.
        """
        pooled = [features.mean((2, 3), keepdim=True).unflatten(0, (2, -1)).sum(0) for features in maps]
        logits = torch.stack([gate(features).flatten(1) for gate, features in zip(self.gates, pooled)], 1)
        if self.training:
            logits = logits + self.noise(logits)
        probability = logits.softmax(-1)[..., 1]
        hard = (logits.argmax(-1) == 1).to(probability)
        return hard + (probability - probability.detach())

    def noise(self, logits: Tensor) -> Tensor:
        """Gumbel noise for the gates' logits (B, L, 2)."""
        return gumbel(torch.rand_like(logits))

    def reduce(self, maps: list[Tensor], used: Tensor) -> tuple[dict[int, Tensor], dict[int, Tensor]]:
        """Maps (B, C, h, w) of the used layers with an eighth of their channels, of sources and of targets.

        While training every layer is reduced, so that its batch statistics are kept up; the first one twice, as
        the published code does for pairs that choose none.
        """
        layers = range(len(maps)) if self.training else used.any(0).nonzero().flatten().tolist()
        source, target = {}, {}
        for layer in layers:
            source[layer], target[layer] = self.reductions[layer](maps[layer])
        if self.training:
            with torch.no_grad():
                self.reductions[0](maps[0])
        return source, target

    def hyperimages(self, output: Hyperimages, pair: int) -> tuple[list[Tensor], list[Tensor]]:
        """Maps (C, h, w) of one pair's layers, those of one size together, for both images."""
        sizes: dict[tuple[int, ...], list[int]] = {}
        for layer in output.used[pair].nonzero().flatten().tolist():
            sizes.setdefault(tuple(output.source[layer].shape[2:]), []).append(layer)
        gates = torch.where(output.used[pair] & (output.gates[pair] == 0), 1, output.gates[pair])
        source, target = (
            [torch.cat([maps[layer][pair] * gates[layer] for layer in layers]) for layers in sizes.values()]
            for maps in (output.source, output.target)
        )
        return source, target

    def cells_at_once(self, like: Tensor) -> int:
        """Source cells that ``appearance`` takes at a time: a row, for a processor's cache, or on a GPU all."""
        return self.grid[1] if like.device.type == "cpu" else self.cells

    def appearance(self, output: Hyperimages, pair: int) -> Iterator[Tensor]:
        """Appearance similarity of one pair, (``cells_at_once``, N) for some cells of the source after the other."""
        if self.cells_at_once(output.gates) == self.cells:
            yield self.appearance_of(output, pair, torch.arange(self.cells, device=output.gates.device))
            return
        source, target = self.hyperimages(output, pair)
        source_norms, target_norms = (self.norms(maps) for maps in (source, target))
        for row, products in zip(
            source_norms.split(self.grid[1]), inner_products(source, target, self.grid, self.grid)
        ):
            yield similarity(products, row, target_norms)

    def appearance_of(self, output: Hyperimages, pair: int, cells: Tensor) -> Tensor:
        """Appearance similarity (K, N) of some source cells of one pair."""
        source, target = self.hyperimages(output, pair)
        products = inner_products_of(source, target, cells, self.grid, self.grid)
        return similarity(products, self.norms(source)[cells], self.norms(target))

    def norms(self, maps: list[Tensor]) -> Tensor:
        """L2 norm of every hyperpixel (N,). It is never zero, where its gradient would be infinite."""
        squares = square_norms(maps, self.grid)
        return (squares + ZERO_NORM * (squares == 0)).sqrt()

    def confidence(self, output: Hyperimages, pair: int, cells: Tensor, appearance: Tensor) -> Tensor:
        """Appearance (K, N) times Hough scores of some source cells of one pair."""
        return appearance * differences_at(output.hough[pair, None], cells, self.grid, self.grid)[0]

    def loss(self, output: Hyperimages, batch: Batch) -> Tensor:
        """Cross-entropy of the keypoints' rows of the match, and of how many layers are chosen."""
        valid = batch["valid"]
        predicted = self.transfer(output, batch["source_points"].where(valid[..., None], 0))
        distance = (predicted - batch["target_points"]).norm(dim=-1) / self.tolerance(batch)[:, None]
        weight = torch.where(distance <= 1, distance**2, 1)
        total = output.gates.new_zeros(())
        for pair, there in enumerate(valid):
            if not there.any():
                continue
            cells, right = (
                nearest_cell(batch[f"{side}_points"][pair, there], self.stride, self.grid)
                for side in ("source", "target")
            )
            rows = self.confidence(output, pair, cells, self.appearance_of(output, pair, cells))
            spread = rows.std(1, keepdim=True).detach().clamp(min=SMALLEST)
            probability = ((rows - rows.mean(1, keepdim=True)) / spread).softmax(1).gather(1, right[:, None])
            total = total - ((probability[:, 0] + SMALLEST).log() * weight[pair, there]).mean()
        return total / len(valid) + self.selection_loss(output)

    def tolerance(self, batch: Batch) -> Tensor:
        """Distance (B,) in pixels within which a prediction is easy."""
        frame = torch.full_like(batch["target_bbox"][:, 0], self.size)
        if self.threshold == "img":
            return EASY * frame
        box = batch["target_bbox"].unflatten(1, (2, 2))
        side = (box[:, 1] - box[:, 0]).amax(1)
        return EASY * torch.where(side.isfinite(), side, frame)

    def selection_loss(self, output: Hyperimages) -> Tensor:
        """Squared difference between the share of pairs that choose a layer and the wanted one, over all layers.

        Weights of layers that no pair uses get a gradient of zero, so that their momentum goes on.
        """
        idle = [self.reductions[layer] for layer in (~output.used.any(0)).nonzero().flatten().tolist()]
        nothing = sum(weight.sum() * 0 for reduction in idle for weight in reduction.parameters())
        return (output.gates.mean(0) - self.rate).square().sum() + nothing

    @torch.no_grad()
    def transfer(self, output: Hyperimages, points: Tensor) -> Tensor:
        """Points (B, K, 2) of the source -> of the target: moved like the cells whose boxes hold them, on average."""
        columns = self.best_of_targets(output)
        centres = cell_corners(self.grid, self.stride, points.device)
        transferred = []
        for pair, own in enumerate(points):
            covers = covering(own.clamp(0, self.size), centres, REACH * self.stride)
            cells = covers.any(0).nonzero().flatten()
            best = self.best_matches(output, pair, cells, columns[pair])
            transferred.append(own + mean_shift(covers[:, cells], centres[best] - centres[cells]))
        return torch.stack(transferred)

    def best_of_targets(self, output: Hyperimages) -> Tensor:
        """The highest confidence of each target cell (B, N)."""
        highest = torch.zeros_like(output.appearance[:, 0])
        scores = rows_of_differences(output.hough, self.grid, self.grid)
        for appearance, row in zip(output.appearance.split(self.grid[1], 1), scores):
            confidence = appearance.unflatten(2, self.grid) * row
            highest = torch.maximum(highest, confidence.amax(1).flatten(1))
        return highest

    def best_matches(self, output: Hyperimages, pair: int, cells: Tensor, highest: Tensor) -> Tensor:
        """The target cell (K,) of each source cell after the mutual nearest-neighbour filter."""
        rows = self.confidence(output, pair, cells, output.appearance[pair, cells])
        over_target = rows.amax(1, keepdim=True).clamp(min=SMALLEST)
        return (rows * ((rows / over_target) * (rows / highest.clamp(min=SMALLEST)))).argmax(1)


class Reduction(nn.Sequential):
    """A layer of both images with an eighth of its channels; batch statistics are those of one image role each."""

    def __init__(self, channels: int) -> None:
        reduced = max(channels // REDUCTION, 1)
        super().__init__(nn.Conv2d(channels, reduced, 1, bias=False), nn.BatchNorm2d(reduced), nn.ReLU())

    def forward(self, input: Tensor) -> tuple[Tensor, Tensor]:
        """(2B, C, h, w), the sources first -> (B, C', h, w) of the sources and of the targets."""
        convolve, normalise, activate = self
        source, target = convolve(input).chunk(2)
        return activate(normalise(source)), activate(normalise(target))


class PairNorm(nn.BatchNorm2d):
    """Batch norm over the pairs of a batch; a single pair, which has no statistics, is given the stored ones."""

    def forward(self, input: Tensor) -> Tensor:
        """(B, C, 1, 1) -> same shape."""
        if len(input) > 1:
            return super().forward(input)
        return F.batch_norm(input, self.running_mean, self.running_var, self.weight, self.bias, eps=self.eps)


def gumbel(uniform: Tensor) -> Tensor:
    """Uniform draws in [0, 1) -> draws of the Gumbel distribution, any shape."""
    return -(NOISE - (uniform + NOISE).log()).log()


def similarity(products: Tensor, source: Tensor, target: Tensor) -> Tensor:
    """Appearance similarity (K, N) of hyperpixels from their inner products and norms (K,), (N,)."""
    return (products / (torch.outer(source, target) + DAMPING)).relu().square()


# Recipes of DHPF and of its weakly supervised variant (Min et al., ECCV 2020; the authors' code for the rest).
#
# The backbone is frozen in every one: only the reductions and the gates learn. Images are not augmented; PF-PASCAL's
# training pairs are there mirrored too. The best weights by validation are kept.

PAPER = Recipe(
    model={"backbone": "resnet101.tv_in1k", "size": 240, "stride": 4, "rate": 0.5, "threshold": "bbox"},
    optimiser="sgd",
    lr=0.03,
    backbone_lr=0.0,
    momentum=0.5,
    batch=8,
    epochs=5,
    points=40,
    validation="paper",
    backbone_batchnorm="eval",
)
WEAK = replace(PAPER, lr=0.1, batch=4, epochs=30)


@recipe("dhpf", "spair-71k")
def spair_71k() -> Recipe:
    """``scbench run dhpf --finetune spair-71k --eval spair-71k``: 6,668 steps an epoch.

    Paper, PCK@0.1/bbox: 37.3.
    """
    return PAPER


@recipe("dhpf", "pf-pascal")
def pf_pascal() -> Recipe:
    """``scbench run dhpf --finetune pf-pascal --eval pf-pascal --eval pf-willow``: 368 steps an epoch.

    Paper, PCK@0.1/img: 90.7. Whether a keypoint is easy is measured against the image's side.
    """
    return replace(PAPER, model={**PAPER.model, "threshold": "img"}, epochs=100)


@recipe("dhpf", "sc-imagenet")
def sc_imagenet() -> Recipe:
    """``scbench run dhpf --pretrain sc-imagenet --finetune spair-71k --eval spair-71k``: 99,327 steps an epoch.

    Pre-training as the authors of SC-ImageNet published it: 100 epochs, at most 400 points a pair, all else DHPF's own.
    """
    return replace(PAPER, epochs=100, points=400)


@recipe("dhpf")
def any_data() -> Recipe:
    """Data that the authors did not train on: the values for SPair-71k."""
    return replace(PAPER, validation="strict")


@recipe("dhpf-weak", "pf-pascal")
def weak_pf_pascal() -> Recipe:
    """``scbench run dhpf-weak --finetune pf-pascal --eval pf-pascal``: 735 steps an epoch.

    Paper, PCK@0.1/img: 82.1. Only the class of a pair is learnt from; choosing the best epoch needs keypoints.
    """
    return replace(WEAK, model={**PAPER.model, "threshold": "img"})


@recipe("dhpf-weak", "spair-71k")
def weak_spair_71k() -> Recipe:
    """``scbench run dhpf-weak --finetune spair-71k --eval spair-71k``: 13,335 steps an epoch.

    Paper, PCK@0.1/bbox: 27.7. The authors released weights but no values: these are those for PF-PASCAL.
    """
    return WEAK


@recipe("dhpf-weak")
def weak_any_data() -> Recipe:
    """Data that the authors did not train on: the values for PF-PASCAL."""
    return replace(WEAK, validation="strict")


# A laptop's recipes: the grid of the stage of stride 8, an optimiser that needs no search for the rate, and gates
# that are drawn open: of six layers none is to spare, and a gate that flips makes a short training jump.
LAPTOP = replace(
    PAPER,
    model={"backbone": "tf_efficientnet_lite0", "size": 240, "stride": 8, "rate": 1.0},
    optimiser="adamw",
    validation="strict",
    lr=3e-3,
    schedule="cosine",
    epochs=10,
    warmup=10,
    clip_gradient=1.0,
)


@recipe("dhpf", preset="small")
def small() -> Recipe:
    """DHPF on EfficientNet-Lite0 at 240 px, 30 x 30 cells: ``scbench run dhpf --preset small --finetune NAME``."""
    return LAPTOP


@recipe("dhpf", preset="tiny")
def tiny() -> Recipe:
    """DHPF on EfficientNet-Lite0 at 160 px, 20 x 20 cells."""
    return replace(LAPTOP, model={**LAPTOP.model, "size": 160}, epochs=2)


@recipe("dhpf-weak", preset="small")
def weak_small() -> Recipe:
    """As ``small``, without keypoints: ``scbench run dhpf-weak --preset small --finetune NAME``."""
    return replace(LAPTOP, batch=4)


@recipe("dhpf-weak", preset="tiny")
def weak_tiny() -> Recipe:
    """As ``tiny``, without keypoints."""
    return replace(tiny(), batch=4)


# The checkpoints that DHPF's authors published: the learner alone, for a ResNet-101 or a ResNet-50.

PREFIX = {"reduction_ffns.": "reductions.", "gumbel_ffns.": "gates."}
BACKBONES = {34: "resnet101.tv_in1k", 17: "resnet50.tv_in1k"}  # by candidate layers


def from_published(state: State) -> State:
    """The authors' state under our keys."""
    return {key_of(key): value for key, value in state.items()}


def key_of(key: str) -> str:
    """The published key -> key.

    >>> key_of("reduction_ffns.0.1.weight"), key_of("gumbel_ffns.33.3.weight")
    ('reductions.0.1.weight', 'gates.33.3.weight')
    """
    head, dot, rest = key.partition(".")
    return PREFIX.get(head + dot, head + dot) + rest


def arguments_of(state: Mapping[str, Tensor]) -> dict[str, Any]:
    """Arguments of ``DHPF`` for these weights.

    Raises:
        InputError: not weights of DHPF, or of a backbone that the authors did not publish.
    """
    layers = sum(key.startswith("gates.") and key.endswith(".3.weight") for key in state)
    if not layers:
        raise InputError("are no weights of DHPF: there is no gates.0.3.weight")
    if layers not in BACKBONES:
        raise InputError(
            f"holds DHPF with {layers} candidate layers; the published models have 34 (ResNet-101) or 17 (ResNet-50)",
            fix="A model of another backbone is loaded from the folder that save_pretrained wrote.",
        )
    return {"backbone": BACKBONES[layers]}


DHPF.published = PublishedWeights(
    about="The checkpoints that DHPF's authors published: the learner alone, for a ResNet-101 or a ResNet-50.",
    marker="reduction_ffns.",
    convert=from_published,
    arguments=arguments_of,
    backbone=False,
)
