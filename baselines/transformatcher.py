"""TransforMatcher: Match-to-Match Attention for Semantic Correspondence (Kim et al., CVPR 2022).

Every possible match of a source cell with a target cell is a token: it begins as the correlations of the pair at
many layers and is refined by additive attention to all other matches. A soft-argmax reads where each source cell
goes; a keypoint follows the cells around it."""

from __future__ import annotations

import copy
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from baselines.matcher import Batch, Features, Matcher
from baselines.protocol import PublishedProtocol
from baselines.recipe import ANY, LAPTOP, LAPTOP_BACKBONE, Recipe, early_stages, recipe
from baselines.registry import register
from baselines.weights import PublishedWeights
from sc_imagenet.backbones.backbone import Backbone, build_backbone
from sc_imagenet.core.errors import InputError
from sc_imagenet.data.tensor_files import State
from sc_imagenet.geometry.correlation import inner_product, resize_source, resize_target
from sc_imagenet.geometry.grids import denormalise, normalise
from sc_imagenet.geometry.soft_argmax import soft_argmax

LAYERS = tuple(range(8, 34))  # every block of the last two stages of ResNet-101
WIDTH = 16  # channels of a token
HEADS, HEAD = 8, 4  # heads of the attention and the channels of each
HIDDEN = 64  # channels inside the feed-forward network
FREQUENCIES = (1.0, 5.0)  # of the rotary embedding, in half circles a token; adjacent channels are turned together
UPSAMPLING = 2  # cells read per cell correlated
SIGMA = 1 / 3  # of the Gaussian around a row's best match, in sides of the grid
REACH = 0.725  # cells that a keypoint follows lie nearer than this, in cells (published: 0.05 of half a frame)
REACH_IN_TRAINING = 1.45
SMALLEST = 1e-5  # added to squared distances and to sums of weights, as published


