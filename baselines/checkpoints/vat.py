"""The checkpoints that VAT's authors published for semantic correspondence: ResNet-101 at 512 px."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from torch import Tensor

from baselines.checkpoints.published import Published
from baselines.vat import PUBLISHED_LAYERS, WINDOW, WINDOW_2D
from sc_imagenet.backbones.weight_files import State
from sc_imagenet.core.errors import InputError

THEIRS = "hpn_learner.ours."
OWN = re.escape(THEIRS)
TABLES = (".relative_position_index", ".attn_mask")  # in the files, computed here

RENAMED = (
    (r"backbone\.", r"backbone.net."),
    (OWN + r"encoders\.(\d)\.conv4d\.(\d)\.0\.", r"encoders.\1.layers.\2."),
    (OWN + r"encoders\.(\d)\.conv4d\.(\d)\.1\.", r"encoders.\1.layers.\2.norm."),
    (OWN + r"transformer\.(\d)\.transformer\.(query|supp)_pos_embed", r"transformers.\1.\2_pos"),
    (OWN + r"transformer\.(\d)\.transformer\.(?:layer\.)?", r"transformers.\1."),
    (OWN + r"swin_decoder\.(\d)\.0\.transformer\.(?:layers\.0\.)?", r"decoders.\1."),
    (OWN + r"swin_decoder\.(\d)\.1\.", r"narrow.\1."),
    (OWN + r"decoder\.", r"head."),
    (OWN + r"proj_query_feat\.(\d)\.0\.", r"guidance.\1."),
)


def convert(state: State) -> State:
    """The authors' state under our keys, without the tables of window offsets and masks.

    Raises:
        InputError: a table is not that of our windows, so that the weights would mean something else.
    """
    for key, value in state.items():
        tokens = WINDOW_2D**2 if ".swin_decoder." in key else WINDOW**4
        if key.endswith(TABLES) and tuple(value.shape[-2:]) != (tokens, tokens):
            raise InputError(f"{key} is {'x'.join(map(str, value.shape))}: windows of {tokens} tokens are known")
    return {rename(key): value for key, value in state.items() if not key.endswith(TABLES)}


def rename(key: str) -> str:
    """The authors' key -> ours.

    >>> rename("hpn_learner.ours.transformer.0.transformer.layer.blocks.3.attn.qkv.weight")
    'transformers.0.blocks.3.qkv.weight'
    >>> rename("hpn_learner.ours.encoders.2.conv4d.1.0.supp_conv.bias"), rename("backbone.conv1.weight")
    ('encoders.2.layers.1.supp_conv.bias', 'backbone.net.conv1.weight')
    """
    for theirs, ours in RENAMED:
        key, found = re.subn(f"^{theirs}", ours, key)
        if found:
            return key.replace(".attn.", ".").replace(".mlp.", ".")
    return key


def arguments(state: Mapping[str, Tensor]) -> dict[str, Any]:
    """Arguments of ``VAT`` for these weights.

    Raises:
        InputError: not weights of VAT, or of a backbone that the authors did not publish.
    """
    needed = ("transformers.2.query_pos", "transformers.2.blocks.0.qkv.weight", "backbone.net.layer3.22.bn3.weight")
    if missing := [key for key in needed if key not in state]:
        raise InputError(f"are no published weights of VAT: there is no {missing[0]}")
    return {
        "layers": list(PUBLISHED_LAYERS),
        "size": 16 * state[needed[0]].shape[2],
        "width": state[needed[1]].shape[1],
    }


PUBLISHED = Published(marker=THEIRS, convert=convert, arguments=arguments)
