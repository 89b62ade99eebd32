"""Separable 4-D convolutions of correlation volumes, each followed by group norm and ReLU (VAT, section 3.2).

    conv4d(x) = conv2d over the target of (x max-pooled over the source) + conv2d over the source of (x max-pooled
    over the target), pools and convolutions with the strides of the two images

A volume between two layers is large, and cheap to make again from what went into the group norm: only that is kept.
Normalised values live for a few rows of the target at a time, are convolved over the source, pooled for the
convolution over the target, and forgotten; the gradient makes them again. Volumes are (B, h, w, h', w', C),
target's grid first.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sc_imagenet.geometry.correlation import at_once
from sc_imagenet.geometry.pooled_correlation import pooled_correlation

CHUNK = 1 << 21  # values of a volume that are normalised and convolved at once on a processor
EPS = 1e-5


def cells_of(volume: Tensor) -> Iterator[tuple[int, slice, Tensor]]:
    """Item of the batch, some cells of the grid that comes first, and their maps (cells, h, w, C)."""
    cells = volume.flatten(1, 2)
    step = max(1, at_once(CHUNK, volume.device) // volume[0, 0, 0].numel())
    for item in range(len(cells)):
        for first in range(0, cells.shape[1], step):
            part = slice(first, first + step)
            yield item, part, cells[item, part]


class Normalisation(NamedTuple):
    """Group norm as it is applied: x * scale + offset; all (B, C), statistics repeated for each channel."""

    mean: Tensor
    deviation: Tensor
    scale: Tensor
    offset: Tensor
    groups: int

    def rectified(self, values: Tensor, item: int) -> Tensor:
        """ReLU of the normalised values (..., C) of one item of the batch."""
        return torch.addcmul(self.offset[item], values, self.scale[item]).relu_()


def normalisation(raw: Tensor, weight: Tensor, bias: Tensor, groups: int) -> Normalisation:
    """The group norm of volumes (B, ..., C), statistics summed in double precision over chunks.

    >>> raw = torch.rand(2, 3, 3, 2, 2, 8)
    >>> norm = normalisation(raw, torch.ones(8), torch.zeros(8), groups=2)
    >>> wanted = torch.nn.functional.group_norm(raw.movedim(-1, 1), 2).movedim(1, -1).relu()
    >>> bool(torch.allclose(norm.rectified(raw[1], 1), wanted[1], atol=1e-5))
    True
    """
    sums = raw.new_zeros(2, len(raw), raw.shape[-1], dtype=torch.float64)
    for item, _, chunk in cells_of(raw):
        values = chunk.flatten(0, -2)
        sums[0, item] += values.sum(0)
        sums[1, item] += values.square().sum(0)
    per_group = sums.unflatten(-1, (groups, -1)).sum(-1) / (raw[0].numel() / groups)
    mean, square = per_group.repeat_interleave(raw.shape[-1] // groups, -1)
    deviation = (square - mean.square()).clamp(min=0).add(EPS).sqrt()
    scale = weight / deviation
    return Normalisation(mean, deviation, scale.to(raw.dtype), (bias - mean * scale).to(raw.dtype), groups)


class NormGradient:
    """The gradient of ReLU and group norm, taken in chunk by chunk; what needs all chunks is added at the end."""

    def __init__(self, norm: Normalisation, raw: Tensor) -> None:
        self.norm, self.raw = norm, raw
        self.gradient = torch.empty_like(raw)
        self.sums = torch.zeros_like(norm.mean)  # of the gradient, and of gradient * value
        self.products = torch.zeros_like(norm.mean)

    def take(self, item: int, part: slice, chunk: Tensor, hidden: Tensor, for_hidden: Tensor) -> None:
        """The gradient of a chunk's rectified values."""
        rows = self.gradient[item].flatten(0, 1)[part]
        torch.ops.aten.threshold_backward.grad_input(for_hidden, hidden, 0, grad_input=rows)
        self.sums[item] += rows.flatten(0, -2).sum(0)
        self.products[item] += (rows * chunk).flatten(0, -2).sum(0)

    def finish(self, weight: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Gradients of the values that were normalised, of the norm's weight and of its bias."""
        mean, deviation, groups = self.norm.mean, self.norm.deviation, self.norm.groups
        standardised = (self.products - mean * self.sums) / deviation
        count, size = self.raw[0].numel() / groups, self.raw.shape[-1] // groups

        def shared(values: Tensor) -> Tensor:
            return (values * weight).unflatten(-1, (groups, -1)).sum(-1).repeat_interleave(size, -1) / count

        slope = -shared(standardised) / deviation.square()
        level = -shared(self.sums) / deviation - slope * mean
        slope, level = slope.to(self.raw.dtype), level.to(self.raw.dtype)
        for item, part, chunk in cells_of(self.raw):
            rows = self.gradient[item].flatten(0, 1)[part]
            rows.mul_(self.norm.scale[item]).add_(level[item]).addcmul_(chunk, slope[item])
        return self.gradient, standardised.sum(0).to(weight.dtype), self.sums.sum(0).to(weight.dtype)


Strides = tuple[int, int]  # of the target's grid and of the source's


class Encoder4d(nn.Module):
    """Correlations of several layers -> one volume: the first layer may halve both grids, later ones the source's.

    Args:
        layers: correlations that come in.
        channels: that each layer gives.
        strides: of the first layer.
        groups: of each layer's group norm.
    """

    def __init__(self, layers: int, channels: Sequence[int], strides: Strides, groups: Sequence[int]) -> None:
        super().__init__()
        self.strides = strides
        self.layers: Any = nn.ModuleList(
            Layer4d(before, after, count) for before, after, count in zip((layers, *channels), channels, groups)
        )

    def forward(self, target: Sequence[Tensor], source: Sequence[Tensor]) -> Tensor:
        """Features of both images, lists of (B, C, h, w) -> volume (B, h, w, h', w', channels)."""
        with torch.autocast(target[0].device.type, enabled=False):
            pooled = pooled_correlation(target, source, *self.strides)
            first, *others = (layer.convolution() for layer in self.layers)
            *norms, last = (layer.normalisation() for layer in self.layers)
            raw = _FirstConvolution.apply(*pooled, *first, self.strides)
            for norm, convolution in zip(norms, others):
                raw = _NormConvolution.apply(raw, *norm, *convolution)
            return _Norm.apply(raw, *last)


class Layer4d(nn.Module):
    """The weights of a separable 4-D convolution and of the group norm behind it."""

    def __init__(self, before: int, after: int, groups: int) -> None:
        super().__init__()
        self.query_conv = nn.Conv2d(before, after, 3, padding=1)
        self.supp_conv = nn.Conv2d(before, after, 3, padding=1)
        self.norm = nn.GroupNorm(groups, after, eps=EPS)

    def convolution(self) -> tuple[Tensor | None, ...]:
        """Weight and bias over the target, then over the source."""
        return self.query_conv.weight, self.query_conv.bias, self.supp_conv.weight, self.supp_conv.bias

    def normalisation(self) -> tuple[Tensor, Tensor, int]:
        """Weight, bias and groups of the norm."""
        return self.norm.weight, self.norm.bias, self.norm.num_groups


class _FirstConvolution(torch.autograd.Function):
    """Volumes that were pooled already: (B, h'', w'', h, w, C) and (B, h, w, h', w', C) of ``pooled_correlation``."""

    @staticmethod
    def forward(
        ctx: Any,
        over_source: Tensor,
        over_target: Tensor,
        query: Tensor,
        query_bias: Tensor,
        supp: Tensor,
        supp_bias: Tensor,
        strides: Strides,
    ) -> Tensor:
        ctx.save_for_backward(over_source, over_target, query, supp)
        ctx.strides = strides
        grids = over_target.shape[1:3], over_source.shape[1:3]
        raw = over_source.new_empty(len(over_source), *grids[0], *grids[1], len(query))
        cells = raw.flatten(3, 4).flatten(1, 2)  # (B, target, source, C)
        for item, part, chunk in cells_of(over_target):
            cells[item, part] = _convolved(chunk, supp, supp_bias, strides[1]).flatten(1, 2)
        for item, part, chunk in cells_of(over_source):
            cells[item, :, part] += _convolved(chunk, query, query_bias, strides[0]).flatten(1, 2).transpose(0, 1)
        return raw

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        over_source, over_target, query, supp = ctx.saved_tensors
        grids = gradient.shape[1:3], gradient.shape[3:5]
        cells = gradient.flatten(3, 4).flatten(1, 2)
        for_source, for_target = torch.empty_like(over_source), torch.empty_like(over_target)
        for_query, for_supp = Summed(), Summed()
        for item, part, chunk in cells_of(over_target):
            back = cells[item, part].unflatten(1, grids[1])
            rows = for_target[item].flatten(0, 1)
            rows[part], *weights = _convolution_gradient(back, chunk, supp, ctx.strides[1])
            for_supp.add(weights)
        for item, part, chunk in cells_of(over_source):
            back = cells[item, :, part].transpose(0, 1).contiguous().unflatten(1, grids[0])
            rows = for_source[item].flatten(0, 1)
            rows[part], *weights = _convolution_gradient(back, chunk, query, ctx.strides[0])
            for_query.add(weights)
        return for_source, for_target, *for_query.sums, *for_supp.sums, None


class _NormConvolution(torch.autograd.Function):
    """Group norm and ReLU of what the layer before gave, and this layer's convolution, halving the source's grid."""

    @staticmethod
    def forward(
        ctx: Any,
        raw: Tensor,
        weight: Tensor,
        bias: Tensor,
        groups: int,
        query: Tensor,
        query_bias: Tensor,
        supp: Tensor,
        supp_bias: Tensor,
    ) -> Tensor:
        norm = normalisation(raw, weight, bias, groups)
        halved = [-(-side // 2) for side in raw.shape[3:5]]
        out = raw.new_empty(*raw.shape[:3], *halved, len(query))
        pooled = raw.new_empty(*raw.shape[:3], *halved, raw.shape[-1])
        for item, part, chunk in cells_of(raw):
            hidden = norm.rectified(chunk, item)
            out[item].flatten(0, 1)[part] = _convolved(hidden, supp, supp_bias, 2)
            pooled[item].flatten(0, 1)[part] = F.max_pool2d(_first(hidden), 2, ceil_mode=True).movedim(1, -1)
        out += _convolved_over_target(pooled, query, query_bias)
        ctx.save_for_backward(raw, weight, query, supp)
        ctx.norm = norm
        return out

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        raw, weight, query, supp = ctx.saved_tensors
        gradient = gradient.contiguous()
        pooled = raw.new_empty(*gradient.shape[:-1], raw.shape[-1])
        for_supp = Summed()
        for_pooled = _target_gradient(gradient, pooled, query, (True, False, False))[0]
        back = NormGradient(ctx.norm, raw)
        for item, part, chunk in cells_of(raw):
            hidden = ctx.norm.rectified(chunk, item)
            best, where = F.max_pool2d(_first(hidden), 2, ceil_mode=True, return_indices=True)
            pooled[item].flatten(0, 1)[part] = best.movedim(1, -1)
            for_hidden, *weights = _convolution_gradient(gradient[item].flatten(0, 1)[part], hidden, supp, 2)
            for_supp.add(weights)
            for_hidden += torch.ops.aten.max_pool2d_with_indices_backward(
                _first(for_pooled[item].flatten(0, 1)[part]), _first(hidden), 2, 2, 0, 1, True, where
            ).movedim(1, -1)
            back.take(item, part, chunk, hidden, for_hidden)
        for_query = _target_gradient(gradient, pooled, query, (False, True, True))[1:]
        return *back.finish(weight), None, *for_query, *for_supp.sums


class _Norm(torch.autograd.Function):
    """Group norm and ReLU."""

    @staticmethod
    def forward(ctx: Any, raw: Tensor, weight: Tensor, bias: Tensor, groups: int) -> Tensor:
        norm = normalisation(raw, weight, bias, groups)
        out = torch.empty_like(raw)
        for item, part, chunk in cells_of(raw):
            out[item].flatten(0, 1)[part] = norm.rectified(chunk, item)
        ctx.save_for_backward(raw, weight)
        ctx.norm = norm
        return out

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        raw, weight = ctx.saved_tensors
        gradient = gradient.contiguous()
        back = NormGradient(ctx.norm, raw)
        for item, part, chunk in cells_of(raw):
            back.take(item, part, chunk, ctx.norm.rectified(chunk, item), gradient[item].flatten(0, 1)[part])
        return *back.finish(weight), None


class Summed:
    """Gradients of the same weights, added up."""

    def __init__(self) -> None:
        self.sums: list[Tensor] = []

    def add(self, parts: Sequence[Tensor]) -> None:
        """Another chunk's share."""
        if self.sums:
            for total, part in zip(self.sums, parts):
                total += part
        else:
            self.sums = list(parts)


def _first(maps: Tensor) -> Tensor:
    """(N, h, w, C) seen as (N, C, h, w), channels last in memory."""
    return maps.movedim(-1, 1)


def _convolved(maps: Tensor, weight: Tensor, bias: Tensor, stride: int) -> Tensor:
    """3 x 3 convolution of (N, h, w, C)."""
    weight = weight.contiguous(memory_format=torch.channels_last)
    return F.conv2d(_first(maps), weight, bias, stride, padding=1).movedim(1, -1)


def _convolution_gradient(gradient: Tensor, maps: Tensor, weight: Tensor, stride: int) -> tuple[Tensor, ...]:
    """Gradients of the maps, the weight and the bias of ``_convolved``."""
    weight = weight.contiguous(memory_format=torch.channels_last)
    for_maps, for_weight, for_bias = torch.ops.aten.convolution_backward(
        _first(gradient),
        _first(maps),
        weight,
        [len(weight)],
        [stride] * 2,
        [1, 1],
        [1, 1],
        False,
        [0, 0],
        1,
        [True] * 3,
    )
    return for_maps.movedim(1, -1), for_weight, for_bias


def _volumetric(volume: Tensor, weight: Tensor) -> tuple[Tensor, Tensor]:
    """Volume (B, h, w, h', w', C) and 3 x 3 weight for a 3-D convolution that leaves the source's cells apart."""
    weight = weight[..., None].contiguous(memory_format=torch.channels_last_3d)
    return volume.flatten(3, 4).movedim(-1, 1), weight


def _convolved_over_target(volume: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """3 x 3 convolution of (B, h, w, h', w', C) over h and w."""
    out = F.conv3d(*_volumetric(volume, weight), bias, padding=(1, 1, 0))
    return out.movedim(1, -1).unflatten(3, volume.shape[3:5])


def _target_gradient(
    gradient: Tensor, volume: Tensor, weight: Tensor, wanted: tuple[bool, bool, bool]
) -> tuple[Any, ...]:
    """Gradients of the volume, the weight and the bias of ``_convolved_over_target``, those that are wanted."""
    maps, kernel = _volumetric(volume, weight)
    back, _ = _volumetric(gradient, weight)
    for_maps, for_weight, for_bias = torch.ops.aten.convolution_backward(
        back, maps, kernel, [len(weight)], [1] * 3, [1, 1, 0], [1] * 3, False, [0] * 3, 1, list(wanted)
    )
    if for_maps is not None:
        for_maps = for_maps.movedim(1, -1).unflatten(3, volume.shape[3:5])
    return for_maps, None if for_weight is None else for_weight[..., 0], for_bias
