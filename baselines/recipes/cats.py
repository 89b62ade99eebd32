"""Recipes of CATs (Cho et al., NeurIPS 2021; the authors' code for what the paper leaves open).

Every paper recipe is the UNFROZEN one, behind the paper's headline numbers. The authors' code freezes the backbone
unless told otherwise; that variant is ``--set recipe.backbone_lr=0``. In both the backbone's batch norm runs on
the statistics of the batch while training.
"""

from __future__ import annotations

from dataclasses import replace

from baselines.cats import PF_PASCAL_LAYERS, SPAIR_LAYERS
from baselines.recipe import Recipe, recipe
from baselines.recipes import laptop

PAPER = Recipe(
    model={"backbone": "resnet101.tv_in1k", "layers": list(SPAIR_LAYERS), "size": 256},
    optimiser="adamw",
    lr=3e-5,
    backbone_lr=3e-6,
    weight_decay=0.05,
    batch=32,
    epochs=100,
    milestones=(70, 80, 90),
    gamma=0.5,
    augmentation="cats",
    points=40,
    validation="paper",
    backbone_batchnorm="train",
)


@recipe("cats", "spair-71k")
def spair_71k() -> Recipe:
    """``scbench run cats --finetune spair-71k --eval spair-71k``: 1,667 steps an epoch.

    Paper, PCK@0.1/bbox: 49.9; backbone frozen: 42.4. The authors say fewer than 100 epochs are enough unfrozen;
    the best weights by validation are kept.
    """
    return PAPER


@recipe("cats", "pf-pascal")
def pf_pascal() -> Recipe:
    """``scbench run cats --finetune pf-pascal --eval pf-pascal --eval pf-willow``: 92 steps an epoch.

    Paper, PCK@.05/.10/.15 (img): 75.4 / 92.6 / 96.4; backbone frozen: 67.5 / 89.1 / 94.9. The same weights on
    PF-WILLOW (bbox-padded, legacy): 50.3 / 79.2 / 90.3.
    """
    return replace(PAPER, model={**PAPER.model, "layers": list(PF_PASCAL_LAYERS)})


@recipe("cats", "sc-imagenet")
def sc_imagenet() -> Recipe:
    """``scbench run cats --pretrain sc-imagenet --finetune spair-71k --eval spair-71k``: 24,832 steps an epoch.

    Pre-training with CATs' own values, as the authors of SC-ImageNet published it, at most 40 points a pair; but
    unfrozen, where their code freezes the backbone by default. Their fine-tuning takes up optimiser, epoch and best
    score of the pre-training; ours takes its weights alone and starts afresh, at epoch 0 and the full rate. Paper,
    SPair-71k after fine-tuning: 54.6 (Table 2; Table 3 says 54.5).
    """
    return PAPER


@recipe("cats")
def any_data() -> Recipe:
    """Data that the authors did not train on: the values and hyperpixels of PF-PASCAL."""
    return replace(pf_pascal(), validation="strict")


LAPTOP = replace(
    laptop.LAPTOP,
    model={
        "backbone": laptop.BACKBONE,
        "layers": [5, 7],
        "size": 256,
        "projection": 128,
        "heads": 6,
        "mlp_ratio": 2.0,
    },
)


@recipe("cats", preset="small")
def small() -> Recipe:
    """CATs on EfficientNet-Lite0 at 256 px, 16 x 16 cells: ``scbench run cats --preset small --finetune NAME``.

    Eight epochs (``--set recipe.epochs=8``) of ``pf-willow:images_train``, six classes, ten minutes on one core;
    ``images_test``, PCK@.05/.10/.15 (bbox-kp, original pixels, image average), mean of three seeds:
    38.3 / 67.4 / 81.0, where ``nearest`` has 34.3 / 53.6 / 66.4.
    """
    return replace(LAPTOP, model={**LAPTOP.model, "start": 0.0})


@recipe("cats", preset="tiny")
def tiny() -> Recipe:
    """CATs on EfficientNet-Lite0 at 160 px, 10 x 10 cells: ``scbench quickstart``, four minutes on two cores.

    On ``toy``, PCK@.05/.10/.15 (bbox-kp, original pixels, image average): 3.2 / 10.9 / 20.0 untrained,
    26.3 / 57.9 / 75.0 trained.
    """
    model = {**LAPTOP.model, "size": 160, "projection": 60, "heads": 4, "start": 0.01}
    return replace(LAPTOP, model=model, epochs=2, augmentation="none")
