"""Recipes of SCorrSAN (Huang et al., ECCV 2022; the authors' code for what the paper leaves open).

Two networks are trained side by side, the backbones' batch norm on the statistics of the batch. No schedule within
the 150 epochs: the authors halve the rates after the last. Their scripts name 50 epochs for SPair-71k in a variable
that nothing reads.
"""

from __future__ import annotations

from dataclasses import replace

from baselines.recipe import Recipe, recipe
from baselines.recipes import laptop

PAPER = Recipe(
    model={
        "backbone": "resnet101.tv_in1k",
        "layers": [30],
        "size": 256,
        "context": 7,
        "width": 2048,
        "networks": 2,
        "pseudo_start": 4,
    },
    optimiser="adamw",
    lr=3e-5,
    backbone_lr=3e-6,
    weight_decay=0.05,
    batch=16,
    epochs=150,
    milestones=(150,),
    gamma=0.5,
    augmentation="photometric",
    points=40,
    validation="paper",
    backbone_batchnorm="train",
)


@recipe("scorrsan", "spair-71k")
def spair_71k() -> Recipe:
    """``scbench run scorrsan --finetune spair-71k --eval spair-71k``: 3,334 steps an epoch.

    Paper, PCK@0.1/bbox: 55.3.
    """
    return PAPER


@recipe("scorrsan", "pf-pascal")
def pf_pascal() -> Recipe:
    """``scbench run scorrsan --finetune pf-pascal --eval pf-pascal --eval pf-willow``: 184 steps an epoch.

    Paper, PCK@.05/.10/.15 (img): 81.5 / 93.3 / 96.6. The same weights on PF-WILLOW (bbox-padded, legacy):
    54.1 / 80.0 / 89.8.
    """
    return replace(PAPER, model={**PAPER.model, "context": 13, "width": 1024, "pseudo_start": 60})


@recipe("scorrsan", "sc-imagenet")
def sc_imagenet() -> Recipe:
    """``scbench run scorrsan --pretrain sc-imagenet --finetune spair-71k --eval spair-71k``: 49,664 steps an epoch.

    Pre-training with the values for SPair-71k: the SC-ImageNet paper says only that it "followed the vanilla
    implementation".
    """
    return PAPER


@recipe("scorrsan")
def any_data() -> Recipe:
    """Data that the authors did not train on: the values of PF-PASCAL."""
    return replace(pf_pascal(), validation="strict")


LAPTOP = replace(
    laptop.LAPTOP,
    model={
        "backbone": laptop.BACKBONE,
        "layers": [5],
        "size": 256,
        "context": 7,
        "width": 256,
        "networks": 2,
        "pseudo_start": 2,
    },
    frozen=(*laptop.early_stages("backbone.0"), *laptop.early_stages("backbone.1")),
    augmentation="photometric",
)


@recipe("scorrsan", preset="small")
def small() -> Recipe:
    """SCorrSAN on EfficientNet-Lite0 at 256 px: ``scbench run scorrsan --preset small --finetune NAME``."""
    return LAPTOP


@recipe("scorrsan", preset="tiny")
def tiny() -> Recipe:
    """One network at 160 px, 40 x 40 cells: ``scbench run scorrsan --preset tiny --finetune toy --eval toy``."""
    return replace(LAPTOP, model={**LAPTOP.model, "size": 160, "networks": 1}, epochs=2, augmentation="none")
