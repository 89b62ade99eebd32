"""Frozen backbones as a person names them: one network or several, each with its options.

    vit_base_patch14_dinov2.lvd142m                        a network of timm
    vit_base_patch14_dinov2 layers=8,11 final_norm=true    read at other layers
    dift model=FOLDER ensemble=2                           a diffusion model (see ``diffusion.py``)
    sd15 size=960 + vit_base_patch14_dinov2 size=840       features of both, each over its norm, side by side

Several networks give one map each: the layers of a network are brought to its finest grid and concatenated as they
are. ``weight`` is a network's part in the similarity, which is the weighted mean of the networks' cosines.
"""

from __future__ import annotations

import shlex
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any, Literal, get_args, get_origin, get_type_hints

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sc_imagenet.backbones.backbone import Backbone, Layers, build_backbone
from sc_imagenet.backbones.diffusion import DIFFUSION, Diffusion, build_diffusion, folder_files
from sc_imagenet.core.errors import InputError, unknown_name

RAW = ((0.0, 0.0, 0.0), (1.0, 1.0, 1.0))  # images in [0, 1]; each network normalises its own


@dataclass(frozen=True)
class NamedBackbone:
    """One network and what a person said of it."""

    name: str
    layers: tuple[int, ...] | None = None  # None: the network's usual ones
    size: int | None = None  # side of its images; None: the one asked of all
    weight: float = 1.0  # of its cosines among those of several networks
    weights: str | None = None  # a file, in place of its own weights
    final_norm: bool = False  # of a transformer, over what is read
    how: Diffusion | None = None  # of a diffusion model

    def build(self, layers: Layers, size: int, pretrained: bool | str) -> Backbone:
        """The network, read at its own ``layers`` and size or else at those given."""
        layers, size = layers if self.layers is None else self.layers, self.size or size
        weights = self.weights if self.weights and pretrained else pretrained
        if self.how is not None:
            return build_diffusion(self.name, self.how, layers, size, weights)
        return build_backbone(self.name, layers, size, weights, final_norm=self.final_norm)

    @property
    def files(self) -> list[Path]:
        """Local files that its features depend on."""
        own = [Path(self.weights).expanduser()] if self.weights else []
        return own + (folder_files(self.how) if self.how is not None else [])


def parse_backbone(text: str) -> list[NamedBackbone]:
    """The networks that a text names.

    >>> [each.name for each in parse_backbone("resnet18 weight=0.5 + resnet26")]
    ['resnet18', 'resnet26']
    >>> parse_backbone("dift prompt='a photo of a cat'")[0].how.prompt
    'a photo of a cat'

    Raises:
        InputError: no name, an unknown option, or a value of another kind.
    """
    try:
        words = shlex.split(text)
    except ValueError as error:
        raise InputError(f"backbone {text!r}: {error}", fix="Quotation marks come in pairs.") from error
    groups: list[list[str]] = [[]]
    for word in words:
        if word == "+":
            groups.append([])
        else:
            groups[-1].append(word)
    if any(not group or "=" in group[0] for group in groups):
        fix = "Write NAME KEY=VALUE ... for each, ' + ' between two."
        raise InputError(f"backbone {text!r} lacks a name", fix=fix)
    return [_parsed(name, options) for name, *options in groups]


def _parsed(name: str, options: list[str]) -> NamedBackbone:
    how = DIFFUSION.get(name)
    own = {each.name for each in fields(NamedBackbone)} - {"name", "how"}
    kinds = {key: kind for key, kind in get_type_hints(NamedBackbone).items() if key in own}
    if how is not None:  # it has no norm at its end, and its own default layers
        own.discard("final_norm")
        kinds |= {key: kind for key, kind in get_type_hints(Diffusion).items() if key != "layers"}
        del kinds["final_norm"]
    given: dict[str, Any] = {}
    for option in options:
        key, sign, value = option.partition("=")
        if key not in kinds or not sign:
            raise unknown_name(f"option of backbone {name}", option if not sign else key, kinds)
        given[key] = _value(f"backbone {name!r} with {option}", kinds[key], value)
    if how is not None:
        how = replace(how, **{key: value for key, value in given.items() if key not in own})
    return NamedBackbone(name, how=how, **{key: value for key, value in given.items() if key in own})


