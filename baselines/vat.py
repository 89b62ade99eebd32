"""VAT: Cost Aggregation with 4D Convolutional Swin Transformer (Hong et al., ECCV 2022), semantic correspondence.

Target and source are correlated at many layers of a backbone, stage by stage; 4-D convolutions make the volumes
of each stage one and small; transformers with 4-D windows refine them from the coarsest stage to the finest; the
mean over the source becomes a flow in a 2-D decoder that the target's features guide."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from baselines.layers.encoder4d import Encoder4d, Strides
from baselines.layers.window_attention import window_blocks
from baselines.matcher import Batch, Features, Matcher
from baselines.protocol import PublishedProtocol
from baselines.recipe import ANY, LAPTOP, LAPTOP_BACKBONE, Recipe, recipe
from baselines.registry import register
from baselines.weights import PublishedWeights
from sc_imagenet.backbones.backbone import Backbone, build_backbone
from sc_imagenet.core.errors import InputError
from sc_imagenet.data.tensor_files import State
from sc_imagenet.geometry.correlation import cosine
from sc_imagenet.geometry.flow import carry_points, end_point_error, mapping_to_flow
from sc_imagenet.geometry.grids import sparse_flow
from sc_imagenet.geometry.soft_argmax import soft_argmax

PUBLISHED_LAYERS = tuple(range(4, 34))  # every residual block of ResNet-101 from its second stage on
REACH = 17 / 16  # a keypoint supervises the cells this many strides around it (35 pixels at stride 16)
TEMPERATURE = 0.02  # of the soft-argmax that a residual flow begins at
WINDOW, WINDOW_2D = 4, 8  # sides of the windows in volumes and in the decoder


class Level(NamedTuple):
    """How the correlations of one stage of the backbone are encoded and refined."""

    stride: int  # of the features, pixels
    first: Strides  # of the encoder's first layer, target and source
    layers: int  # of the encoder
    depth: int  # blocks of the transformer


LEVELS = (Level(32, (2, 1), 2, 4), Level(16, (2, 2), 2, 2), Level(8, (2, 2), 3, 2))
MIDDLE = 1  # the level whose features lie on the flow's grid


@register(
    "vat",
    title="VAT",
    paper="Hong et al., ECCV 2022",
    licence="MIT",
    supervision="keypoints",
    backbone="resnet101.tv_in1k",
    trained_on=("spair-71k", "pf-pascal"),
    protocol=PublishedProtocol(512, "backward"),
    step_seconds={ANY: 0.7757},
)
class VAT(Matcher):
    """VAT with any backbone; the defaults are the published model.

    Args:
        backbone: timm's name.
        layers: layers to correlate at (see ``sc_imagenet/backbones/backbone.py``); None: ``PUBLISHED_LAYERS`` of a
            ResNet-101, of any other backbone the last layer of every stage from stride 8 on. A layer belongs to the
            level (stride 32, 16 or 8) of its stride; a level without any takes those of the nearest.
        size: side S of the input; the next that the backbone's cells fill is taken.
        width: channels of the volumes, a multiple of 16.
        residual: add what the decoder gives to where the raw correlations at stride 16 point, beginning with
            nothing added. The published model gives the whole flow itself and has to learn it from noise.
        pretrained: the backbone's weights: True, False, or a file (see ``sc_imagenet/backbones/pretrained.py``).

    Raises:
        InputError: a width that does not go, or a backbone that cannot be had.
    """

    direction = "backward"
    match_arguments = ("width", "residual")
    match_weights = ("encoders.", "transformers.", "guidance.", "decoders.", "narrow.", "head.")
    backbone: Backbone

    def __init__(
        self,
        backbone: str = "resnet101.tv_in1k",
        layers: Sequence[int] | None = None,
        size: int = 512,
        width: int = 128,
        residual: bool = False,
        pretrained: bool | str = True,
    ) -> None:
        super().__init__()
        if width % 16:
            raise InputError(f"VAT: a width of {width} channels", fix="Take a multiple of 16.")
        if layers is None and backbone.split(".")[0] == "resnet101":
            layers = PUBLISHED_LAYERS
        self.residual = residual
        least = LEVELS[-1].stride
        self.backbone = build_backbone(backbone, layers, size, pretrained, finest=least, overhang=True, remade=True)
        self.size, self.mean, self.std = self.backbone.size, self.backbone.mean, self.backbone.std
        self.members = members(self.backbone.strides)
        counts, deepest = [len(chosen) for chosen in self.members], [chosen[-1] for chosen in self.members]
        grids = [cells(self.size, 2 * level.stride) for level in LEVELS]
        self.feature_size = finest = grids[-1]
        source = cells(self.size, 64)
        self.encoders = nn.ModuleList(
            Encoder4d(count, [width >> n for n in reversed(range(level.layers))], level.first, groups(level.layers))
            for count, level in zip(counts, LEVELS)
        )
        self.transformers = nn.ModuleList(
            VolumeTransformer(width, (grid, grid, source, source), level.depth) for grid, level in zip(grids, LEVELS)
        )
        shares = [width // 2, width // 4, width // 8]  # of the guidance; each decoder narrows what came before
        self.guidance = nn.ModuleList(
            nn.Conv2d(self.backbone.channels[layer], share, 1) for layer, share in zip(deepest, shares)
        )
        widths = [width + shares[0], width, width // 2]
        self.decoders = nn.ModuleList(GuidedDecoder(count, finest) for count in widths)
        self.narrow = nn.ModuleList(
            nn.Conv2d(before, after - share, 1) for before, after, share in zip(widths, widths[1:], shares[1:])
        )
        last: Any = nn.Conv2d(width // 4, 2, 3, padding=1)
        self.head = nn.Sequential(nn.Conv2d(widths[-1], width // 4, 3, padding=1), nn.ReLU(), last)
        if residual:
            nn.init.zeros_(last.weight)
            nn.init.zeros_(last.bias)

    def encode(self, images: Tensor) -> list[Tensor]:
        """Images (B, 3, S, S) -> features (B, C, h, w) of every layer."""
        return self.backbone(images)

    def features(self, source: Tensor, target: Tensor) -> tuple[Features, Features]:
        """Features of both images at every layer: lists of (B, C, h, w)."""
        if self.backbone.training:  # two passes: batch statistics of one image role each, the target's first
            target_maps = self.encode(target)
            return self.encode(source), target_maps
        return super().features(source, target)

    def match(self, source: Features, target: Features) -> Tensor:
        """Features -> flow (B, 2, h, w) on the target's grid into the source, in cells."""
        source_levels, target_levels = self.levels(source), self.levels(target)
        refined = self.refine(self.volumes(source_levels, target_levels))
        mapping = self.decode(refined[-1], self.guide(target_levels))
        if self.residual:
            mapping = mapping + self.pointed_at(source_levels[MIDDLE], target_levels[MIDDLE])
        return mapping_to_flow(mapping)

    def levels(self, maps: Features) -> list[list[Tensor]]:
        """Features at every level, coarsest first: lists of maps (B, C, h, w)."""
        grids = [cells(self.size, level.stride) for level in LEVELS]
        return [[resized(maps[layer], grid) for layer in chosen] for chosen, grid in zip(self.members, grids)]

    def volumes(self, source: list[list[Tensor]], target: list[list[Tensor]]) -> list[Tensor]:
        """Features -> a volume (B, h, w, h', w', width) for each level, target's grid first (section 3.2)."""
        return [
            encoder(target_maps, source_maps)
            for encoder, target_maps, source_maps in zip(self.encoders, target, source)
        ]

    def refine(self, volumes: list[Tensor]) -> list[Tensor]:
        """The volumes refined, each with what the coarser level found (sections 3.3 and 3.4)."""
        refined: list[Tensor] = []
        for volume, transformer in zip(volumes, self.transformers):
            if refined:
                volume = volume + resized_target(refined[-1], volume.shape[1])
            refined.append(transformer(volume))
        return refined

    def guide(self, target: list[list[Tensor]]) -> list[Tensor]:
        """The target's appearance at each level, (B, share, h, w) on the flow's grid (section 3.5)."""
        projected = [F.relu(linear(level[-1])) for linear, level in zip(self.guidance, target)]
        return [resized(maps, self.feature_size) for maps in projected]

    def decode(self, volume: Tensor, guidance: list[Tensor]) -> Tensor:
        """The finest volume -> mapping (B, 2, h, w) from the target to the source (section 3.5)."""
        x = volume.mean((3, 4)).movedim(-1, 1)
        for number, (decoder, appearance) in enumerate(zip(self.decoders, guidance)):
            x = decoder(torch.cat((x, appearance), 1))
            if number < len(self.narrow):
                x = self.narrow[number](x)
        return self.head(x)

    def pointed_at(self, source: list[Tensor], target: list[Tensor]) -> Tensor:
        """Where the mean correlation of some layers points: mapping (B, 2, h, w) on the target's grid."""
        grid = self.feature_size
        scores = torch.stack([cosine(source_map, target_map) for source_map, target_map in zip(source, target)]).mean(0)
        places = torch.linspace(-1, 1, grid, device=scores.device)
        found = soft_argmax(scores.unflatten(1, (grid, grid)), places, places, TEMPERATURE)
        return found.unflatten(2, (grid, grid))

    def loss(self, output: Tensor, batch: Batch) -> Tensor:
        """End-point error of the flow in cells, averaged over the supervised cells of the whole batch."""
        return end_point_error(output, self.true_flow(batch))

    def true_flow(self, batch: Batch) -> Tensor:
        """The flow (B, 2, h, w) that keypoints give; 0 in cells that none covers."""
        stride = self.size / self.feature_size
        points = batch["source_points"], batch["target_points"]
        return sparse_flow(*points, batch["valid"], self.feature_size, stride, REACH * stride)[0]

    def transfer(self, output: Tensor, points: Tensor) -> Tensor:
        """Points (B, K, 2) of the target -> points of the source; whole pixels are transferred, as published."""
        return carry_points(output, points, self.size)


