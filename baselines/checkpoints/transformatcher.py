"""Checkpoints of TransforMatcher's authors: one network whose convolutions hold two, the source's and the target's."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from baselines.checkpoints.published import Published
from baselines.transformatcher import FREQUENCIES, LAYERS
from sc_imagenet.backbones.weight_files import State
from sc_imagenet.core.errors import InputError

MARKER = "match2match.to_embedding."

INSIDE = {
    "to_embedding.1.": "embed.",
    "to_original.0.": "readout.",
    "0.norm.": "norm1.",
    "1.norm.": "norm2.",
    "0.fn.to_qkv.": "attention.qkv.",
    "0.fn.to_q_attn_logits.": "attention.query_score.",
    "0.fn.to_k_attn_logits.": "attention.key_score.",
    "0.fn.to_r.": "attention.mix.",
    "0.fn.to_out.": "attention.proj.",
    "1.fn.": "mlp.",
}


def convert(state: State) -> State:
    """The authors' state under our keys, the two networks apart.

    Convolutions and batch norms hold the source's channels first, then the target's; the classifier is there
    once. The rotary frequencies, which files of some versions hold, are constants of the model.

    Raises:
        InputError: other rotary frequencies than those of the model.
    """
    ours: State = {}
    for key, value in state.items():
        if key.endswith(".pos_emb.freqs"):
            if not torch.allclose(value.float(), torch.pi * torch.tensor(FREQUENCIES), rtol=1e-2):
                raise InputError(f"{key} is {value.tolist()}, not pi and 5 pi: another rotary embedding")
        elif key.startswith("backbone.") and not key.startswith("backbone.fc.") and value.dim():
            if len(value) % 2:
                raise InputError(f"{key} holds {len(value)} channels, not those of two networks")
            for name, half in zip(rename(key), value.chunk(2)):
                ours[name] = half
        else:
            for name in rename(key):
                ours[name] = value
    return ours


def rename(key: str) -> list[str]:
    """The authors' key -> ours: two for a weight of the backbones, none for the rotary frequencies.

    >>> rename("backbone.bn1.bias")
    ['backbone.source.net.bn1.bias', 'backbone.target.net.bn1.bias']
    >>> rename("match2match.trans_nc.3.1.fn.0.bias")
    ['match2match.blocks.3.mlp.0.bias']
    """
    if key.endswith(".pos_emb.freqs"):
        return []
    if key.startswith("backbone."):
        sides = ("source",) if key.startswith("backbone.fc.") else ("source", "target")
        return [f"backbone.{side}.net.{key.removeprefix('backbone.')}" for side in sides]
    block = re.match(r"match2match\.trans_nc\.(\d+)\.", key)
    before = f"match2match.blocks.{block[1]}." if block else "match2match."
    rest = key[block.end() :] if block else key.removeprefix("match2match.")
    for theirs, name in INSIDE.items():
        if rest.startswith(theirs):
            return [before + name + rest.removeprefix(theirs)]
    return [key]


def arguments(state: Mapping[str, Tensor]) -> dict[str, Any]:
    """Arguments of ``TransforMatcher`` for these weights.

    Raises:
        InputError: not weights of TransforMatcher, or of a backbone that the authors did not use.
    """
    if "match2match.embed.weight" not in state:
        raise InputError("are no weights of TransforMatcher: there is no match2match.embed.weight")
    levels = state["match2match.embed.weight"].shape[-1]
    if levels != len(LAYERS) or "backbone.source.net.layer3.22.bn3.weight" not in state:
        raise InputError(
            f"holds TransforMatcher with {levels} layers, not the published ResNet-101 model",
            fix="A model of another backbone is loaded from the folder that save_pretrained wrote.",
        )
    depth = len({key.split(".")[2] for key in state if key.startswith("match2match.blocks.")})
    return {"layers": list(LAYERS), "depth": depth}


PUBLISHED = Published(
    marker=MARKER,
    convert=convert,
    arguments=arguments,
    optional=(".num_batches_tracked", "backbone.source.net.fc.", "match2match.posenc"),
)
