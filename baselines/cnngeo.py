"""CNNGeo: Convolutional Neural Network Architecture for Geometric Matching (Rocco et al., CVPR 2017, PAMI 2018).

Two networks read an affine transformation, then a thin-plate spline, off the correlation of a pair. They learn from
photographs alone: each is paired with a random transformation of itself."""

from __future__ import annotations

from dataclasses import replace

from baselines.geometric import MARKER, OPTIONAL, GeometricMatcher, arguments_of, from_published
from baselines.protocol import PublishedProtocol
from baselines.recipe import LAPTOP_BACKBONE, Recipe, recipe
from baselines.registry import register
from baselines.weights import PublishedWeights


@register(
    "cnngeo",
    title="CNNGeo",
    paper="Rocco et al., CVPR 2017",
    licence="that of the LICENSE file in the authors' repository, not read here",
    supervision="self",
    backbone="resnet101.tv_in1k",
    protocol=PublishedProtocol(224, "backward", padded="bbox-kp"),
)
class CNNGeo(GeometricMatcher):
    """CNNGeo with any backbone; the defaults are the ResNet-101 model of the authors' later papers."""


CNNGeo.published = PublishedWeights(
    about="Checkpoints of CNNGeo's authors, one of each network; `CNNGeo.from_published(AFFINE, TPS)` joins two.",
    marker=MARKER,
    convert=from_published,
    arguments=arguments_of,
    optional=OPTIONAL,
)


# Recipes of CNNGeo (Rocco et al., CVPR 2017; the training script of Weakalign, whose baseline is the ResNet-101 model).

PAPER = Recipe(
    model={"backbone": "resnet101.tv_in1k", "size": 240},
    optimiser="adam",
    lr=1e-3,
    backbone_lr=0.0,
    batch=64,
    epochs=200,
    schedule="step",
    milestones=(100,),
    gamma=0.2,
    augmentation="none",
    backbone_batchnorm="eval",
    frozen=("spline_backbone.",),
)


@recipe("cnngeo")
def any_data() -> Recipe:
    """``scbench run cnngeo --finetune synthetic:PHOTOGRAPHS --eval pf-pascal --eval pf-willow``.

    PHOTOGRAPHS is a folder, or a data set whose images are taken; the authors took the 13,500 of PASCAL VOC 2011. Half
    of a batch is warped affinely, half by splines, so that this is both of the authors' trainings of 50 + 50 epochs
    with batches of 32. They take the weights of the lowest loss on 560 further images, here it is the last ones.
    Paper's table, ResNet-101: PF-PASCAL 41.0 / 69.5 / 80.4 at .05 / .10 / .15, SPair-71k 20.6.
    """
    return PAPER


LAPTOP = replace(
    PAPER,
    model={"backbone": LAPTOP_BACKBONE, "layers": [5], "size": 240},
    batch=16,
    epochs=8,
    schedule="cosine",
    milestones=(),
    gamma=0.5,
    augmentation="narrow-warps",
)


@recipe("cnngeo", preset="small")
def small() -> Recipe:
    """On EfficientNet-Lite0, 15 x 15 cells: ``scbench run cnngeo --preset small --finetune synthetic:PHOTOGRAPHS``."""
    return LAPTOP


@recipe("cnngeo", preset="tiny")
def tiny() -> Recipe:
    """At 192 px, 12 x 12 cells: ``scbench run cnngeo --preset tiny --finetune synthetic:toy --eval toy``."""
    return replace(LAPTOP, model={**LAPTOP.model, "size": 192}, epochs=4)
