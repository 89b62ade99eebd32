"""CNNGeo: Convolutional Neural Network Architecture for Geometric Matching (Rocco et al., CVPR 2017, PAMI 2018).

Two networks read an affine transformation, then a thin-plate spline, off the correlation of a pair. They learn from
photographs alone: each is paired with a random transformation of itself."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor

from baselines import laptop
from baselines.geometric import MARKER, OPTIONAL, GeometricMatcher, arguments_of, from_published
from baselines.protocol import PublishedProtocol
from baselines.recipe import Recipe, recipe
from baselines.registry import register
from baselines.weights import PublishedWeights, load_strictly
from sc_imagenet.core.errors import InputError
from sc_imagenet.data.tensor_files import read_state


@register(
    "cnngeo",
    title="CNNGeo",
    paper="Rocco et al., CVPR 2017",
    licence="that of the LICENSE file in the authors' repository, not read here",
    supervision="self",
    backbone="resnet101.tv_in1k",
    protocol=PublishedProtocol(224, "backward"),
)
class CNNGeo(GeometricMatcher):
    """CNNGeo with any backbone; the defaults are the ResNet-101 model of the authors' later papers."""

    @classmethod
    def from_published(cls, affine: Path | str, spline: Path | str) -> CNNGeo:
        """The model of two of the authors' files, one of each network.

        Each network keeps the backbone of its own file where the two differ, as they do where statistics of batch
        normalisation went on during training. Kept with ``save_pretrained`` it is one model from then on; either
        file alone is a checkpoint of a model of one network.

        Raises:
            InputError: files that cannot be read, are not one of each network, or have other backbones.
        """
        states = [from_published(read_state(Path(file))) for file in (affine, spline)]
        found = [arguments_of(state) for state in states]
        if [each["stages"] for each in found] != ["affine", "tps"] or found[0]["backbone"] != found[1]["backbone"]:
            fix = "Give the affine file, then that of the thin-plate spline, both of one backbone."
            raise InputError("are no two networks of one model", where=f"{affine} and {spline}", fix=fix)
        first, second = ({key: value for key, value in state.items() if _of_backbone(key)} for state in states)
        shared = first.keys() == second.keys() and all(torch.equal(first[key], second[key]) for key in first)
        joined: dict[str, Tensor] = {**states[1], **states[0]}
        if not shared:
            joined |= {f"spline_{key}": value for key, value in second.items()}
        model = cls(**{**found[0], "stages": "affine+tps"}, shared=shared, pretrained=False)
        optional = (*OPTIONAL, *(f"spline_{key}" for key in OPTIONAL if key.startswith("backbone.")))
        load_strictly(model, "cnngeo", joined, f"{affine} and {spline}", optional)
        return model.eval()


def _of_backbone(key: str) -> bool:
    return key.startswith("backbone.")


CNNGeo.published = PublishedWeights(
    about="Checkpoints of CNNGeo's authors, one of each network; `CNNGeo.from_published(AFFINE, TPS)` joins two.",
    marker=MARKER,
    convert=from_published,
    arguments=arguments_of,
    optional=OPTIONAL,
)


# Recipes of CNNGeo (Rocco et al., CVPR 2017; the training script of Weakalign, whose baseline is the ResNet-101 model).

PAPER = Recipe(
    model={"backbone": "resnet101.tv_in1k", "size": 240},
    optimiser="adam",
    lr=1e-3,
    backbone_lr=0.0,
    batch=64,
    epochs=100,
    schedule="step",
    milestones=(50,),
    gamma=0.2,
    augmentation="none",
    backbone_batchnorm="eval",
    frozen=("spline_backbone.",),
)


@recipe("cnngeo")
def any_data() -> Recipe:
    """``scbench run cnngeo --finetune synthetic:PHOTOGRAPHS --eval pf-pascal --eval pf-willow``.

    PHOTOGRAPHS is a folder, or a data set whose images are taken; the authors took the 13,500 of PASCAL VOC 2011. Half
    of a batch is warped affinely, half by splines: together the authors' two trainings of 50 + 50 epochs with batches
    of 32. They take the weights of the lowest loss on 560 further images, here it is the last ones. Paper's table,
    ResNet-101: PF-PASCAL 41.0 / 69.5 / 80.4 at .05 / .10 / .15, SPair-71k 20.6.
    """
    return PAPER


LAPTOP = replace(
    PAPER,
    model={"backbone": laptop.BACKBONE, "layers": [5], "size": 240},
    batch=16,
    epochs=8,
    schedule="cosine",
    milestones=(),
    gamma=0.5,
    augmentation="narrow-warps",
)


@recipe("cnngeo", preset="small")
def small() -> Recipe:
    """On EfficientNet-Lite0, 15 x 15 cells: ``scbench run cnngeo --preset small --finetune synthetic:PHOTOGRAPHS``."""
    return LAPTOP


@recipe("cnngeo", preset="tiny")
def tiny() -> Recipe:
    """At 192 px, 12 x 12 cells: ``scbench run cnngeo --preset tiny --finetune synthetic:toy --eval toy``."""
    return replace(LAPTOP, model={**LAPTOP.model, "size": 192}, epochs=4)
