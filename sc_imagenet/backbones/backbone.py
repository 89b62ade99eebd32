"""Frozen or trained image networks that models read features from: any of timm's, at chosen layers.

What a layer's number means depends on the network:

    ResNets        hyperpixel ids (Min et al., ICCV 2019): 0 is the output of the stem's max-pooling, k is the
                   k-th residual block, taken BEFORE the block's last ReLU unless ``activated`` is asked for
    EfficientNets  0 is the stem, k the k-th stage of blocks
    all others     the entries of timm's ``feature_info``: stages of a CNN, blocks of a ViT

Layers that nobody reads are not computed. A ResNet keeps their weights, so that published checkpoints load
strictly; their ``requires_grad`` is False. Of other networks they are taken out.

Cell i of a map lies at (i + 1/2) * S / count of an image of side S only if the map's cells fill the image exactly.
A vision transformer with patches of 14 pixels sees 308 of 320; a CNN's map reaches beyond an image whose side is no
multiple of its stride, and its cells are a stride apart all the same. A backbone therefore says which side its images
must have: ``Backbone.size``, the asked one or the next that all its strides divide. Models take it as theirs.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import partial
from itertools import accumulate
from typing import Any, Literal

import torch
import torch.nn.functional as F
from timm.layers import resample_abs_pos_embed
from timm.models.resnet import ResNet
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from sc_imagenet.backbones import LITE0
from sc_imagenet.backbones.dinov2 import CELLS, has_offset, published_positions
from sc_imagenet.backbones.pretrained import LITE0_MEAN, LITE0_STD, create_network, is_fixed_size
from sc_imagenet.core.errors import InputError

COARSE = 16  # stride from which on a layer tells parts apart by itself
Layers = Sequence[int] | Literal["all"] | None
Normalisation = tuple[tuple[float, float, float], tuple[float, float, float]]  # mean, std of RGB in [0, 1]
PROBE = 64  # side of the image that channels and strides are measured with


def filled_size(size: int, strides: Sequence[int]) -> int:
    """The smallest side, from ``size`` pixels on, that cells of all ``strides`` fill exactly.

    Strides that are no multiples of one another are rounded ones: of networks that scale images for themselves
    (CrossViT) and fill any size.

    >>> filled_size(320, [14]), filled_size(240, [16, 32]), filled_size(240, [16]), filled_size(240, [12, 17])
    (322, 256, 240, 240)
    """
    step = math.lcm(*strides)
    return -(-size // step) * step if step in strides else size


class Backbone(nn.Module):
    """A network read at ``layers``; ``forward`` gives one map (B, C, h, w) for each, in that order."""

    net: Any
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    has_class_token = False  # a vision transformer's; read by ``with_class_token``

    def __init__(self, name: str, net: Any, layers: Sequence[int], normalisation: Normalisation | None = None) -> None:
        super().__init__()
        self.name = name
        self.net = net
        self.layers = tuple(layers)
        self.channels: tuple[int, ...] = ()  # of each layer
        self.strides: tuple[int, ...] = ()  # pixels between cells, of each layer
        self.shares: tuple[float, ...] = ()  # of each map in a similarity; (): equal ones
        self.size = self.asked_size = 0  # side of its images, and the side that was asked for
        if normalisation is not None:
            self.mean, self.std = normalisation
        elif name.split(".")[0] == LITE0:
            self.mean, self.std = (LITE0_MEAN,) * 3, (LITE0_STD,) * 3
        else:
            self.mean, self.std = net.pretrained_cfg["mean"], net.pretrained_cfg["std"]

    @torch.no_grad()
    def _measure(self) -> None:
        """Set ``channels`` and ``strides`` from what the network gives for a small black image."""
        training = self.training
        maps = self.eval()(torch.zeros(1, 3, PROBE, PROBE))
        self.train(training)
        self.channels = tuple(features.shape[1] for features in maps)
        self.strides = tuple(PROBE // features.shape[-1] for features in maps)

    def settle_size(self, size: int, overhang: bool) -> None:
        """Set ``size`` to the side from ``size`` pixels on that the maps fill; see ``build_backbone``."""
        self.size = filled_size(size, self.strides)
        grid = filled_size(size, [stride for stride in self.strides if stride <= COARSE] or [min(self.strides)])
        if overhang and grid < self.size and self._overhangs(grid):
            self.size = grid

    def _overhangs(self, size: int) -> bool:
        """Whether the cells of every layer reach at least to the end of images of a side they do not divide."""
        return True

    @property
    def size_note(self) -> str | None:
        """One line for a person where images have another side than was asked for."""
        if self.size == self.asked_size:
            return None
        cells = " and ".join(map(str, sorted(set(self.strides))))
        return f"{self.name}: images of {self.size} px a side, not {self.asked_size}: cells of {cells} px fill them"


class HyperpixelResNet(Backbone):
    """A ResNet read before or after the last ReLU of its residual blocks."""

    def __init__(
        self,
        name: str,
        net: Any,
        layers: Layers,
        finest: int = COARSE,
        activated: bool = False,
        remade: bool = False,
    ) -> None:
        blocks = [*net.layer1, *net.layer2, *net.layer3, *net.layer4]
        if layers is None:
            ends = accumulate(len(stage) for stage in (net.layer1, net.layer2, net.layer3, net.layer4))
            layers = [end for end, stride in zip(ends, (4, 8, 16, 32)) if stride >= finest]
        super().__init__(name, net, checked_layers(layers, len(blocks) + 1, name))
        self._blocks = blocks[: max(self.layers)]
        self._activated = activated
        self._remade = remade
        # The last activation is taken out of the block and applied here, before or after the features are read.
        self._activations = []
        for number, block in enumerate(self._blocks, 1):
            last = "act3" if hasattr(block, "act3") else "act2"
            activation = getattr(block, last)
            setattr(block, last, nn.Identity())
            if hasattr(activation, "inplace"):
                activation.inplace = activated or number not in self.layers
            self._activations.append(activation)
        for part in (*blocks[max(self.layers) :], net.fc):
            part.requires_grad_(False)
        self._measure()

    def forward(self, images: Tensor) -> list[Tensor]:
        """Images (B, 3, S, S) -> features of each layer."""
        if self._remade and torch.is_grad_enabled():
            contexts = partial(_statistics_once, self.net)
            x = checkpoint(self._begin, images, use_reentrant=False, preserve_rng_state=False, context_fn=contexts)
        else:
            x = self._begin(images)
        maps = [x] if 0 in self.layers else []
        for number in range(max(self.layers[0], 1), len(self._blocks) + 1):
            block, activation = self._blocks[number - 1], self._activations[number - 1]
            x = block(x)
            if self._activated:
                x = activation(x)
            if number in self.layers:
                maps.append(x)
                if number == self.layers[-1]:
                    break
            if not self._activated:
                x = activation(x)
        return maps

    def _begin(self, images: Tensor) -> Tensor:
        """Images -> what the first block that is read is given."""
        net = self.net
        x = net.maxpool(net.act1(net.bn1(net.conv1(images))))
        for block, activation in zip(self._blocks[: max(self.layers[0] - 1, 0)], self._activations):
            x = activation(block(x))
        return x


def _statistics_once(net: nn.Module) -> tuple[AbstractContextManager[None], AbstractContextManager[None]]:
    """Contexts of a pass and of the same pass made again, in which batch norms do not count the batch once more."""
    return nullcontext(), _uncounted(net)


@contextmanager
def _uncounted(net: nn.Module) -> Iterator[None]:
    norms = [part for part in net.modules() if isinstance(part, nn.BatchNorm2d)]
    counted = [(norm.momentum, norm.num_batches_tracked) for norm in norms]
    for norm in norms:
        norm.momentum, norm.num_batches_tracked = 0.0, None
    try:
        yield
    finally:
        for norm, (momentum, batches) in zip(norms, counted):
            norm.momentum, norm.num_batches_tracked = momentum, batches


class StagedBackbone(Backbone):
    """Any other timm network, read at its stages or blocks."""

    def __init__(self, name: str, net: Any, layers: Layers, finest: int = COARSE, final_norm: bool = False) -> None:
        if not hasattr(net, "forward_intermediates"):
            raise InputError(f"backbone {name!r} gives no intermediate features in this timm", fix="Take another.")
        options: dict[str, bool] = {}
        if "extra_blocks" in inspect.signature(net.forward_intermediates).parameters:
            options["extra_blocks"] = True
        count = len(net.blocks) + 1 if options else len(net.feature_info)
        super().__init__(name, net, checked_layers(range(count) if layers is None else layers, count, name))
        self._options, self._norm = options, False
        if options:
            self._measure()
        else:
            self.channels = tuple(int(net.feature_info[index]["num_chs"]) for index in self.layers)
            self.strides = tuple(int(net.feature_info[index]["reduction"]) for index in self.layers)
        if layers is None:  # what nearest neighbours can tell parts apart by: the coarse layers, or the last
            pyramid = len(set(self.strides)) > 1
            kept = [n for n, stride in enumerate(self.strides) if pyramid and stride >= finest] or [count - 1]
            self.layers, self.channels, self.strides = (
                tuple(values[n] for n in kept) for values in (self.layers, self.channels, self.strides)
            )
        self.has_class_token = getattr(net, "cls_token", None) is not None and bool(
            {"return_prefix_tokens", "norm"} <= inspect.signature(net.forward_intermediates).parameters.keys()
        )
        self._norm = final_norm and self.has_class_token
        net.prune_intermediate_layers(list(self.layers), prune_norm=not self._norm, prune_head=True, **options)
        head = getattr(net, "head", None)
        if isinstance(head, nn.Module):  # pruning may leave a norm in it that nobody reads
            head.requires_grad_(False)

    @torch.no_grad()
    def _overhangs(self, size: int) -> bool:
        training = self.training
        maps = self.eval()(torch.zeros(1, 3, size, size))
        self.train(training)
        return all(features.shape[-1] * stride >= size for features, stride in zip(maps, self.strides))

    def forward(self, images: Tensor) -> list[Tensor]:
        """Images (B, 3, S, S) -> features of each layer."""
        options = {**self._options, **({"norm": True} if self._norm else {})}
        maps = self.net.forward_intermediates(
            images, indices=list(self.layers), stop_early=True, intermediates_only=True, **options
        )
        return self._filling(maps, images)

    def _filling(self, maps: Sequence[Tensor], images: Tensor) -> list[Tensor]:
        """Maps of networks without padding (Inception) have no cells at the rim: the outermost ones stand for them."""
        if not self.strides:  # they are being measured
            return list(maps)
        filled = []
        for features, stride in zip(maps, self.strides):
            down, across = (
                max(length // stride - count, 0) for length, count in zip(images.shape[2:], features.shape[2:])
            )
            if down or across:
                rim = (across // 2, across - across // 2, down // 2, down - down // 2)
                features = F.pad(features, rim, mode="replicate")
            filled.append(features)
        return filled

    def with_class_token(self, images: Tensor) -> tuple[list[Tensor], Tensor]:
        """Images (B, 3, S, S) -> features of each layer, and the class token (B, C) of the last one.

        Only where ``has_class_token``; with ``final_norm`` both are what the network's last norm makes of them.
        """
        read = self.net.forward_intermediates(
            images,
            indices=list(self.layers),
            stop_early=True,
            intermediates_only=True,
            return_prefix_tokens=True,
            norm=self._norm,
        )
        return self._filling([features for features, _ in read], images), read[-1][1][:, 0]


def build_backbone(
    name: str,
    layers: Layers = None,
    size: int = 224,
    pretrained: bool | str = True,
    finest: int = COARSE,
    activated: bool = False,
    final_norm: bool = False,
    overhang: bool = False,
    remade: bool = False,
) -> Backbone:
    """A backbone by timm's name.

    Args:
        name: such as ``resnet101.tv_in1k``, ``tf_efficientnet_lite0`` or ``vit_base_patch14_dinov2``.
        layers: numbers as the head of this file says, negative ones from the end; None takes the coarse ones:
            the ends of a ResNet's stages, and of other CNNs all, from stride ``finest`` on, the last block of a ViT;
            "all" takes every one.
        size: input side that is asked for; the backbone's own ``size`` is the next that the strides of all layers
            divide.
        pretrained: see ``create_network``.
        finest: smallest stride that counts as coarse where no layers are given.
        activated: read the blocks of a ResNet after their last ReLU; without effect on other networks.
        final_norm: read a vision transformer after its last norm; by default blocks are read as they are.
        overhang: for models that lay coarser maps over the finest corner on corner, as the published ones for images
            of 240 pixels do: cells of more than 16 pixels may reach beyond the image, the others must fill it.
        remade: of a ResNet, keep nothing of what lies before the first layer for the gradient, but make it again: for
            large images, whose finest maps take most memory and little time.

    >>> small = build_backbone("resnet10t", [0, 3], pretrained=False)
    >>> small.layers, small.channels, small.strides
    ((0, 3), (64, 256), (4, 16))

    Raises:
        InputError: unknown name, no such layer, or weights that cannot be had.
    """
    net, built_for = _network(name, pretrained, size)
    backbone: Backbone
    if isinstance(net, ResNet):
        backbone = HyperpixelResNet(name, net, layers, finest, activated, remade)
    else:
        # Depthwise convolutions on the CPU are a third faster with channels last. ResNets stay as they are: their
        # sums are those of the published codes.
        backbone = StagedBackbone(name, net.to(memory_format=torch.channels_last), layers, finest, final_norm)
    backbone.settle_size(built_for, overhang)
    backbone.asked_size = size
    return backbone


def _network(name: str, pretrained: bool | str, size: int) -> tuple[Any, int]:
    """A network, and the side of images that it was built for: one of fixed size is filled by all its stages."""
    if not is_fixed_size(name):
        return create_network(name, pretrained, size), size
    refused: InputError | None = None
    try:
        net = create_network(name, pretrained, size)
    except InputError as error:  # some refuse to be built for images that their cells do not fill
        net, refused = create_network(name, False, None), error
    filled = filled_size(size, [int(stage["reduction"]) for stage in getattr(net, "feature_info", ())] or [1])
    if filled != size:
        return create_network(name, pretrained, filled), filled
    if refused is not None:
        raise refused
    return net, size


def last_blocks(net: Any, count: int) -> list[nn.Module]:
    """The last blocks of a vision transformer, or the last stages of a CNN."""
    if isinstance(getattr(net, "blocks", None), nn.Sequential):
        blocks = list(net.blocks)
    else:  # a CNN's named stages
        blocks = [part for name, part in net.named_children() if name.startswith(("layer", "stages_"))]
    return blocks[len(blocks) - count :] if count else []


def with_positions_of(model: nn.Module, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Weights with position embeddings interpolated to the grids that the backbones in ``model`` have.

    A vision transformer saved for images of another size has them on another grid; all else of it is the same.
    """
    fitting = dict(state)
    for path, part in model.named_modules():
        key = f"{path}.net.pos_embed" if path else "net.pos_embed"
        if isinstance(part, Backbone) and key in fitting:
            fitting[key] = _positions_of(part.net, fitting[key], has_offset(part.name))
    return fitting


