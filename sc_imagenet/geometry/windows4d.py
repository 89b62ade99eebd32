"""Windows of a grid for attention inside them (Swin): a correlation volume's four dimensions, or an image's two.

A volume is (B, *grid, C), channels last; ``grid`` is (h, w) of an image, (h, w, h', w') of a correlation. Windows
have the same side in every dimension. Every second block shifts them cyclically by half a side; cells that become
neighbours only by going round the border must not see each other, nor the padding of a grid that the window does
not divide: ``attention_mask`` says so.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product
from math import prod

import torch
import torch.nn.functional as F
from torch import Tensor

HIDDEN = -100.0  # added to the score of a token that must not be seen


def padded_grid(grid: Sequence[int], window: int) -> tuple[int, ...]:
    """The smallest grid around ``grid`` that the window divides.

    >>> padded_grid((8, 8, 5, 3), 4)
    (8, 8, 8, 4)
    """
    return tuple(side + -side % window for side in grid)


def half_shift(grid: Sequence[int], window: int) -> tuple[int, ...]:
    """Half a window along every dimension that has more than one window, 0 where one window sees all.

    >>> half_shift((8, 8, 5, 3), 4)
    (2, 2, 2, 0)
    """
    return tuple(window // 2 if side > window else 0 for side in grid)


def partition(volume: Tensor, window: int, shift: Sequence[int] | None = None) -> Tensor:
    """Cut a volume into windows, after a cyclic shift towards the origin.

    (B, *grid, C) -> (B, windows, tokens, C), tokens = window ** dimensions; padding is 0 and comes after the
    last cell. ``merge`` is the inverse.

    >>> cells = torch.arange(8.0).view(1, 2, 4, 1)
    >>> partition(cells, 2)[0, ..., 0].tolist()
    [[0.0, 1.0, 4.0, 5.0], [2.0, 3.0, 6.0, 7.0]]
    >>> partition(cells, 2, (0, 1))[0, ..., 0].tolist()
    [[1.0, 2.0, 5.0, 6.0], [3.0, 0.0, 7.0, 4.0]]
    """
    grid = volume.shape[1:-1]
    whole = padded_grid(grid, window)
    if whole != tuple(grid):
        ends = [(0, after - before) for before, after in zip(grid, whole)]
        volume = F.pad(volume, (0, 0, *(amount for end in reversed(ends) for amount in end)))
    if shift is not None:
        volume = _roll(volume, [-amount for amount in shift])
    dims = len(grid)
    split = volume.reshape(len(volume), *(size for side in whole for size in (side // window, window)), -1)
    outer, inner = range(1, 2 * dims, 2), range(2, 2 * dims + 1, 2)
    return split.permute(0, *outer, *inner, 2 * dims + 1).flatten(dims + 1, 2 * dims).flatten(1, dims)


def merge(windows: Tensor, grid: Sequence[int], window: int, shift: Sequence[int] | None = None) -> Tensor:
    """Put windows (B, windows, tokens, C) together again: (B, *grid, C), shift undone, padding cut off.

    >>> volume = torch.rand(2, 3, 5, 4, 2, 7)
    >>> torch.equal(merge(partition(volume, 4, (0, 2, 0, 0)), (3, 5, 4, 2), 4, (0, 2, 0, 0)), volume)
    True
    """
    dims = len(grid)
    whole = padded_grid(grid, window)
    split = windows.reshape(len(windows), *(side // window for side in whole), *(window,) * dims, -1)
    order = [place for pair in zip(range(1, dims + 1), range(dims + 1, 2 * dims + 1)) for place in pair]
    volume = split.permute(0, *order, 2 * dims + 1).reshape(len(windows), *whole, -1)
    if shift is not None:
        volume = _roll(volume, shift)
    return volume[(slice(None), *(slice(side) for side in grid))]


def _roll(volume: Tensor, shift: Sequence[int]) -> Tensor:
    moved = [(amount, dim) for dim, amount in enumerate(shift, 1) if amount]
    return volume.roll([amount for amount, _ in moved], [dim for _, dim in moved]) if moved else volume


def relative_position(window: int, dims: int = 4) -> Tensor:
    """Number of the offset from every token of a window to every other: (tokens, tokens), int64.

    Offsets run over -(window - 1) .. window - 1 in each dimension, the last one fastest, so that a table of
    (2 * window - 1) ** dims biases has an entry for each.

    >>> relative_position(2, dims=1).tolist()
    [[1, 0], [2, 1]]
    >>> relative_position(4).shape, int(relative_position(4).max())
    (torch.Size([256, 256]), 2400)
    """
    places = torch.tensor(list(product(range(window), repeat=dims)))
    offsets = places[:, None] - places[None] + window - 1
    strides = torch.tensor([(2 * window - 1) ** power for power in reversed(range(dims))])
    return (offsets * strides).sum(-1)


def attention_mask(grid: Sequence[int], window: int, shift: Sequence[int] | None = None) -> tuple[Tensor, Tensor]:
    """What is added to the attention scores inside each window: 0, or ``HIDDEN`` between tokens that are apart.

    Tokens are apart if one came round the border by the shift and the other did not, or one is padding and the
    other is not. Most windows have the same mask: the different ones are returned, and which each window has.

    Returns:
        masks (kinds, tokens, tokens), and the kind (windows,) of each window; ``masks[kind]`` is the whole mask.

    >>> attention_mask((4,), 2)
    (tensor([[[0., 0.],
             [0., 0.]]]), tensor([0, 0]))
    >>> masks, kind = attention_mask((6,), 2, (1,))
    >>> masks[kind][-1].tolist(), kind.tolist()
    ([[0.0, -100.0], [-100.0, 0.0]], [0, 0, 1])
    >>> masks, kind = attention_mask((16, 16, 8, 8), 4, (2, 2, 2, 2))
    >>> masks.shape, kind.shape
    (torch.Size([16, 256, 256]), torch.Size([64]))
    """
    whole = padded_grid(grid, window)
    region = torch.zeros(1, *whole, 1)
    for dim, (side, full, amount) in enumerate(zip(grid, whole, shift or (0,) * len(whole))):
        places = torch.arange(full)  # in the shifted volume; what came round lies at the end
        padding = (places + amount) % full >= side
        part = torch.where(padding, 2.0, (places >= full - amount).float())
        region = region * 3 + part.view(-1, *(1,) * (len(whole) - dim))
    regions, kind = partition(region, window)[0, ..., 0].unique(dim=0, return_inverse=True)
    return torch.where(regions[:, :, None] == regions[:, None], 0.0, HIDDEN), kind


def count_windows(grid: Sequence[int], window: int) -> int:
    """How many windows cover a grid.

    >>> count_windows((8, 8, 5, 3), 4)
    8
    """
    return prod(side // window for side in padded_grid(grid, window))
