"""Checkpoints of NC-Net's authors, written by PyTorch 0.3 in 2018: permuted 4-D weights, no counters of batches."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from baselines.checkpoints.published import Published
from baselines.ncnet import LAYERS
from sc_imagenet.backbones.weight_files import State
from sc_imagenet.core.errors import InputError

MARKER = "NeighConsensus."
STAGES = {"0": "conv1", "1": "bn1", "4": "layer1", "5": "layer2", "6": "layer3"}  # numbers in their nn.Sequential


def convert(state: State) -> State:
    """The authors' state under our keys, 4-D weights as (out, in, k, k, k, k)."""
    return {
        rename(key): value.permute(1, 2, 0, 3, 4, 5).contiguous() if value.dim() == 6 else value
        for key, value in state.items()
    }


def rename(key: str) -> str:
    """The authors' key -> ours.

    >>> rename("NeighConsensus.conv.2.weight"), rename("FeatureExtraction.vgg.6.22.bn3.bias")
    ('consensus.layers.1.weight', 'backbone.net.layer3.22.bn3.bias')
    """
    parts = key.split(".")
    match parts:
        case ["NeighConsensus", "conv", number, part] if number.isdecimal():
            return f"consensus.layers.{int(number) // 2}.{part}"  # every other entry is a ReLU
        case ["FeatureExtraction", "model" | "vgg", number, *rest] if number in STAGES:
            return ".".join(("backbone.net", STAGES[number], *rest))
    return key


def arguments(state: Mapping[str, Tensor]) -> dict[str, Any]:
    """Arguments of ``NCNet`` for these weights.

    Raises:
        InputError: not weights of NC-Net, or of fewer convolutions or another backbone than for PF-PASCAL.
    """
    weights = [key for key in state if key.startswith("consensus.layers.") and key.endswith(".weight")]
    if not weights:
        raise InputError("are no weights of NC-Net: there is no consensus.layers.0.weight")
    found = [tuple(state[key].shape) for key in sorted(weights)]
    width, *_, kernel = found[0]
    taps = 4 * (kernel,)
    if found != [(width, 1, *taps), (width, width, *taps), (1, width, *taps)]:
        raise InputError(f"holds NC-Net with convolutions {found}, not three as in the model for PF-PASCAL")
    if "backbone.net.layer3.22.bn3.weight" not in state:
        raise InputError(
            "holds NC-Net with another backbone than ResNet-101",
            fix="A model of another backbone is loaded from the folder that save_pretrained wrote.",
        )
    return {"layers": list(LAYERS), "kernel": kernel, "width": width}


PUBLISHED = Published(
    marker=MARKER,
    convert=convert,
    arguments=arguments,
    optional=(".num_batches_tracked", "backbone.net.fc.", "backbone.net.layer4."),
)
