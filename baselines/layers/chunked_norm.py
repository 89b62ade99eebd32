"""Group norm and ReLU of correlation volumes that are too large to be normalised at once, forward and backward.

Volumes are (B, h, w, h', w', C). What is normalised lives for some cells of the grid that comes first at a time.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import Tensor

from sc_imagenet.geometry.correlation import at_once

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
