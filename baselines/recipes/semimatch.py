"""Recipes of SemiMatch on CATs (Kim et al., CVPR 2022; the authors' code for what the paper leaves open).

Both start from weights of CATs: ``--checkpoint FILE``, an authors' checkpoint, a folder, or ``best.safetensors`` of a
run of ours. Their code chooses the best epoch on the test split; here the validation split chooses.
"""

from __future__ import annotations

from dataclasses import replace

from baselines.cats import PF_PASCAL_LAYERS, SPAIR_LAYERS
from baselines.recipe import Recipe, recipe
from baselines.recipes.cats import LAPTOP as CATS_LAPTOP

PF_PASCAL = Recipe(
    model={
        "backbone": "resnet101.tv_in1k",
        "layers": list(PF_PASCAL_LAYERS),
        "size": 256,
        "temperature": 0.1,
        "confidence": 0.9,
        "keyout": 0.2,
        "dynamic": False,
    },
    optimiser="adamw",
    lr=3e-5,
    backbone_lr=3e-6,
    weight_decay=0.05,
    batch=4,
    epochs=200,
    milestones=(150, 220),
    gamma=0.5,
    augmentation="semimatch",
    points=40,
    validation="paper",
    backbone_batchnorm="train",
)
SPAIR = replace(
    PF_PASCAL,
    model={**PF_PASCAL.model, "layers": list(SPAIR_LAYERS), "confidence": 0.5, "dynamic": True},
    lr=1e-6,
    batch=8,
)


@recipe("semimatch", "spair-71k")
def spair_71k() -> Recipe:
    """``scbench run semimatch --checkpoint CATS --finetune spair-71k --eval spair-71k``: 6,668 steps an epoch.

    Paper, PCK@0.1/bbox: 50.7, from a CATs trained for 11 epochs. The script does not say for how many epochs;
    200 are those for PF-PASCAL, and the best by validation are kept.
    """
    return SPAIR


@recipe("semimatch", "pf-pascal")
def pf_pascal() -> Recipe:
    """``scbench run semimatch --checkpoint CATS --finetune pf-pascal --eval pf-pascal``: 735 steps an epoch.

    Paper, PCK@.05/.10/.15 (img): 80.1 / 93.5 / 96.6, from a CATs trained for 10 epochs. The same weights on PF-WILLOW
    (bbox-padded, legacy): 54.0 / 82.1 / 92.1.
    """
    return PF_PASCAL


@recipe("semimatch", "sc-imagenet")
def sc_imagenet() -> Recipe:
    """``scbench run semimatch --pretrain sc-imagenet --finetune spair-71k --eval spair-71k``: 99,327 steps an epoch.

    Pre-training with the values for SPair-71k but from a new CATs, therefore at the rate of CATs: the SC-ImageNet
    paper says only that it "followed the vanilla implementation".
    """
    return replace(SPAIR, lr=3e-5)


@recipe("semimatch")
def any_data() -> Recipe:
    """Data that the authors did not train on: the values and hyperpixels of PF-PASCAL."""
    return replace(PF_PASCAL, validation="strict")


LAPTOP = replace(CATS_LAPTOP, model={**CATS_LAPTOP.model, "temperature": 0.1}, augmentation="semimatch")


@recipe("semimatch", preset="small")
def small() -> Recipe:
    """SemiMatch on EfficientNet-Lite0 at 256 px: ``scbench run semimatch --preset small --finetune NAME``."""
    return replace(LAPTOP, model={**LAPTOP.model, "start": 0.0})


@recipe("semimatch", preset="tiny")
def tiny() -> Recipe:
    """At 160 px, 10 x 10 cells: ``scbench run semimatch --preset tiny --finetune toy --eval toy``."""
    return replace(LAPTOP, model={**LAPTOP.model, "size": 160, "projection": 60, "heads": 4, "start": 0.01}, epochs=2)