class VolumeTransformer(nn.Module):
    """Blocks with 4-D windows over a volume (section 3.3)."""

    def __init__(self, width: int, grid: tuple[int, int, int, int], depth: int) -> None:
        super().__init__()
        self.query_pos = nn.Parameter(torch.zeros(1, width // 2, *grid[:2], 1, 1))
        self.supp_pos = nn.Parameter(torch.zeros(1, width // 2, 1, 1, *grid[2:]))
        self.blocks = window_blocks(width, grid, WINDOW, depth)
        # In published checkpoints, but never used; it gets no gradient.
        self.norm = nn.LayerNorm(width).requires_grad_(False)
        for position in (self.query_pos, self.supp_pos):
            nn.init.trunc_normal_(position, std=0.02)

    def forward(self, volume: Tensor) -> Tensor:
        """(B, h, w, h', w', width) -> same shape.

        The published code adds the position in place, so that the volume beside the blocks has it, too.
        """
        grid = volume.shape[1:5]
        halves = [half.movedim(1, -1).expand(1, *grid, -1) for half in (self.query_pos, self.supp_pos)]
        volume = volume + torch.cat(halves, -1)
        return volume + self.blocks(volume)


class GuidedDecoder(nn.Module):
    """Two blocks with windows over the target's grid, normalised, beside the input (section 3.5)."""

    def __init__(self, width: int, grid: int) -> None:
        super().__init__()
        self.blocks = window_blocks(width, (grid, grid), WINDOW_2D, depth=2)
        self.norm = nn.LayerNorm(width)

    def forward(self, x: Tensor) -> Tensor:
        """(B, width, h, w) -> same shape."""
        return x + self.norm(self.blocks(x.movedim(1, -1))).movedim(-1, 1)


def members(strides: Sequence[int]) -> list[list[int]]:
    """Which layers each level correlates, by number, from the strides of all.

    >>> members([8, 8, 16, 32])
    [[3], [2], [0, 1]]
    >>> members([16])
    [[0], [0], [0]]
    """
    chosen = []
    for level in LEVELS:
        nearest = min(strides, key=lambda stride: (abs(stride - level.stride), stride))
        chosen.append([number for number, stride in enumerate(strides) if stride == nearest])
    return chosen


def groups(layers: int) -> list[int]:
    """Groups of each group norm of an encoder: 8 of the last, half as many of each before.

    >>> groups(3)
    [2, 4, 8]
    """
    return [8 >> n for n in reversed(range(layers))]


def cells(size: int, stride: int) -> int:
    """Cells along an image's side.

    >>> cells(512, 16), cells(160, 64)
    (32, 3)
    """
    return -(-size // stride)


def resized(maps: Tensor, grid: int) -> Tensor:
    """(B, C, h, w) -> (B, C, grid, grid), bilinear, corners aligned."""
    if maps.shape[-2:] == (grid, grid):
        return maps
    return F.interpolate(maps, (grid, grid), mode="bilinear", align_corners=True)


def resized_target(volume: Tensor, grid: int) -> Tensor:
    """The target's grid of (B, h, w, h', w', C) -> grid x grid, bilinear, corners aligned."""
    maps = volume.flatten(3).movedim(-1, 1)
    return resized(maps, grid).movedim(1, -1).unflatten(-1, volume.shape[3:])


# Recipes of VAT (Hong et al., ECCV 2022), semantic correspondence; what the paper leaves open is the authors' code.
#
# The authors train everything, the backbone at a hundredth of the rate, without weight decay, by the same settings on
# both data sets. Their schedule of 300 epochs is 2.0 M steps of SPair-71k: the released weights were surely taken
# earlier, by their validation score, as is done here.

PAPER = Recipe(
    model={"backbone": "resnet101.tv_in1k", "layers": list(PUBLISHED_LAYERS), "size": 512},
    optimiser="adamw",
    lr=3e-4,
    backbone_lr=3e-6,
    weight_decay=0.0,
    batch=8,
    epochs=300,
    milestones=(150, 200, 250),
    gamma=0.5,
    augmentation="cats",
    points=40,
    validation="paper",
    backbone_batchnorm="train",
)


@recipe("vat", "spair-71k")
def spair_71k() -> Recipe:
    """``scbench run vat --finetune spair-71k --eval spair-71k``: 6,668 steps an epoch.

    Authors' README, PCK@0.1/bbox: 54.2; the SC-ImageNet paper quotes 55.5.
    """
    return PAPER


@recipe("vat", "pf-pascal")
def pf_pascal() -> Recipe:
    """``scbench run vat --finetune pf-pascal --eval pf-pascal --eval pf-willow``: 368 steps an epoch.

    Paper, PCK@.05/.10/.15 (img): 78.2 / 92.3 / 96.2. The same weights on PF-WILLOW (bbox-padded, legacy):
    52.8 / 81.6 / 91.4.
    """
    return PAPER


@recipe("vat", "sc-imagenet")
def sc_imagenet() -> Recipe:
    """``scbench run vat --pretrain sc-imagenet --finetune spair-71k --eval spair-71k``: 99,327 steps an epoch.

    Pre-training. The SC-ImageNet paper says only that it "followed the vanilla implementation", so these are
    VAT's own values.
    """
    return PAPER


@recipe("vat")
def any_data() -> Recipe:
    """Data that the authors did not train on: their values."""
    return replace(PAPER, validation="strict")


LAPTOP = replace(
    LAPTOP,
    model={"backbone": LAPTOP_BACKBONE, "layers": [3, 4, 5, 6, 7], "size": 256, "width": 64, "residual": True},
)


@recipe("vat", preset="small")
def small() -> Recipe:
    """VAT on EfficientNet-Lite0 at 256 px, 16 x 16 cells: ``scbench run vat --preset small --finetune NAME``."""
    return LAPTOP


@recipe("vat", preset="tiny")
def tiny() -> Recipe:
    """VAT on EfficientNet-Lite0 at 128 px, 8 x 8 cells: ``scbench run vat --preset tiny --finetune toy``."""
    return replace(LAPTOP, model={**LAPTOP.model, "size": 128, "width": 32}, epochs=2, augmentation="none")


# The checkpoints that VAT's authors published for semantic correspondence: ResNet-101 at 512 px.

PUBLISHED_PREFIX = "hpn_learner.ours."
OWN = re.escape(PUBLISHED_PREFIX)
TABLES = (".relative_position_index", ".attn_mask")  # in the files, computed here

RENAMED = (
    (r"backbone\.", r"backbone.net."),
    (OWN + r"encoders\.(\d)\.conv4d\.(\d)\.0\.", r"encoders.\1.layers.\2."),
    (OWN + r"encoders\.(\d)\.conv4d\.(\d)\.1\.", r"encoders.\1.layers.\2.norm."),
    (OWN + r"transformer\.(\d)\.transformer\.(query|supp)_pos_embed", r"transformers.\1.\2_pos"),
    (OWN + r"transformer\.(\d)\.transformer\.(?:layer\.)?", r"transformers.\1."),
    (OWN + r"swin_decoder\.(\d)\.0\.transformer\.(?:layers\.0\.)?", r"decoders.\1."),
    (OWN + r"swin_decoder\.(\d)\.1\.", r"narrow.\1."),
    (OWN + r"decoder\.", r"head."),
    (OWN + r"proj_query_feat\.(\d)\.0\.", r"guidance.\1."),
)


def from_published(state: State) -> State:
    """The authors' state under our keys, without the tables of window offsets and masks.

    Raises:
        InputError: a table is not that of our windows, so that the weights would mean something else.
    """
    for key, value in state.items():
        tokens = WINDOW_2D**2 if ".swin_decoder." in key else WINDOW**4
        if key.endswith(TABLES) and tuple(value.shape[-2:]) != (tokens, tokens):
            raise InputError(f"{key} is {'x'.join(map(str, value.shape))}: windows of {tokens} tokens are known")
    return {key_of(key): value for key, value in state.items() if not key.endswith(TABLES)}


def key_of(key: str) -> str:
    """The published key -> key.

    >>> key_of("hpn_learner.ours.transformer.0.transformer.layer.blocks.3.attn.qkv.weight")
    'transformers.0.blocks.3.qkv.weight'
    >>> key_of("hpn_learner.ours.encoders.2.conv4d.1.0.supp_conv.bias"), key_of("backbone.conv1.weight")
    ('encoders.2.layers.1.supp_conv.bias', 'backbone.net.conv1.weight')
    """
    for published_part, part in RENAMED:
        key, found = re.subn(f"^{published_part}", part, key)
        if found:
            return key.replace(".attn.", ".").replace(".mlp.", ".")
    return key


def arguments_of(state: Mapping[str, Tensor]) -> dict[str, Any]:
    """Arguments of ``VAT`` for these weights.

    Raises:
        InputError: not weights of VAT, or of a backbone that the authors did not publish.
    """
    needed = ("transformers.2.query_pos", "transformers.2.blocks.0.qkv.weight", "backbone.net.layer3.22.bn3.weight")
    if missing := [key for key in needed if key not in state]:
        raise InputError(f"are no published weights of VAT: there is no {missing[0]}")
    return {
        "layers": list(PUBLISHED_LAYERS),
        "size": 16 * state[needed[0]].shape[2],
        "width": state[needed[1]].shape[1],
    }


VAT.published = PublishedWeights(
    about="The checkpoints that VAT's authors published for semantic correspondence: ResNet-101 at 512 px.",
    marker=PUBLISHED_PREFIX,
    convert=from_published,
    arguments=arguments_of,
)