@register(
    "transformatcher",
    title="TransforMatcher",
    paper="Kim et al., CVPR 2022",
    licence="none: the authors' repository has no licence file",
    supervision="keypoints",
    backbone="resnet101.tv_in1k",
    trained_on=("spair-71k", "pf-pascal"),
    protocol=PublishedProtocol(240, "forward", padded="bbox-padded2"),
    step_seconds={ANY: 0.1683},
)
class TransforMatcher(Matcher):
    """TransforMatcher with any backbone; the defaults are the published model.

    Args:
        backbone: timm's name. There are two of it, one for each image: they start equal and are trained apart.
        layers: layers to correlate at (see ``sc_imagenet/backbones/backbone.py``); None: ``LAYERS`` of a
            ResNet-101, the coarse layers of any other backbone. A ResNet is read after its blocks' last ReLU.
        size: side S of the input; the next that the backbone's cells fill is taken. They are the grid, of side
            S / stride.
        depth: blocks of the transformer.
        sharpness: None starts with random weights, as published; a number with so many times the mean
            correlation of all layers, which the transformer leaves as it is until it is trained.
        pretrained: the backbone's weights: True, False, or a file (see ``sc_imagenet/backbones/pretrained.py``).

    Raises:
        InputError: a backbone that cannot be had.
    """

    direction = "forward"
    match_arguments = ("depth", "sharpness")
    match_weights = ("match2match.",)
    backbone: Branches

    def __init__(
        self,
        backbone: str = "resnet101.tv_in1k",
        layers: Sequence[int] | None = None,
        size: int = 240,
        depth: int = 6,
        sharpness: float | None = None,
        pretrained: bool | str = True,
    ) -> None:
        super().__init__()
        if layers is None and backbone.split(".")[0] == "resnet101":
            layers = LAYERS
        branch = build_backbone(backbone, layers, size, pretrained, activated=True, overhang=True)
        self.size, self.mean, self.std = branch.size, branch.mean, branch.std
        self.grid = self.size // min(branch.strides)
        self.backbone = Branches(branch)
        self.match2match = MatchToMatch(self.grid, len(branch.channels), depth)
        if sharpness is not None:
            self.match2match.start_at_correlations(sharpness)

    def encode(self, images: Tensor) -> list[Tensor]:
        """Source images (B, 3, S, S) -> features (B, C, h, w) of every layer."""
        return self.backbone.source(images)

    def encode_target(self, images: Tensor) -> list[Tensor]:
        """The same of target images, by their own backbone."""
        return self.backbone.target(images)

    def match(self, source: Features, target: Features) -> Tensor:
        """Features -> refined scores of all matches (B, N_source, N_target)."""
        return self.match2match(self.correlate(source, target))

    def correlate(self, source: Features, target: Features) -> Tensor:
        """Cosines of all matches at every layer, negative ones cut (section 3.1): (B, L, N_source, N_target)."""
        volumes = [self._to_grid(*pair) for pair in zip(source, target)]
        return torch.stack(volumes, 1).relu_()

    def _to_grid(self, source: Tensor, target: Tensor) -> Tensor:
        # Published: unit features, resized, multiplied. Lengths and resizing are linear: they are left for the
        # volume, which is smaller than the features.
        lengths = [
            torch.linalg.vector_norm(features.flatten(2), dim=1).clamp(min=1e-12) for features in (source, target)
        ]
        volume = inner_product(source, target) / lengths[0][:, :, None] / lengths[1][:, None]
        wanted = (self.grid, self.grid)
        volume = resize_source(volume, (source.shape[2], source.shape[3]), wanted)
        return resize_target(volume, (target.shape[2], target.shape[3]), wanted)

    def loss(self, output: Tensor, batch: Batch) -> Tensor:
        """Squared distance of transferred and true keypoints, half a frame being 1: mean over points, then pairs.

        A pair without points counts with 0.
        """
        valid = batch["valid"][..., None]
        source, target = (
            normalise(torch.where(valid, batch[f"{side}_points"], 0), self.size) for side in ("source", "target")
        )
        error = (self.transfer_normalised(output, source, REACH_IN_TRAINING) - target).square() * valid
        return (error.sum((1, 2)) / valid.sum((1, 2)).clamp(min=1)).mean()

    def transfer(self, output: Tensor, points: Tensor) -> Tensor:
        """Points (B, K, 2) of the source -> points of the target."""
        return denormalise(self.transfer_normalised(output, normalise(points, self.size), REACH), self.size)

    def transfer_normalised(self, output: Tensor, points: Tensor, reach: float) -> Tensor:
        """Transfer ``points`` (B, K, 2), the frame being [-1, 1] (section 3.4).

        A point goes to the weighted mean of where the cells around it go, those of the up-sampled grid at less
        than ``reach`` cells; weights fall linearly to 0. Where other cells go is not computed.
        """
        if points.shape[1] == 0:
            return points + 0 * output.sum()  # nothing is transferred, but a loss of nothing has its gradient too
        side = UPSAMPLING * self.grid
        spacing = 2 / (side - 1)
        around = int(2 * reach) + 1  # at most so many cells along an axis are near enough
        first = ((points + 1) / spacing - reach).ceil().clamp(0, side - around)
        near = (first[..., None] + torch.arange(around, device=points.device)) * spacing - 1  # (B, K, 2, around)
        cells = torch.stack(torch.broadcast_tensors(near[:, :, 0, None, :], near[:, :, 1, :, None]), -1).flatten(2, 3)
        distance = ((cells - points[:, :, None]).square().sum(-1) + SMALLEST).sqrt()
        weights = (reach * spacing - distance).relu()
        weights = weights / (weights.sum(-1, keepdim=True) + SMALLEST)  # (B, K, around^2)
        arrived = self.where_cells_go(output, cells.flatten(1, 2)).unflatten(1, cells.shape[1:3])
        return (weights[..., None] * arrived).sum(2)

    def where_cells_go(self, output: Tensor, cells: Tensor) -> Tensor:
        """Where cells (B, R, 2) of the source's up-sampled grid go, same shape; both frames are [-1, 1].

        The scores of a cell are weakened away from their best by a Gaussian; the expectation under their softmax
        is taken.
        """
        grid, side = self.grid, UPSAMPLING * self.grid
        by_source_cell = output.transpose(1, 2).unflatten(2, (grid, grid))
        rows = F.grid_sample(by_source_cell, cells[:, :, None].to(output.dtype), align_corners=True)
        rows = rows.squeeze(-1).transpose(1, 2).unflatten(2, (grid, grid))  # (B, R, h, w)
        scores = F.interpolate(rows, (side, side), mode="bilinear", align_corners=True)
        best = scores.flatten(2).argmax(-1, keepdim=True)
        along = torch.arange(side, device=output.device)
        x, y = (torch.exp(-0.5 * ((along - at) / (SIGMA * side)).square()) for at in (best % side, best // side))
        weakened = scores * y[..., :, None] * x[..., None, :]
        positions = torch.linspace(-1, 1, side, device=output.device)
        return soft_argmax(weakened.permute(0, 2, 3, 1), positions, positions, 1.0).transpose(1, 2)


class Branches(nn.Module):
    """Two backbones that start equal: one sees the source, the other the target."""

    source: Backbone
    target: Backbone

    def __init__(self, branch: Backbone) -> None:
        super().__init__()
        self.name = branch.name
        self.source = branch
        self.target = copy.deepcopy(branch)
        if "fc" in dict(self.target.net.named_children()):  # published checkpoints have one classifier
            self.target.net.fc = nn.Identity()


class MatchToMatch(nn.Module):
    """The transformer over all matches (section 3.2): (B, L, N_source, N_target) -> (B, N_source, N_target)."""

    turns: Tensor

    def __init__(self, grid: int, levels: int, depth: int) -> None:
        super().__init__()
        # In published checkpoints, but never used; it gets no gradient.
        self.posenc = nn.Parameter(torch.randn(*4 * (grid,), WIDTH), requires_grad=False)
        self.embed = nn.Linear(levels, WIDTH)
        self.blocks = nn.ModuleList(Block() for _ in range(depth))
        self.readout = nn.Linear(WIDTH, 1)
        self.register_buffer("turns", rotary_turns(grid**4), persistent=False)

    def forward(self, correlation: Tensor) -> Tensor:
        """(B, L, N_source, N_target) -> (B, N_source, N_target)."""
        tokens = self.embed(correlation.flatten(2).transpose(1, 2))
        for block in self.blocks:
            tokens = block(tokens, self.turns)
        return self.readout(tokens).squeeze(-1).unflatten(1, correlation.shape[2:])

    @torch.no_grad()
    def start_at_correlations(self, sharpness: float) -> None:
        """Set the weights such that the output is ``sharpness`` times the mean of all layers."""
        self.embed.weight[0], self.embed.bias[0] = 1 / self.embed.in_features, 0.0
        self.readout.weight.zero_()
        self.readout.weight[0, 0] = sharpness
        for name, parameter in self.blocks.named_parameters():
            if ".attention.proj." in name or ".mlp.2." in name:
                parameter.zero_()


def rotary_turns(count: int) -> Tensor:
    """Cosines, then sines, of tokens 0, 1, ... at both frequencies: (4, count).

    The angles are multiples of pi: up to rounding an embedding is turned by half circles, back and forth. The
    published model was trained with the rounding of angles in float32, so it is kept.

    >>> rotary_turns(2).round(decimals=4).tolist()
    [[1.0, -1.0], [1.0, -1.0], [0.0, -0.0], [0.0, -0.0]]
    """
    angles = math.pi * torch.tensor(FREQUENCIES)[:, None] * torch.arange(count, dtype=torch.float32)
    return torch.cat((angles.cos(), angles.sin()))


class Block(nn.Module):
    """Additive attention and a feed-forward network, each added to what it was given."""

    def __init__(self) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(WIDTH), nn.LayerNorm(WIDTH)
        self.attention = AdditiveAttention()
        self.mlp = nn.Sequential(nn.Linear(WIDTH, HIDDEN), nn.GELU(), nn.Linear(HIDDEN, WIDTH))

    def forward(self, tokens: Tensor, turns: Tensor) -> Tensor:
        """Tokens (B, T, 16), turns (4, T) -> same shape as the tokens."""
        tokens = tokens + self.attention(self.norm1(tokens), turns)
        return tokens + self.mlp(self.norm2(tokens))


class AdditiveAttention(nn.Module):
    """Additive attention with rotary embedding (section 3.3; Wu et al., Fastformer, 2021), per head:

        global query  sum over tokens of softmax(q . w_q) * rotated q
        global key    sum over tokens of softmax((k * global query), pairs of channels added, . w_k) * rotated k
        output        linear of (v * global key, pairs of channels added), plus q; all heads are projected

    q, k and v are linear in the tokens and so is all that follows but the softmaxes. So matrices are multiplied
    before tokens are: queries, keys and values themselves are never computed, only the weighted sums of turned
    tokens, and from these one 16 x 16 matrix a pair that all tokens are multiplied with.
    """

    def __init__(self) -> None:
        super().__init__()
        self.qkv = nn.Linear(WIDTH, 3 * HEADS * HEAD, bias=False)
        self.query_score = nn.Linear(HEAD, 1, bias=False)
        self.key_score = nn.Linear(HEAD // 2, 1, bias=False)
        self.mix = nn.Linear(HEAD // 2, HEAD)
        self.proj = nn.Linear(HEADS * HEAD, WIDTH)

    def forward(self, tokens: Tensor, turns: Tensor) -> Tensor:
        """Tokens (B, T, 16), turns (4, T) -> (B, T, 16)."""
        query, key, value = self.qkv.weight.view(3, HEADS, HEAD, WIDTH)
        scale = HEAD**-0.5
        score = torch.einsum("d,hdc->hc", self.query_score.weight[0] * scale, query)
        global_query = self.gather(tokens, turns, score.expand(len(tokens), -1, -1), query)
        pairs = self.key_score.weight[0].repeat_interleave(2) * scale
        score = torch.einsum("bhd,hdc->bhc", global_query * pairs, key)
        global_key = self.gather(tokens, turns, score, key)
        mix = self.mix.weight.repeat_interleave(2, 1)
        mixed = torch.einsum("ed,bhd,hdc->bhec", mix, global_key, value) + query
        weight = self.proj.weight @ mixed.flatten(1, 2)  # (B, 16, 16)
        bias = self.proj.bias + self.proj.weight @ self.mix.bias.repeat(HEADS)
        return torch.baddbmm(bias, tokens, weight.transpose(1, 2))

    @staticmethod
    def gather(tokens: Tensor, turns: Tensor, score: Tensor, weight: Tensor) -> Tensor:
        """Sum over tokens of softmax(score . token) * rotated (weight . token).

        Tokens (B, T, C), turns (4, T), score (B, heads, C), weight (heads, 4, C) -> (B, heads, 4).
        """
        attention = (score @ tokens.transpose(1, 2)).softmax(-1)
        turned = (attention[:, :, None] * turns).flatten(1, 2)  # (B, heads * 4, T)
        sums = (turned @ tokens).unflatten(1, (HEADS, 2, HEAD // 2))  # cosines and sines, frequencies
        weight = weight.unflatten(1, (HEAD // 2, 2))  # the two channels of a frequency
        quarter = torch.stack((-weight[:, :, 1], weight[:, :, 0]), 2)  # turned by a quarter circle
        rotated = torch.einsum("bhfc,hfic->bhfi", sums[:, :, 0], weight)
        return (rotated + torch.einsum("bhfc,hfic->bhfi", sums[:, :, 1], quarter)).flatten(2)


# Recipes of TransforMatcher (Kim et al., CVPR 2022; the authors' code for what the paper leaves open).

PAPER = Recipe(
    model={"backbone": "resnet101.tv_in1k", "layers": list(LAYERS), "size": 240},
    optimiser="adam",
    lr=1e-3,
    backbone_lr=1e-5,
    batch=16,
    epochs=10,
    augmentation="transformatcher",
    points=40,
    validation="paper",
    backbone_batchnorm="train",
)


@recipe("transformatcher", "spair-71k")
def spair_71k() -> Recipe:
    """``scbench run transformatcher --finetune spair-71k --eval spair-71k``: 3,334 steps an epoch.

    Paper, PCK@0.1/bbox: 53.7. The authors released no weights, and a user of their code got less with its
    default of ten epochs.
    """
    return PAPER


@recipe("transformatcher", "pf-pascal")
def pf_pascal() -> Recipe:
    """``scbench run transformatcher --finetune pf-pascal --eval pf-pascal --eval pf-willow``: 184 steps an epoch.

    Paper, PCK@.05/.10/.15 (img): 80.8 / 91.8 / 95.2. The same weights on PF-WILLOW (bbox-padded2, legacy):
    48.9 / 76.0 / 86.1. How many epochs the paper's model was trained is not known; the code's default is ten.
    """
    return PAPER


@recipe("transformatcher", "sc-imagenet")
def sc_imagenet() -> Recipe:
    """``scbench run transformatcher --pretrain sc-imagenet --finetune spair-71k --eval spair-71k``.

    Pre-training, 49,664 steps an epoch, with the authors' own values, as the SC-ImageNet paper says. Paper,
    SPair-71k after fine-tuning: 56.3; PF-PASCAL: 82.3 / 92.4 / 95.8.
    """
    return PAPER


@recipe("transformatcher")
def any_data() -> Recipe:
    """Data that the authors did not train on: the same values."""
    return replace(PAPER, validation="strict")


LAPTOP = replace(
    LAPTOP,
    model={"backbone": LAPTOP_BACKBONE, "layers": [5, 7], "size": 240, "sharpness": 20.0},
    optimiser="adam",
    backbone_lr=2e-4,
    frozen=(*early_stages("backbone.source"), *early_stages("backbone.target")),
    weight_decay=0.0,
    augmentation="transformatcher",
)


@recipe("transformatcher", preset="small")
def small() -> Recipe:
    """TransforMatcher on EfficientNet-Lite0 at 240 px, 15 x 15 cells.

    ``scbench run transformatcher --preset small --finetune NAME``.
    """
    return LAPTOP


@recipe("transformatcher", preset="tiny")
def tiny() -> Recipe:
    """Two blocks at 160 px, 10 x 10 cells: ``scbench run transformatcher --preset tiny --finetune toy --eval toy``."""
    return replace(LAPTOP, model={**LAPTOP.model, "size": 160, "depth": 2}, epochs=2, augmentation="none")


# Checkpoints of TransforMatcher's authors: one network whose convolutions hold two, the source's and the target's.

MARKER = "match2match.to_embedding."

INSIDE = {
    "to_embedding.1.": "embed.",
    "to_original.0.": "readout.",
    "0.norm.": "norm1.",
    "1.norm.": "norm2.",
    "0.fn.to_qkv.": "attention.qkv.",
    "0.fn.to_q_attn_logits.": "attention.query_score.",
    "0.fn.to_k_attn_logits.": "attention.key_score.",
    "0.fn.to_r.": "attention.mix.",
    "0.fn.to_out.": "attention.proj.",
    "1.fn.": "mlp.",
}


def from_published(state: State) -> State:
    """The authors' state under our keys, the two networks apart.

    Convolutions and batch norms hold the source's channels first, then the target's; the classifier is there
    once. The rotary frequencies, which files of some versions hold, are constants of the model.

    Raises:
        InputError: other rotary frequencies than those of the model.
    """
    converted: State = {}
    for key, value in state.items():
        if key.endswith(".pos_emb.freqs"):
            if not torch.allclose(value.float(), torch.pi * torch.tensor(FREQUENCIES), rtol=1e-2):
                raise InputError(f"{key} is {value.tolist()}, not pi and 5 pi: another rotary embedding")
        elif key.startswith("backbone.") and not key.startswith("backbone.fc.") and value.dim():
            if len(value) % 2:
                raise InputError(f"{key} holds {len(value)} channels, not those of two networks")
            for name, half in zip(key_of(key), value.chunk(2)):
                converted[name] = half
        else:
            for name in key_of(key):
                converted[name] = value
    return converted


def key_of(key: str) -> list[str]:
    """The authors' key -> ours: two for a weight of the backbones, none for the rotary frequencies.

    >>> key_of("backbone.bn1.bias")
    ['backbone.source.net.bn1.bias', 'backbone.target.net.bn1.bias']
    >>> key_of("match2match.trans_nc.3.1.fn.0.bias")
    ['match2match.blocks.3.mlp.0.bias']
    """
    if key.endswith(".pos_emb.freqs"):
        return []
    if key.startswith("backbone."):
        sides = ("source",) if key.startswith("backbone.fc.") else ("source", "target")
        return [f"backbone.{side}.net.{key.removeprefix('backbone.')}" for side in sides]
    block = re.match(r"match2match\.trans_nc\.(\d+)\.", key)
    before = f"match2match.blocks.{block[1]}." if block else "match2match."
    rest = key[block.end() :] if block else key.removeprefix("match2match.")
    for published_part, name in INSIDE.items():
        if rest.startswith(published_part):
            return [before + name + rest.removeprefix(published_part)]
    return [key]


def arguments_of(state: Mapping[str, Tensor]) -> dict[str, Any]:
    """Arguments of ``TransforMatcher`` for these weights.

    Raises:
        InputError: not weights of TransforMatcher, or of a backbone that the authors did not use.
    """
    if "match2match.embed.weight" not in state:
        raise InputError("are no weights of TransforMatcher: there is no match2match.embed.weight")
    levels = state["match2match.embed.weight"].shape[-1]
    if levels != len(LAYERS) or "backbone.source.net.layer3.22.bn3.weight" not in state:
        raise InputError(
            f"holds TransforMatcher with {levels} layers, not the published ResNet-101 model",
            fix="A model of another backbone is loaded from the folder that save_pretrained wrote.",
        )
    depth = len({key.split(".")[2] for key in state if key.startswith("match2match.blocks.")})
    return {"layers": list(LAYERS), "depth": depth}


TransforMatcher.published = PublishedWeights(
    about="Checkpoints of TransforMatcher's authors: one network whose convolutions hold two, the source's and "
    "the target's.",
    marker=MARKER,
    convert=from_published,
    arguments=arguments_of,
    optional=(".num_batches_tracked", "backbone.source.net.fc.", "match2match.posenc"),
)
