"""DIY-SC (Dünkel et al., ICCV 2025): GeoAware-SC's network on DINOv2 alone, trained on pseudo-labels.

The authors' adapter and their labels are CC0; the labels are the data set ``diy-sc``."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from baselines.geoaware import PUBLISHED_BACKBONE, GeoAware
from baselines.geoaware import small as small_geoaware
from baselines.geoaware import tiny as tiny_geoaware
from baselines.matcher import Batch
from baselines.protocol import PublishedProtocol
from baselines.recipe import Recipe, recipe
from baselines.registry import register


@register(
    "diy-sc",
    title="DIY-SC",
    paper="Dünkel et al., ICCV 2025",
    licence="CC0-1.0",
    supervision="pseudo",
    backbone=PUBLISHED_BACKBONE,
    trained_on=("diy-sc",),
    protocol=PublishedProtocol(840, "forward"),
)
class DIYSC(GeoAware):
    """GeoAware-SC's network, without mirror images; arguments as of ``GeoAware``."""

    def threshold(self, batch: Batch, side: str) -> Tensor:
        """The largest coordinate (B,) of an image's points in cells: pseudo-labels have no boxes."""
        points = torch.where(batch["valid"][..., None], batch[f"{side}_points"], 0)
        largest = points.flatten(1).amax(1) if points.shape[1] else points.new_zeros(len(points))
        return largest * (len(self.x_normal) / self.size)


# Recipes of DIY-SC.

PAPER = Recipe(
    model={"backbone": PUBLISHED_BACKBONE, "size": 840},
    lr=5e-3,
    backbone_lr=0.0,
    weight_decay=1e-3,
    batch=1,
    epochs=1,
    points=50,
    schedule="one-cycle",
)


@recipe("diy-sc")
def any_data() -> Recipe:
    """``scbench run diy-sc --pretrain diy-sc --eval spair-71k``: on its authors' pseudo-labels of SPair-71k's images.

    They take 200,001 steps (``--steps``), 50 points of a pair drawn at random (here the first 50), and the weights
    whose loss on further pseudo-labels is least.
    """
    return PAPER


@recipe("diy-sc", preset="small")
def small() -> Recipe:
    """GeoAware-SC's network of this preset, without mirror images: ``--preset small --pretrain NAME``."""
    recipe = small_geoaware()
    return replace(recipe, model={**recipe.model, "mirror": False})


@recipe("diy-sc", preset="tiny")
def tiny() -> Recipe:
    """The same at 160 px: ``scbench run diy-sc --preset tiny --finetune toy --eval toy``."""
    recipe = tiny_geoaware()
    return replace(recipe, model={**recipe.model, "mirror": False})
