"""TransforMatcher: Match-to-Match Attention for Semantic Correspondence (Kim et al., CVPR 2022).

Every possible match of a source cell with a target cell is a token: it begins as the correlations of the pair at
many layers and is refined by additive attention to all other matches. A soft-argmax reads where each source cell
goes; a keypoint follows the cells around it.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from baselines.matcher import Batch, Matcher
from baselines.registry import register
from sc_imagenet.backbones.layers import Backbone, build_backbone
from sc_imagenet.geometry.correlation import inner_product
from sc_imagenet.geometry.grids import denormalise, normalise
from sc_imagenet.geometry.soft_argmax import soft_argmax
from sc_imagenet.geometry.volumes import resize_source, resize_target

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
    licence="none stated",
    supervision="keypoints",
    backbone="resnet101.tv_in1k",
)
class TransforMatcher(Matcher):
    """TransforMatcher with any backbone; the defaults are the published model.

    Args:
        backbone: timm's name. There are two of it, one for each image: they start equal and are trained apart.
        layers: layers to correlate at (see ``sc_imagenet/backbones/layers.py``); None: ``LAYERS`` of a
            ResNet-101, the coarse layers of any other backbone. A ResNet is read after its blocks' last ReLU.
        size: side S of the input; the next that the finest layer's cells fill is taken. They are the grid, of side
            S / stride.
        depth: blocks of the transformer.
        sharpness: None starts with random weights, as published; a number with so many times the mean
            correlation of all layers, which the transformer leaves as it is until it is trained.
        pretrained: the backbone's weights: True, False, or a file (see ``sc_imagenet/backbones/pretrained.py``).

    Raises:
        InputError: a backbone that cannot be had.
    """

    direction = "forward"
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

    def forward(self, source: Tensor, target: Tensor) -> Tensor:
        """Images (B, 3, S, S) -> refined scores of all matches (B, N_source, N_target)."""
        return self.match2match(self.correlate(*self.backbone(source, target)))

    def correlate(self, source: list[Tensor], target: list[Tensor]) -> Tensor:
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
        """Squared distance of carried and true keypoints, half a frame being 1: mean over points, then pairs.

        A pair without points counts with 0.
        """
        valid = batch["valid"][..., None]
        source, target = (
            normalise(torch.where(valid, batch[f"{side}_points"], 0), self.size) for side in ("source", "target")
        )
        error = (self.carry(output, source, REACH_IN_TRAINING) - target).square() * valid
        return (error.sum((1, 2)) / valid.sum((1, 2)).clamp(min=1)).mean()

    def transfer(self, output: Tensor, points: Tensor) -> Tensor:
        """Points (B, K, 2) of the source -> points of the target."""
        return denormalise(self.carry(output, normalise(points, self.size), REACH), self.size)

    def carry(self, output: Tensor, points: Tensor, reach: float) -> Tensor:
        """Carry ``points`` (B, K, 2), the frame being [-1, 1] (section 3.4).

        A point goes to the weighted mean of where the cells around it go, those of the up-sampled grid at less
        than ``reach`` cells; weights fall linearly to 0. Where other cells go is not computed.
        """
        if points.shape[1] == 0:
            return points + 0 * output.sum()  # nothing is carried, but a loss of nothing has its gradient too
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

    def __init__(self, branch: Backbone) -> None:
        super().__init__()
        self.name = branch.name
        self.source = branch
        self.target = copy.deepcopy(branch)
        if "fc" in dict(self.target.net.named_children()):  # published checkpoints have one classifier
            self.target.net.fc = nn.Identity()

    def forward(self, source: Tensor, target: Tensor) -> tuple[list[Tensor], list[Tensor]]:
        """Images (B, 3, S, S) of both roles -> features of every layer, of both roles."""
        return self.source(source), self.target(target)


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
