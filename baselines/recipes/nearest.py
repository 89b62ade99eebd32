"""``nearest`` is not trained: its recipes only say how it is built."""

from __future__ import annotations

from baselines.recipe import Recipe, recipe


@recipe("nearest")
def paper() -> Recipe:
    """EfficientNet-Lite0 at 320 px: ``scbench run nearest --eval pf-willow``, about two minutes on two cores.

    540 pairs, PF-WILLOW's six cluttered classes, bbox-kp, image average: 34.7 / 57.7 / 68.8 at .05 / .10 / .15.
    """
    return Recipe(epochs=0, lr=0.0, backbone_lr=0.0)


@recipe("nearest", preset="small")
def small() -> Recipe:
    """The same at 256 px; 32.5 / 56.6 / 68.6."""
    return Recipe(model={"size": 256}, epochs=0, lr=0.0, backbone_lr=0.0)


@recipe("nearest", preset="tiny")
def tiny() -> Recipe:
    """The same at 160 px, a 10 x 10 grid."""
    return Recipe(model={"size": 160}, epochs=0, lr=0.0, backbone_lr=0.0)
