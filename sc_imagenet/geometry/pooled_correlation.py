"""Correlation volumes that are only ever max-pooled: pooled while they are computed, never held whole.

At 64 x 64 cells one volume is 67 MB a layer and pair. A network whose first step halves either side needs two
quarters of it, and for the gradients one bit an entry: which of four was the largest.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from sc_imagenet.geometry.correlation import at_least_float32, at_once

CHUNK = 1 << 19  # entries of a volume that are held at once on a processor
EPS = 1e-5  # added to the norm of a feature
SMALLEST = 1e-30  # stands for a norm of exactly zero


def pooled_correlation(
    target: Sequence[Tensor], source: Sequence[Tensor], pool_target: int, pool_source: int
) -> tuple[Tensor, Tensor]:
    """Rectified cosine similarities of L layers, max-pooled over either image.

    max(0, cosine) of every target cell and every source cell; the maximum over blocks of side ``pool_source`` of
    the source, and that over blocks of side ``pool_target`` of the target; blocks at the border may be smaller.

    Args:
        target: L maps (B, C, h, w); C may differ from layer to layer.
        source: L maps (B, C, h', w').
        pool_target, pool_source: 1 or 2.

    Returns:
        over_source (B, h'', w'', h, w, L): the pooled source grid first, each of its cells with a map of the
        target; over_target (B, h''', w''', h', w', L): the pooled target grid first, then the source.

    >>> features = [torch.eye(4).view(1, 4, 2, 2)]
    >>> over_source, over_target = pooled_correlation(features, features, 1, 2)
    >>> over_source.shape, over_target.shape
    (torch.Size([1, 1, 1, 2, 2, 1]), torch.Size([1, 2, 2, 2, 2, 1]))
    >>> over_source.flatten().round(decimals=4).tolist()
    [1.0, 1.0, 1.0, 1.0]
    >>> over_target[0, 0, 1].flatten().round(decimals=4).tolist()
    [0.0, 1.0, 0.0, 0.0]
    """
    with torch.autocast(target[0].device.type, enabled=False):
        maps = [at_least_float32(features) for features in (*target, *source)]
        return _PooledCorrelation.apply(pool_target, pool_source, *maps)


@dataclass(frozen=True)
class Blocks:
    """A grid seen as blocks of ``side`` x ``side`` cells: every cell is a member of its block.

    With members in front, the maximum over a block is one over a leading dimension.
    """

    height: int
    width: int
    side: int

    @property
    def members(self) -> int:
        """Cells of a block."""
        return self.side**2

    @property
    def rows(self) -> int:
        """Rows of blocks."""
        return -(-self.height // self.side)

    @property
    def columns(self) -> int:
        """Columns of blocks."""
        return -(-self.width // self.side)

    def split(self, maps: Tensor) -> Tensor:
        """(..., h, w) -> (..., members, rows, columns); 0 where a block reaches over the border.

        >>> Blocks(2, 4, 2).split(torch.arange(8.0).view(2, 4)).flatten(1).tolist()
        [[0.0, 2.0], [1.0, 3.0], [4.0, 6.0], [5.0, 7.0]]
        """
        down, across = -maps.shape[-2] % self.side, -maps.shape[-1] % self.side
        if down or across:
            maps = F.pad(maps, (0, across, 0, down))
        cells = maps.unflatten(-1, (-1, self.side)).unflatten(-3, (-1, self.side))  # (..., rows, i, columns, j)
        return cells.movedim(-1, -4).movedim(-2, -4).flatten(-4, -3)

    def join(self, parts: Tensor) -> Tensor:
        """The inverse of ``split``; of a part of the rows, too, whose padding at the bottom is kept.

        >>> whole = torch.rand(3, 4)
        >>> torch.equal(Blocks(3, 4, 2).join(Blocks(3, 4, 2).split(whole))[:3], whole)
        True
        """
        cells = parts.unflatten(-3, (self.side, self.side)).movedim(-4, -2).movedim(-4, -1)
        return cells.flatten(-4, -3).flatten(-2)[..., : self.width]


class _PooledCorrelation(torch.autograd.Function):
    """For some rows of source blocks at a time, and there layer by layer.

    A chunk's volume is (members, blocks) of the source x (members, blocks) of the target.
    """

    @staticmethod
    def forward(ctx: Any, pool_target: int, pool_source: int, *maps: Tensor) -> tuple[Tensor, Tensor]:
        layers, like = len(maps) // 2, maps[0]
        target = Blocks(like.shape[-2], like.shape[-1], pool_target)
        source = Blocks(maps[-1].shape[-2], maps[-1].shape[-1], pool_source)
        over_source = like.new_empty(len(like), source.rows, source.columns, target.height, target.width, layers)
        over_target = like.new_empty(len(like), target.rows, target.columns, source.height, source.width, layers)
        target_units = [Units(features, target) for features in maps[:layers]]
        source_units = [Units(features, source) for features in maps[layers:]]
        largest = []
        for item, rows, pixels in _chunks(like, source, target):
            for layer in range(layers):
                volume = source_units[layer].of(item, rows).T @ target_units[layer].of(item)
                volume = volume.view(source.members, -1, target.members, target.rows * target.columns)
                best_source = volume.amax(0).clamp_(min=0)
                best_target = volume.amax(2).clamp_(min=0)
                maps_of_target = target.join(best_source.unflatten(-1, (target.rows, -1)))[:, : target.height]
                over_source[item, rows, ..., layer] = maps_of_target.unflatten(0, (-1, source.columns))
                maps_of_source = source.join(best_target.permute(2, 0, 1).unflatten(-1, (-1, source.columns)))
                window = over_target[item, :, :, pixels, :, layer]
                window[:] = maps_of_source[:, : window.shape[2]].unflatten(0, (target.rows, -1))
                if any(ctx.needs_input_grad):
                    largest.append((_members_at(volume, best_source, 0), _members_at(volume, best_target, 2)))
        ctx.save_for_backward(*maps)
        ctx.grids, ctx.largest = (target, source), largest
        return over_source, over_target

    @staticmethod
    def backward(ctx: Any, for_source: Tensor, for_target: Tensor) -> tuple[Tensor | None, ...]:
        maps, (target, source) = ctx.saved_tensors, ctx.grids
        layers = len(maps) // 2
        largest = iter(ctx.largest)
        target_units = [Units(features, target) for features in maps[:layers]]
        source_units = [Units(features, source) for features in maps[layers:]]
        target_gradients, source_gradients = (
            [torch.zeros_like(units.cells) for units in side] for side in (target_units, source_units)
        )
        for item, rows, pixels in _chunks(maps[0], source, target):
            for layer in range(layers):
                which_source, which_target = next(largest)
                best_source = target.split(for_source[item, rows, ..., layer].flatten(0, 1)).flatten(-2)
                best_target = source.split(for_target[item, :, :, pixels, :, layer].flatten(0, 1))
                best_target = best_target.flatten(-2).permute(1, 2, 0)
                volume = _given_to(which_source, best_source, 0, source.members)
                volume += _given_to(which_target, best_target, 2, target.members)
                volume = volume.flatten(0, 1).flatten(1)
                part = source_gradients[layer][item, :, :, rows]
                part[:] = (target_units[layer].of(item) @ volume.T).view_as(part)
                target_gradients[layer][item].flatten(1).addmm_(source_units[layer].of(item, rows), volume)
        sides = (*zip(target_units, target_gradients), *zip(source_units, source_gradients))
        return None, None, *(units.gradient(gradient) for units, gradient in sides)


class Units:
    """Features (B, C, h, w) divided by their norm + 1e-5, as (B, C, members, rows, columns) of blocks."""

    def __init__(self, features: Tensor, blocks: Blocks) -> None:
        self.blocks = blocks
        # Squares that are summed: a vector norm over channels that are far apart in memory is slow.
        self.norm = blocks.split(features.square().sum(1, keepdim=True).sqrt())
        self.cells = blocks.split(features).contiguous() / (self.norm + EPS)

    def of(self, item: int, rows: slice = slice(None)) -> Tensor:
        """Features of some rows of blocks, (C, cells)."""
        return self.cells[item, :, :, rows].flatten(1)

    def gradient(self, gradient: Tensor) -> Tensor:
        """The gradient (B, C, h, w) of the features from that of ``cells``, which is overwritten."""
        along = (self.cells * gradient).sum(1, keepdim=True)
        scale = 1 / (self.norm + EPS)
        gradient.addcmul_(self.cells, along / (scale * self.norm.clamp(min=SMALLEST)), value=-1).mul_(scale)
        # Contiguous: for other strides of a batch of one, torch's batch norm gives a wrong bias gradient.
        return self.blocks.join(gradient)[:, :, : self.blocks.height].contiguous()


def _chunks(like: Tensor, source: Blocks, target: Blocks) -> Iterator[tuple[int, slice, slice]]:
    """Item of the batch, rows of source blocks, and the rows of cells that they cover."""
    entries = source.members * source.columns * target.members * target.rows * target.columns
    step = max(1, at_once(CHUNK, like.device) // entries)
    for item in range(len(like)):
        for first in range(0, source.rows, step):
            rows = slice(first, min(first + step, source.rows))
            yield item, rows, slice(rows.start * source.side, rows.stop * source.side)


def _members_at(volume: Tensor, best: Tensor, dim: int) -> Tensor:
    """One bit for each member along ``dim``: whether it is the largest."""
    bits = torch.zeros_like(best, dtype=torch.uint8)
    for number, member in enumerate(volume.unbind(dim)):
        bits.add_((member == best).view(torch.uint8), alpha=1 << number)
    return bits


def _given_to(largest: Tensor, gradient: Tensor, dim: int, members: int) -> Tensor:
    """The gradient of a maximum handed to the members that were the largest, the others getting 0."""
    return torch.stack([(largest >> number & 1).to(gradient.dtype) * gradient for number in range(members)], dim)
