"""Recipes of TransforMatcher (Kim et al., CVPR 2022; the authors' code for what the paper leaves open)."""

from __future__ import annotations

from dataclasses import replace

from baselines.recipe import Recipe, recipe
from baselines.recipes import laptop
from baselines.transformatcher import LAYERS

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
    laptop.LAPTOP,
    model={"backbone": laptop.BACKBONE, "layers": [5, 7], "size": 240, "sharpness": 20.0},
    optimiser="adam",
    backbone_lr=2e-4,
    frozen=(*laptop.early_stages("backbone.source"), *laptop.early_stages("backbone.target")),
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
