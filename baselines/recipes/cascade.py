"""Recipes of the cascade: how it is built. It is trained by ``scbench generate train``, from class labels alone."""

from __future__ import annotations

from baselines.recipe import Recipe, recipe

# The paper's optimiser; what ``training_loss`` minimises where pairs are given instead of photographs by class.
PAPER_SGD = Recipe(
    optimiser="sgd",
    lr=3e-5,
    backbone_lr=0.0,
    momentum=0.9,
    batch=32,
    epochs=10,
    augmentation="none",
    backbone_batchnorm="eval",
)


@recipe("cascade")
def paper() -> Recipe:
    """``scbench run cascade --eval pf-willow --checkpoint MODEL``, MODEL being what ``generate train`` wrote.

    Paper (iBOT's ViT-B/16 at 512 px, Table 4), PCK@.05/.10: PF-PASCAL 56.8 / 81.5, PF-WILLOW 57.6 / 85.3.
    Without a checkpoint: the features of EfficientNet-Lite0 at 320 px with Hough scores, untrained.
    """
    return PAPER_SGD


@recipe("cascade", "sc-imagenet")
def sc_imagenet() -> Recipe:
    """The generator made SC-ImageNet and is not trained on it; pairs of one class serve its losses all the same."""
    return PAPER_SGD


@recipe("cascade", preset="small")
def small() -> Recipe:
    """The same at 256 px, with AdamW: a step for every pair of photographs of one class."""
    return Recipe(
        model={"size": 256},
        optimiser="adamw",
        lr=1e-3,
        backbone_lr=0.0,
        weight_decay=0.01,
        batch=8,
        epochs=2,
        schedule="cosine",
        warmup=20,
        backbone_batchnorm="eval",
    )


@recipe("cascade", preset="tiny")
def tiny() -> Recipe:
    """The same at 160 px, a 10 x 10 grid."""
    base = small()
    return Recipe(**{**base.__dict__, "model": {"size": 160, "network": {"fold": 2}}})
