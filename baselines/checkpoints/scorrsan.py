"""Checkpoints of SCorrSAN's published code, which keeps one of the two networks; the authors released none."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from baselines.checkpoints.published import Published
from baselines.scorrsan import RESNET101_LAYER, UPSAMPLING
from sc_imagenet.backbones.weight_files import State
from sc_imagenet.core.errors import InputError

# Beginnings of the authors' keys and of ours; the file holds the first network.
RENAMED = {
    "feature_extraction.backbone.": "backbone.0.net.",
    "SCEs.0.": "heads.0.encoder.",
    "x_normal": "heads.0.x_normal",
    "y_normal": "heads.0.y_normal",
}
CONV = "heads.0.encoder.conv.weight"
LINES = 4  # of cells that a cell is compared with
CHANNELS = 1024  # of the layer that is read


def convert(state: State) -> State:
    """The authors' state under our keys."""
    return {rename(key): value for key, value in state.items()}


def rename(key: str) -> str:
    """The authors' key -> ours.

    >>> rename("feature_extraction.backbone.conv1.weight"), rename("SCEs.0.conv.bias")
    ('backbone.0.net.conv1.weight', 'heads.0.encoder.conv.bias')
    """
    for theirs, ours in RENAMED.items():
        if key.startswith(theirs):
            return ours + key.removeprefix(theirs)
    return key


def arguments(state: Mapping[str, Tensor]) -> dict[str, Any]:
    """Arguments of ``SCorrSAN`` for these weights.

    Raises:
        InputError: not weights of SCorrSAN, or of another backbone than the published one.
    """
    needed = (CONV, "heads.0.x_normal", "heads.0.y_normal")
    if missing := [key for key in needed if key not in state]:
        raise InputError(f"are no weights of SCorrSAN: there is no {missing[0]}")
    width, channels = state[CONV].shape[:2]
    context, rest = divmod(channels - CHANNELS, LINES)
    if rest or context < 1 or "backbone.0.net.layer3.22.bn3.weight" not in state:
        raise InputError(
            f"holds SCorrSAN with {channels} channels before its encoder's convolution, not the published ResNet-101",
            fix="A model of another backbone is loaded from the folder that save_pretrained wrote.",
        )
    return {
        "layers": [RESNET101_LAYER],
        "size": 16 * state["heads.0.x_normal"].numel() // UPSAMPLING,
        "context": context,
        "width": width,
    }


PUBLISHED = Published(
    marker=("feature_extraction.backbone.", "SCEs."),
    convert=convert,
    arguments=arguments,
    optional=(".num_batches_tracked", "backbone.0.net.fc."),
)
