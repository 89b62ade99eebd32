"""Recipes of VAT (Hong et al., ECCV 2022), semantic correspondence; what the paper leaves open is the authors' code.

The authors train everything, the backbone at a hundredth of the rate, without weight decay, by the same settings
on both data sets. Their schedule of 300 epochs is 2.0 M steps of SPair-71k: the released weights were surely taken
earlier, by their validation score, as is done here.
"""

from __future__ import annotations

from dataclasses import replace

from baselines.recipe import Recipe, recipe
from baselines.recipes import laptop
from baselines.vat import PUBLISHED_LAYERS

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
    laptop.LAPTOP,
    model={"backbone": laptop.BACKBONE, "layers": [3, 4, 5, 6, 7], "size": 256, "width": 64, "residual": True},
)


@recipe("vat", preset="small")
def small() -> Recipe:
    """VAT on EfficientNet-Lite0 at 256 px, 16 x 16 cells: ``scbench run vat --preset small --finetune NAME``."""
    return LAPTOP


@recipe("vat", preset="tiny")
def tiny() -> Recipe:
    """VAT on EfficientNet-Lite0 at 128 px, 8 x 8 cells: ``scbench run vat --preset tiny --finetune toy``."""
    return replace(LAPTOP, model={**LAPTOP.model, "size": 128, "width": 32}, epochs=2, augmentation="none")
