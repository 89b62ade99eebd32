"""Weakalign: End-to-end Weakly-supervised Semantic Alignment (Rocco et al., CVPR 2018).

CNNGeo's two networks as one model, trained on from where CNNGeo ended, with pairs of which only the class is known: the
transformation should lead to cells that match, whose share is counted softly."""

from __future__ import annotations

from dataclasses import replace

import torch
import torch.nn.functional as F
from torch import Tensor

from baselines import cnngeo
from baselines.cnngeo import CNNGeo
from baselines.geometric import MARKER, OPTIONAL, arguments_of, from_published
from baselines.matcher import Batch
from baselines.protocol import PublishedProtocol
from baselines.recipe import Recipe, recipe
from baselines.registry import register
from baselines.weights import PublishedWeights
from sc_imagenet.geometry.correlation import at_least_float32
from sc_imagenet.geometry.transformations import lattice, transform, warp_source

# The authors count cells on the grid of another network: 15 cells of 15 pixels in an image of 227.
RIM = 227 / 210
STIFFNESS = 0.2  # of the splines that are counted; those that carry points have none
SMALLEST = 1e-5  # added to every entry of a mask before its sum is taken
FAR = -1e10  # a position that no cell is near to


@register(
    "weakalign",
    title="Weakalign",
    paper="Rocco et al., CVPR 2018",
    licence="that of the LICENSE file in the authors' repository, not read here",
    supervision="weak",
    backbone="resnet101.tv_in1k",
    protocol=PublishedProtocol(224, "backward", padded="bbox-kp"),
)
class Weakalign(CNNGeo):
    """Weakalign with any backbone; weights of ``cnngeo`` are weights of it, from which its training starts."""

    def training_loss(self, batch: Batch, epoch: int) -> Tensor:
        """Minus the soft inlier count of both transformations (section 3.3); of synthetic pairs CNNGeo's loss."""
        if "warp" in batch or self.affine is None or self.spline is None:
            return super().training_loss(batch, epoch)
        self.affine.eval()  # the statistics of batch normalisation stay as they are
        self.spline.eval()
        source, target = self.describe(torch.cat((batch["source"], batch["target"]))).chunk(2)
        correlation = self.correlate(source, target)
        affine = self.affine(correlation)
        warped = self.describe(warp_source(batch["source"], affine), self.spline_backbone)
        if self.spline_backbone is not None:
            target = self.describe(batch["target"], self.spline_backbone)
        spline = self.spline(self.correlate(warped, target))
        return -inliers(at_least_float32(correlation), affine, spline).mean()


def inliers(correlation: Tensor, affine: Tensor, spline: Tensor) -> Tensor:
    """The affine and the composed transformation's counts together (B,), on the correlation of the unwarped pair."""
    cells = correlation.shape[-1]
    found = count(correlation, reached(inlier_positions(affine, cells), cells))
    return found + count(correlation, reached(composed_positions(affine, spline, cells), cells))


def inlier_positions(theta: Tensor, cells: int, stiffness: float = STIFFNESS) -> Tensor:
    """Where in the source every target cell goes: (B, cells, cells, 2), the centres of outer cells at -1 and 1."""
    grid = lattice(cells, theta).expand(len(theta), -1, -1) / RIM
    return (RIM * transform(theta, grid, stiffness)).unflatten(1, (cells, cells))


def composed_positions(affine: Tensor, spline: Tensor, cells: int, stiffness: float = STIFFNESS) -> Tensor:
    """The same for the spline and then the affine transformation, which is read bilinearly where the spline leads.

    A cell goes nowhere if the spline takes it outside, or to where one of the four affine positions is.
    """
    moved, through = inlier_positions(affine, cells), inlier_positions(spline, cells, stiffness)
    moved = torch.where(inside(moved), moved, FAR)
    read = F.grid_sample(moved.permute(0, 3, 1, 2), through, align_corners=True).permute(0, 2, 3, 1)
    return torch.where(inside(through), read, FAR)


