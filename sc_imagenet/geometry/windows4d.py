"""Windows of a grid for attention inside them (Swin): a correlation volume's four dimensions, or an image's two.

A volume is (B, *grid, C), channels last; ``grid`` is (h, w) of an image, (h, w, h', w') of a correlation. A window
has one side for all dimensions, or one for each. Every second block shifts the windows cyclically by half a side;
cells that become neighbours only by going round the border must not see each other, nor the padding of a grid that
the window does not divide: ``attention_mask`` says so.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from itertools import product
from math import prod
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

Window = int | Sequence[int]  # the side of a window, or its side in every dimension

CPU = torch.device("cpu")  # tables are made here, whatever device is the default
# Added to the score of a token that must not be seen. VAT's authors add -100: that leaves weights of 1e-44 behind
# the softmax, numbers a CPU multiplies twenty times slower than zeros.
HIDDEN = -torch.inf


def sides(window: Window, dims: int) -> tuple[int, ...]:
    """A window's side in every dimension.

    >>> sides(4, 2), sides((4, 2), 2)
    ((4, 4), (4, 2))
    """
    return (window,) * dims if isinstance(window, int) else tuple(window)


def padded_grid(grid: Sequence[int], window: Window) -> tuple[int, ...]:
    """The smallest grid around ``grid`` that the window divides.

    >>> padded_grid((8, 8, 5, 3), 4)
    (8, 8, 8, 4)
    """
    return tuple(side + -side % step for side, step in zip(grid, sides(window, len(grid))))


def half_shift(grid: Sequence[int], window: Window) -> tuple[int, ...]:
    """Half a window along every dimension that has more than one window, 0 where one window sees all.

    >>> half_shift((8, 8, 5, 3), 4)
    (2, 2, 2, 0)
    """
    return tuple(step // 2 if side > step else 0 for side, step in zip(grid, sides(window, len(grid))))


def partition(volume: Tensor, window: Window, shift: Sequence[int] | None = None) -> Tensor:
    """Cut a volume into windows, after a cyclic shift towards the origin.

    (B, *grid, C) -> (B, windows, tokens, C), tokens being the cells of a window; padding is 0 and comes after the
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
    order = window_order(whole, window, shift).to(volume.device)
    cells = _Rearranged.apply(volume.flatten(1, -2), order.flatten())
    return cells.unflatten(1, order.shape)


def merge(windows: Tensor, grid: Sequence[int], window: Window, shift: Sequence[int] | None = None) -> Tensor:
    """Put windows (B, windows, tokens, C) together again: (B, *grid, C), shift undone, padding cut off.

    >>> volume = torch.rand(2, 3, 5, 4, 2, 7)
    >>> torch.equal(merge(partition(volume, 4, (0, 2, 0, 0)), (3, 5, 4, 2), 4, (0, 2, 0, 0)), volume)
    True
    """
    whole = padded_grid(grid, window)
    order = window_order(whole, window, shift).to(windows.device).flatten()
    volume = _Rearranged.apply(windows.flatten(1, 2), order.argsort()).unflatten(1, whole)
    inside = (slice(None), *map(slice, grid))
    return volume[inside]


@lru_cache(maxsize=64)
@torch.inference_mode(False)  # what is kept must serve training too
def _window_order(grid: tuple[int, ...], window: tuple[int, ...], shift: tuple[int, ...]) -> Tensor:
    cells = torch.arange(prod(grid), device=CPU).view(grid).roll([-amount for amount in shift], list(range(len(grid))))
    split = cells.view([size for side, step in zip(grid, window) for size in (side // step, step)])
    outer, inner = range(0, split.ndim, 2), range(1, split.ndim, 2)
    return split.permute(*outer, *inner).reshape(-1, prod(window))


def window_order(grid: Sequence[int], window: Window, shift: Sequence[int] | None = None) -> Tensor:
    """Flat index of the cell that every token of every window is, (windows, tokens); the window divides the grid.

    >>> window_order((2, 4), 2, (0, 1)).tolist()
    [[1, 2, 5, 6], [3, 0, 7, 4]]
    """
    dims = len(grid)
    return _window_order(tuple(grid), sides(window, dims), tuple(shift or (0,) * dims))


class _Rearranged(torch.autograd.Function):
    """Rows of (B, N, C) in another order. Its gradient is the inverse order: no sums, unlike indexing's."""

    @staticmethod
    def forward(ctx: Any, rows: Tensor, order: Tensor) -> Tensor:
        ctx.save_for_backward(order)
        return rows.index_select(1, order)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        (order,) = ctx.saved_tensors
        return gradient.index_select(1, order.argsort()), None


def relative_position(window: Window, dims: int = 4) -> Tensor:
    """Number of the offset from every token of a window to every other: (tokens, tokens), int64.

    Offsets run over -(side - 1) .. side - 1 in each dimension, the last one fastest, so that a table of
    prod(2 * side - 1) biases has an entry for each.

    >>> relative_position(2, dims=1).tolist()
    [[1, 0], [2, 1]]
    >>> relative_position(4).shape, int(relative_position(4).max())
    (torch.Size([256, 256]), 2400)
    """
    window = sides(window, dims)
    places = torch.tensor(list(product(*map(range, window))), device=CPU)
    number = torch.zeros(len(places), len(places), dtype=torch.int64, device=CPU)
    for dim, side in enumerate(window):
        number = number * (2 * side - 1) + places[:, None, dim] - places[None, :, dim] + side - 1
    return number


def attention_mask(grid: Sequence[int], window: Window, shift: Sequence[int] | None = None) -> tuple[Tensor, Tensor]:
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
    ([[0.0, -inf], [-inf, 0.0]], [0, 0, 1])
    >>> masks, kind = attention_mask((16, 16, 8, 8), 4, (2, 2, 2, 2))
    >>> masks.shape, kind.shape
    (torch.Size([16, 256, 256]), torch.Size([64]))
    """
    whole = padded_grid(grid, window)
    region = torch.zeros(1, *whole, 1, device=CPU)
    for dim, (side, full, amount) in enumerate(zip(grid, whole, shift or (0,) * len(whole))):
        places = torch.arange(full, device=CPU)  # in the shifted volume; what came round lies at the end
        padding = (places + amount) % full >= side
        part = torch.where(padding, 2.0, (places >= full - amount).float())
        region = region * 3 + part.view(-1, *(1,) * (len(whole) - dim))
    regions = region.flatten()[window_order(whole, window)]
    regions, kind = regions.unique(dim=0, return_inverse=True)
    return torch.where(regions[:, :, None] == regions[:, None], 0.0, HIDDEN), kind


def count_windows(grid: Sequence[int], window: Window) -> int:
    """How many windows cover a grid.

    >>> count_windows((8, 8, 5, 3), 4)
    8
    """
    return prod(side // step for side, step in zip(padded_grid(grid, window), sides(window, len(grid))))