def _positions_of(net: Any, given: Tensor, offset: bool) -> Tensor:
    """Position embeddings (1, N, C) on the grid that ``net`` has; as they are if they are no such."""
    own, grid = net.pos_embed, getattr(getattr(net, "patch_embed", None), "grid_size", None)
    if not (isinstance(own, Tensor) and grid and given.ndim == own.ndim == 3 and given.shape[::2] == own.shape[::2]):
        return given
    prefix = own.shape[1] - math.prod(grid)  # class and register tokens, where they have positions
    cells = given.shape[1] - prefix
    if prefix < 0 or given.shape[1] == own.shape[1] or cells < 1 or math.isqrt(cells) ** 2 != cells:
        return given
    if offset and cells == CELLS**2:
        return published_positions(given, grid)
    return resample_abs_pos_embed(given, new_size=list(grid), num_prefix_tokens=prefix)


def checked_layers(layers: Sequence[int] | Literal["all"], count: int, name: str) -> list[int]:
    """Layers as ascending numbers from 0."""
    if layers == "all":
        layers = range(count)
    if not layers or any(not isinstance(layer, int) or not -count <= layer < count for layer in layers):
        raise InputError(f"layers {list(layers)} of backbone {name!r}", fix=f"Valid: 0 to {count - 1}")
    return sorted({layer % count for layer in layers})
