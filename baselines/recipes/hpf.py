"""HPF is not trained: its recipes only say how it is built."""

from __future__ import annotations

from baselines.hpf import PF_PASCAL_LAYERS, SPAIR_LAYERS
from baselines.recipe import Recipe, recipe

RESNET = "resnet101"
PAPER = {"backbone": f"{RESNET}.tv_in1k", "size": 300}


@recipe("hpf", "spair-71k")
def spair_71k() -> Recipe:
    """``scbench run hpf --eval spair-71k``: hyperpixels found on SPair-71k. Paper, PCK@0.1/bbox: 28.2."""
    return Recipe(model={**PAPER, "layers": list(SPAIR_LAYERS[RESNET])}, epochs=0, lr=0.0, backbone_lr=0.0)


@recipe("hpf")
def any_data() -> Recipe:
    """``scbench run hpf --eval pf-pascal --eval pf-willow``: hyperpixels found on PF-PASCAL.

    Paper, PCK@0.1: 84.8 on PF-PASCAL (img), 74.4 on PF-WILLOW (bbox-kp), in original proportions.
    """
    return Recipe(model={**PAPER, "layers": list(PF_PASCAL_LAYERS[RESNET])}, epochs=0, lr=0.0, backbone_lr=0.0)


@recipe("hpf", preset="small")
def small() -> Recipe:
    """EfficientNet-Lite0 in images of at most 300 px, its stages of stride 8 to 32: no download is needed."""
    model = {"backbone": "tf_efficientnet_lite0", "layers": [3, 4, 5, 6, 7], "size": 300}
    return Recipe(model=model, epochs=0, lr=0.0, backbone_lr=0.0)


@recipe("hpf", preset="tiny")
def tiny() -> Recipe:
    """The same at 160 px."""
    recipe = small()
    return Recipe(model={**recipe.model, "size": 160}, epochs=0, lr=0.0, backbone_lr=0.0)
