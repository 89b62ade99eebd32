"""A2Net: Attentive Semantic Alignment with Offset-Aware Correlation Kernels (Seo et al., ECCV 2018).

As CNNGeo, with another network that reads a transformation: correlations are put in the order of their offsets, and an
attention over the places of the target chooses what counts."""

from __future__ import annotations

import functools
from dataclasses import replace

import torch
from torch import Tensor, nn

from baselines import cnngeo
from baselines.geometric import MARKER, OPTIONAL, GeometricMatcher, arguments_of, from_published, start_at_identity
from baselines.protocol import PublishedProtocol
from baselines.recipe import Recipe, recipe
from baselines.registry import register
from baselines.weights import PublishedWeights
from sc_imagenet.data.tensor_files import State
from sc_imagenet.geometry.correlation import at_least_float32

WIDTH = 128  # channels of everything
PLACES = 5  # learned maps that tell places apart


class AttentiveRegressor(nn.Module):
    """Reads the parameters of a transformation off a correlation (sections 3.2 to 3.4)."""

    def __init__(self, cells: int, parameters: int) -> None:
        super().__init__()
        self.cells = cells
        places = cells - 6  # along each side, after a convolution of 7 x 7
        self.weight = nn.Parameter(torch.empty(1, PLACES, places, places).uniform_(-1, 1))
        self.preconv = nn.Sequential(
            nn.Conv2d((2 * cells - 1) ** 2, WIDTH, 1),
            nn.BatchNorm2d(WIDTH),
            nn.ReLU(),
            nn.Conv2d(WIDTH, WIDTH, 7),
            nn.BatchNorm2d(WIDTH),
            nn.ReLU(),
        )
        self.conv = nn.Sequential(nn.Conv2d(PLACES + WIDTH, WIDTH, 1), nn.BatchNorm2d(WIDTH), nn.ReLU())
        self.proj = nn.Sequential(nn.Conv2d(WIDTH, WIDTH, 1), nn.BatchNorm2d(WIDTH), nn.ReLU())
        self.attention = nn.Sequential(
            nn.Conv2d(WIDTH, WIDTH // 2, 1), nn.BatchNorm2d(WIDTH // 2), nn.ReLU(), nn.Conv2d(WIDTH // 2, 1, 1)
        )
        self.linear = nn.Linear(WIDTH, parameters)
        start_at_identity(self.linear)

    def forward(self, correlation: Tensor) -> Tensor:
        """Correlation (B, cells * cells, cells, cells) -> parameters (B, 6) or (B, 18)."""
        seen = self.preconv(by_offset(correlation))
        return at_least_float32(self.linear(self.attend(seen, self.attention_of(seen))))

    def attention_of(self, seen: Tensor) -> Tensor:
        """How much each place counts, (B, 1, h, w); together they count 1."""
        return self.attention(seen).flatten(1).softmax(1).unflatten(1, (1, *seen.shape[2:]))

    def attend(self, seen: Tensor, attention: Tensor) -> Tensor:
        """The mean (B, C) over all places of what is told of them, as much as they count."""
        return (self.told(seen) * attention).flatten(2).sum(2)

    def told(self, seen: Tensor) -> Tensor:
        """What each place tells of the transformation, (B, C, h, w): what it sees, and which place it is."""
        return self.proj(self.placed(seen))

    def placed(self, seen: Tensor) -> Tensor:
        """What is seen beside the learned maps of places, made (B, C, h, w)."""
        return self.conv(torch.cat((self.weight.expand(len(seen), -1, -1, -1), seen), 1))


def by_offset(correlation: Tensor) -> Tensor:
    """A correlation (B, n * n, n, n) with source cells by their offset from the target cell: (B, (2n - 1)^2, n, n).

    As published: the source's column is counted from the target's ROW, and its row from the target's column. What no
    source cell has is 0.

    >>> by_offset(torch.arange(1.0, 17).view(1, 4, 2, 2))[0, 4].tolist()
    [[1.0, 6.0], [11.0, 16.0]]
    """
    cells = correlation.shape[-1]
    where = offset_channels(cells).to(correlation.device)
    aligned = correlation.new_zeros(len(correlation), (2 * cells - 1) ** 2, cells, cells)
    return aligned.scatter(1, where.expand_as(correlation), correlation)


@functools.cache
def offset_channels(cells: int) -> Tensor:
    """The channel (1, n * n, n, n) of ``by_offset`` that each entry of a correlation goes to."""
    number = torch.arange(cells, device="cpu")
    # Source cells are counted down the columns.
    column, row = number.repeat_interleave(cells)[:, None, None], number.repeat(cells)[:, None, None]
    down = cells - 1 + column - number[:, None]
    across = cells - 1 + row - number
    return ((2 * cells - 1) * down + across)[None]


@register(
    "a2net",
    title="A2Net",
    paper="Seo et al., ECCV 2018",
    licence="none is given in the authors' repository",
    supervision="self",
    backbone="resnet101.tv_in1k",
    protocol=PublishedProtocol(None, "backward", padded="bbox-kp"),
)
class A2Net(GeometricMatcher):
    """A2Net with any backbone; the defaults are the published model of ResNet-101."""

    regressor = AttentiveRegressor


def from_a2net(state: State) -> State:
    """The authors' state under our keys."""
    return {key.replace(".att.att.", ".attention."): value for key, value in from_published(state).items()}


A2Net.published = PublishedWeights(
    about="Checkpoints of A2Net's authors, one of each network; `A2Net.from_published(AFFINE, TPS)` joins two.",
    marker=MARKER,
    convert=from_a2net,
    arguments=arguments_of,
    optional=OPTIONAL,
)


# Recipes of A2Net (Seo et al., ECCV 2018; the authors' scripts for what the paper leaves open).

PAPER: Recipe = replace(cnngeo.PAPER, lr=2e-4, epochs=100, milestones=())


@recipe("a2net")
def any_data() -> Recipe:
    """``scbench run a2net --finetune synthetic:PHOTOGRAPHS --eval pf-pascal --eval pf-willow``.

    PHOTOGRAPHS is a folder, or a data set whose images are taken; the authors took some 20,000 of PASCAL VOC. Half of a
    batch is warped affinely, half by splines, so that this is both of the authors' trainings of 50 epochs with batches
    of 32. They let the
    statistics of the frozen backbone go on (``recipe.backbone_batchnorm=train``), here they stay ImageNet's. Paper's
    table: PF-PASCAL 42.8 / 70.8 / 83.3 at .05 / .10 / .15, SPair-71k 22.3; PF-WILLOW 68.8 at .10 by the README.
    """
    return PAPER


@recipe("a2net", preset="small")
def small() -> Recipe:
    """On EfficientNet-Lite0, 15 x 15 cells: ``scbench run a2net --preset small --finetune synthetic:PHOTOGRAPHS``."""
    return replace(cnngeo.small(), lr=5e-4)


@recipe("a2net", preset="tiny")
def tiny() -> Recipe:
    """At 192 px, 12 x 12 cells: ``scbench run a2net --preset tiny --finetune synthetic:toy --eval toy``."""
    return replace(cnngeo.tiny(), lr=5e-4)
