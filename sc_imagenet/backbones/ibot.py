"""Weights of iBOT's released teachers (Zhou et al., ICLR 2022) for timm's vision transformers.

The teacher lies under ``state_dict`` or ``teacher``; its backbone has DINO's key names, which are timm's, behind
``backbone.``. The heads and the embedding of masked patches served pre-training only.
"""

from __future__ import annotations

from typing import Any

from timm.layers import resample_abs_pos_embed

from sc_imagenet.backbones.weight_files import State, shortened
from sc_imagenet.core.errors import InputError

PREFIX = "backbone."
PRETRAINING_ONLY = ("head.", "head2.", "masked_embed")


def is_ibot(state: State) -> bool:
    """Whether weights are those of an iBOT (or DINO) teacher with its ``backbone.`` prefix, or stripped of it.

    >>> is_ibot({"backbone.cls_token": None, "backbone.pos_embed": None}), is_ibot({"conv1.weight": None})
    (True, False)
    """
    return f"{PREFIX}cls_token" in state or ("cls_token" in state and "masked_embed" in state)


def load_ibot(net: Any, state: State, where: object) -> None:
    """Load an iBOT teacher into a timm vision transformer without a classifier; positions are interpolated.

    Raises:
        InputError: keys are missing, not known, or of another shape (the message names them).
    """
    named = {key.removeprefix(PREFIX): value for key, value in state.items()}
    named = {key: value for key, value in named.items() if not key.startswith(PRETRAINING_ONLY)}
    wanted = net.state_dict()
    if "pos_embed" in named and "pos_embed" in wanted and named["pos_embed"].shape[-1] == wanted["pos_embed"].shape[-1]:
        named["pos_embed"] = resample_abs_pos_embed(
            named["pos_embed"], new_size=list(net.patch_embed.grid_size), num_prefix_tokens=net.num_prefix_tokens
        )
    shapes = [key for key in named.keys() & wanted.keys() if named[key].shape != wanted[key].shape]
    for what, keys in (
        ("lacks", wanted.keys() - named.keys()),
        ("has unknown", named.keys() - wanted.keys()),
        ("has another shape of", shapes),
    ):
        if keys:
            raise InputError(
                f"{what} {shortened(sorted(keys))}",
                where=where,
                fix="An iBOT teacher fits the ViT it was trained as: ViT-B/16 is vit_base_patch16_224.",
            )
    net.load_state_dict(named)
