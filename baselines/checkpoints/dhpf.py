"""The checkpoints that DHPF's authors published: the learner alone, for a ResNet-101 or a ResNet-50."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from baselines.checkpoints.published import Published
from sc_imagenet.backbones.weight_files import State
from sc_imagenet.core.errors import InputError

OURS = {"reduction_ffns.": "reductions.", "gumbel_ffns.": "gates."}
BACKBONES = {34: "resnet101.tv_in1k", 17: "resnet50.tv_in1k"}  # by candidate layers


def convert(state: State) -> State:
    """The authors' state under our keys."""
    return {rename(key): value for key, value in state.items()}


def rename(key: str) -> str:
    """The authors' key -> ours.

    >>> rename("reduction_ffns.0.1.weight"), rename("gumbel_ffns.33.3.weight")
    ('reductions.0.1.weight', 'gates.33.3.weight')
    """
    head, dot, rest = key.partition(".")
    return OURS.get(head + dot, head + dot) + rest


def arguments(state: Mapping[str, Tensor]) -> dict[str, Any]:
    """Arguments of ``DHPF`` for these weights.

    Raises:
        InputError: not weights of DHPF, or of a backbone that the authors did not publish.
    """
    layers = sum(key.startswith("gates.") and key.endswith(".3.weight") for key in state)
    if not layers:
        raise InputError("are no weights of DHPF: there is no gates.0.3.weight")
    if layers not in BACKBONES:
        raise InputError(
            f"holds DHPF with {layers} candidate layers; the published models have 34 (ResNet-101) or 17 (ResNet-50)",
            fix="A model of another backbone is loaded from the folder that save_pretrained wrote.",
        )
    return {"backbone": BACKBONES[layers]}


PUBLISHED = Published(marker="reduction_ffns.", convert=convert, arguments=arguments, backbone=False)