def inside(positions: Tensor) -> Tensor:
    """Whether positions (..., 2) lie within -1 and 1, (..., 1)."""
    return (positions.abs() < 1).all(-1, keepdim=True)


def reached(positions: Tensor, cells: int) -> Tensor:
    """The share that each source cell has in each position: (B, cells * cells, h, w) of (B, h, w, 2).

    Bilinear weights, 0 for what lies outside; source cells are counted down the columns, as in the correlation.

    >>> reached(torch.tensor([[[[-1.0, 0.0]]]]), 2).flatten().tolist()
    [0.5, 0.5, 0.0, 0.0]
    """
    index = (positions + 1) * ((cells - 1) / 2)
    numbers = torch.arange(cells, device=positions.device)
    along = (1 - (index[..., None] - numbers).abs()).relu()  # (B, h, w, 2, cells)
    return (along[..., 0, :, None] * along[..., 1, None, :]).flatten(3).permute(0, 3, 1, 2)


def count(correlation: Tensor, mask: Tensor) -> Tensor:
    """The soft inlier count (B,): what a mask selects of a correlation, over the size of the mask."""
    size = (mask + SMALLEST).flatten(1).sum(1)
    return (mask * correlation).flatten(1).sum(1) / size


Weakalign.published = PublishedWeights(
    about="The checkpoint of Weakalign's authors; those of CNNGeo, of one network each, are read, too.",
    marker=MARKER,
    convert=from_published,
    arguments=arguments_of,
    optional=OPTIONAL,
)


# Recipes of Weakalign (Rocco et al., CVPR 2018; the authors' code for what the paper leaves open).

PAPER = Recipe(
    model={"backbone": "resnet101.tv_in1k", "size": 240},
    optimiser="adam",
    lr=5e-8,
    backbone_lr=5e-8,
    batch=16,
    epochs=15,
    augmentation="middle-crops",
    validation="paper",
    backbone_batchnorm="eval",
)


@recipe("weakalign")
def any_data() -> Recipe:
    """``scbench run weakalign --pretrain synthetic:pf-pascal --finetune pf-pascal --eval pf-pascal --eval pf-willow``.

    184 steps an epoch on PF-PASCAL; backbone and both networks are trained, at a rate of 5e-8. ``--checkpoint`` with
    weights of CNNGeo takes the place of ``--pretrain``. Paper's table: PF-PASCAL 49.0 / 74.8 / 84.0 at .05 / .10 / .15,
    SPair-71k 20.9.
    """
    return PAPER


@recipe("weakalign", "synthetic")
def synthetic() -> Recipe:
    """As CNNGeo: ``scbench run weakalign --pretrain synthetic:PHOTOGRAPHS --finetune same-class:PHOTOGRAPHS``."""
    return cnngeo.PAPER


LAPTOP = replace(PAPER, model=cnngeo.LAPTOP.model, lr=1e-5, backbone_lr=0.0, epochs=2, frozen=("spline_backbone.",))


@recipe("weakalign", preset="small")
def small() -> Recipe:
    """``scbench run weakalign --preset small --checkpoint RUN --finetune same-class:FOLDER``.

    EfficientNet-Lite0, frozen. RUN is the folder of a run of ``cnngeo --preset small``, FOLDER holds
    <class>/<photograph>.
    """
    return LAPTOP


@recipe("weakalign", "synthetic", preset="small")
def small_synthetic() -> Recipe:
    """As CNNGeo's small one."""
    return cnngeo.small()


@recipe("weakalign", preset="tiny")
def tiny() -> Recipe:
    """``scbench run weakalign --preset tiny --pretrain synthetic:toy --finetune same-class:toy --eval toy``."""
    return replace(LAPTOP, model=cnngeo.tiny().model)


@recipe("weakalign", "synthetic", preset="tiny")
def tiny_synthetic() -> Recipe:
    """As CNNGeo's tiny one."""
    return cnngeo.tiny()