def _value(what: str, kind: Any, text: str) -> Any:
    """A value of one of the kinds that options have."""
    if get_origin(kind) is Literal:
        if text not in get_args(kind):
            raise InputError(what, fix=f"Valid: {', '.join(get_args(kind))}")
        return text
    plain = next((each for each in get_args(kind) if each is not type(None)), kind)
    try:
        if get_origin(plain) is tuple:
            return tuple(int(each) for each in text.split(","))
        if plain is bool:
            return {"true": True, "false": False}[text.lower()]
        value = plain(text)
    except (KeyError, ValueError) as error:
        wanted = {bool: "true or false", int: "a whole number", float: "a number"}.get(plain, "numbers, such as 8,11")
        raise InputError(what, fix=f"Give {wanted}.") from error
    if plain in (int, float) and not 0 <= value < 2**31:
        raise InputError(what, fix="Give a number from 0 on.")
    return value


def backbone_files(text: str) -> list[Path]:
    """Local files that the features of a backbone depend on: weights, folders of diffusion models."""
    return [path for each in parse_backbone(text) for path in each.files]


class FusedBackbone(Backbone):
    """Several frozen networks, one map each; images are in [0, 1], of the side that the largest of them wants."""

    net: Any

    def __init__(self, text: str, branches: list[Backbone], shares: list[float]) -> None:
        super().__init__(text, nn.ModuleList(branches), range(len(branches)), RAW)
        self.shares = tuple(shares)
        self.size = self.asked_size = max(branch.size for branch in branches)
        self.channels = tuple(sum(branch.channels) for branch in branches)
        self.strides = tuple(max(1, round(min(each.strides) * self.size / each.size)) for each in branches)

    def forward(self, images: Tensor) -> list[Tensor]:
        """Images (B, 3, S, S) in [0, 1] -> a map of each network, the channels of all its layers."""
        return [self._map(branch, images) for branch in self.net]

    def _map(self, branch: Backbone, images: Tensor) -> Tensor:
        if images.shape[-1] != branch.size:
            side = (branch.size, branch.size)
            images = F.interpolate(images, side, mode="bilinear", antialias=images.shape[-1] > branch.size)
        mean, std = (images.new_tensor(each).view(1, 3, 1, 1) for each in (branch.mean, branch.std))
        maps = branch((images - mean) / std)
        finest = max((features.shape[-2:] for features in maps), key=lambda each: each[-1])
        return torch.cat(
            [each if each.shape[-2:] == finest else F.interpolate(each, finest, mode="bilinear") for each in maps], 1
        )


def build_named(text: str, layers: Layers = None, size: int = 224, pretrained: bool | str = True) -> Backbone:
    """The backbone that a text names, as the head of this file says.

    >>> build_named("resnet10t layers=2 + resnet10t layers=3 weight=3", pretrained=False).shares
    (1.0, 3.0)

    Args:
        text: networks with their options.
        layers: of the one network, unless the text says so; None: its usual ones.
        size: side of the images, unless the text says so.
        pretrained: as for ``build_backbone``; files of several networks' weights stand in the text.

    Raises:
        InputError: see ``parse_backbone``, ``build_backbone`` and ``build_diffusion``.
    """
    named = parse_backbone(text)
    if len(named) == 1:
        return named[0].build(layers, size, pretrained)
    if layers is not None:
        raise InputError(f"layers {layers!r} of several backbones", fix="Write layers=... behind each one's name.")
    if isinstance(pretrained, str):
        raise InputError("one file of weights for several backbones", fix="Write weights=FILE behind its name.")
    shares = [each.weight for each in named]
    if not sum(shares) > 0:
        raise InputError(f"backbone {text!r} gives no network a weight", fix="Leave weight=... out, or give 1.")
    return FusedBackbone(text, [each.build(None, size, pretrained) for each in named], shares)


def is_of_timm(text: str) -> bool:
    """Whether a text is no more than the name of one network of timm's.

    >>> is_of_timm("resnet18"), is_of_timm("dift"), is_of_timm("resnet18 + resnet26")
    (True, False, False)
    """
    return text not in DIFFUSION and text.split() == [text]
