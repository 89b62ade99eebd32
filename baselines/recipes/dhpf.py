"""Recipes of DHPF and of its weakly supervised variant (Min et al., ECCV 2020; the authors' code for the rest).

The backbone is frozen in every one: only the reductions and the gates learn. Images are not augmented; PF-PASCAL's
training pairs are there mirrored too. The best weights by validation are kept.
"""

from __future__ import annotations

from dataclasses import replace

from baselines.recipe import Recipe, recipe

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
