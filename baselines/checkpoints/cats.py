"""The checkpoints that CATs' authors published: a ResNet-101 and one of two lists of hyperpixels."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from baselines.cats import PF_PASCAL_LAYERS, SPAIR_LAYERS
from baselines.checkpoints.published import Published
from sc_imagenet.backbones.weight_files import State
from sc_imagenet.core.errors import InputError

THEIRS, OURS = "feature_extraction.backbone.", "backbone.net."

# The channels of the first hyperpixel tell the lists apart: 64 after max-pooling, 256 after a block of layer1.
LAYERS = {64: SPAIR_LAYERS, 256: PF_PASCAL_LAYERS}


def convert(state: State) -> State:
    """The authors' state under our keys."""
    return {rename(key): value for key, value in state.items()}


def rename(key: str) -> str:
    """The authors' key -> ours.

    >>> rename("feature_extraction.backbone.conv1.weight"), rename("proj.0.weight")
    ('backbone.net.conv1.weight', 'proj.0.weight')
    """
    return OURS + key.removeprefix(THEIRS) if key.startswith(THEIRS) else key


def arguments(state: Mapping[str, Tensor]) -> dict[str, Any]:
    """Arguments of ``CATs`` for these weights.

    Raises:
        InputError: not weights of CATs, or of a backbone or hyperpixels that the authors did not publish.
    """
    needed = ("x_normal", "proj.0.weight", "decoder.proj.weight", "decoder.blocks.0.mlp.fc1.weight")
    if missing := [key for key in needed if key not in state]:
        raise InputError(f"are no weights of CATs: there is no {missing[0]}")
    first = state["proj.0.weight"]
    levels = sum(key.startswith("proj.") and key.endswith(".weight") for key in state)
    layers = LAYERS.get(first.shape[1])
    if layers is None or len(layers) != levels or f"{OURS}layer3.22.bn3.weight" not in state:
        raise InputError(
            f"holds CATs with {levels} layers, the first of {first.shape[1]} channels, not one of the published "
            "ResNet-101 models",
            fix="A model of another backbone is loaded from the folder that save_pretrained wrote.",
        )
    grid = state["x_normal"].numel()
    hidden, width = state["decoder.blocks.0.mlp.fc1.weight"].shape
    return {
        "layers": list(layers),
        "size": 16 * grid,
        "feature_size": grid,
        "projection": first.shape[0],
        "depth": len({key.split(".")[2] for key in state if key.startswith("decoder.blocks.")}),
        "mlp_ratio": hidden / width,
    }


PUBLISHED = Published(marker=THEIRS, convert=convert, arguments=arguments)
