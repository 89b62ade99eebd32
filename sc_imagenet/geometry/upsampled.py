"""Inner products of up-sampled feature maps, without up-sampling them.

Bilinear interpolation U is linear, so (U f)^T (U g) = U (f^T g) U^T: maps are correlated in their own resolution,
those of one size together, and the small correlations are interpolated. Corners are aligned. A hyperpixel is the
stack of what all maps hold at one place; the sums here run over its channels.

Maps are lists of (C, h, w), one a size: the layers of that size, their channels in one row.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from sc_imagenet.geometry.correlation import Grid, resize_target

Maps = Sequence[Tensor]


def corners(count: int, wanted: int, like: Tensor) -> tuple[Tensor, Tensor]:
    """Interpolation from ``count`` to ``wanted`` places along one axis: the lower neighbour and its distance.

    >>> low, above = corners(2, 3, torch.zeros(()))
    >>> low.tolist(), above.tolist()
    ([0, 0, 0], [0.0, 0.5, 1.0])
    """
    places = torch.arange(wanted, device=like.device, dtype=like.dtype) * ((count - 1) / max(wanted - 1, 1))
    low = places.long().clamp(max=max(count - 2, 0))
    return low, places - low


def interpolation(count: int, wanted: int, like: Tensor) -> Tensor:
    """The matrix (wanted, count) of ``corners``."""
    low, above = corners(count, wanted, like)
    places = torch.arange(count, device=like.device)
    upper = (low + 1).clamp(max=count - 1)
    return (places == low[:, None]) * (1 - above)[:, None] + (places == upper[:, None]) * above[:, None]


def square_norms(maps: Maps, grid: Grid) -> Tensor:
    """Squared L2 norm of the hyperpixel at every cell of ``grid``: (h * w,).

    Between four cells the norm is a quadratic form of their ten inner products; only neighbours' are needed.

    >>> square_norms([torch.tensor([[[1.0, 3.0]]])], (1, 3)).tolist()
    [1.0, 4.0, 9.0]
    """
    return torch.stack([_square_norm(features, grid) for features in maps]).sum(0).clamp(min=0).flatten()


def _square_norm(features: Tensor, grid: Grid) -> Tensor:
    own = features.square().sum(0)
    if own.shape == grid:
        return own
    height, width = own.shape
    (top, down), (left, right) = corners(height, grid[0], own), corners(width, grid[1], own)
    bottom, beyond = (top + 1).clamp(max=height - 1), (left + 1).clamp(max=width - 1)
    padded = torch.nn.functional.pad(features, (0, 1, 0, 1))
    below, beside = padded[:, 1:, :-1], padded[:, :-1, 1:]
    with_below, with_beside = (features * below).sum(0), (features * beside).sum(0)
    across = (features * padded[:, 1:, 1:]).sum(0) + (below * beside).sum(0)
    down, up = down[:, None], 1 - down[:, None]
    stay = 1 - right

    def along_row(rows: Tensor, weight: Tensor) -> Tensor:
        """Squared norm of a row of cells interpolated along it."""
        ends = own[rows][:, left] * stay**2 + own[rows][:, beyond] * right**2
        return weight**2 * (ends + 2 * stay * right * with_beside[rows][:, left])

    between = with_below[top][:, left] * stay**2 + with_below[top][:, beyond] * right**2
    between = between + stay * right * across[top][:, left]
    return along_row(top, up) + along_row(bottom, down) + 2 * up * down * between


def inner_products_of(source: Maps, target: Maps, cells: Tensor, source_grid: Grid, target_grid: Grid) -> Tensor:
    """Inner products of the hyperpixels at some source cells with those at all target cells.

    Args:
        source, target: maps of the same channels.
        cells: (K,) numbers of cells of ``source_grid``.

    Returns:
        (K, N_target).
    """
    rows, columns = cells // source_grid[1], cells % source_grid[1]
    total = []
    for source_map, target_map in zip(source, target):
        hyperpixels = _read(source_map, rows, columns, source_grid)
        total.append(resize_target((hyperpixels.T @ target_map.flatten(1))[None], _grid(target_map), target_grid)[0])
    return torch.stack(total).sum(0)


def _read(features: Tensor, rows: Tensor, columns: Tensor, grid: Grid) -> Tensor:
    """Up-sampled features (C, K) at some cells."""
    if _grid(features) == grid:
        return features[:, rows, columns]
    vertical = interpolation(features.shape[1], grid[0], features)[rows]
    horizontal = interpolation(features.shape[2], grid[1], features)[columns]
    weights = vertical[:, :, None] * horizontal[:, None]  # (K, h, w), four of them not zero
    return features.flatten(1) @ weights.flatten(1).T


def inner_products(source: Maps, target: Maps, source_grid: Grid, target_grid: Grid) -> Iterator[Tensor]:
    """Inner products of all source with all target cells, one row of the source's grid after the other.

    Yields (columns of ``source_grid``, N_target). Row by row what is made of them stays in the processor's cache.

    >>> maps = [torch.rand(3, 2, 2), torch.rand(5, 4, 4)]
    >>> whole = torch.cat(list(inner_products(maps, maps, (4, 4), (4, 4))))
    >>> bool(torch.allclose(whole, inner_products_of(maps, maps, torch.arange(16), (4, 4), (4, 4)), atol=1e-5))
    True
    """
    pairs = list(zip(source, target))
    fine = [(s, t.flatten(1)) for s, t in pairs if (_grid(s), _grid(t)) == (source_grid, target_grid)]
    coarse = [(s, t) for s, t in pairs if (_grid(s), _grid(t)) != (source_grid, target_grid)]
    # Of coarse maps the target's side is interpolated at once; rows of the source are interpolated one by one.
    by_row, low, above, across = [], [], [], []
    for source_map, target_map in coarse:
        native = source_map.flatten(1).T @ target_map.flatten(1)
        wide = resize_target(native[None], _grid(target_map), target_grid)[0]
        by_row.append(wide.unflatten(0, _grid(source_map)).unbind(0))
        below, distance = corners(source_map.shape[1], source_grid[0], source_map)
        low.append(below.tolist())
        above.append(distance.tolist())
        across.append(interpolation(source_map.shape[2], source_grid[1], source_map))
    spread = torch.cat(across, 1) if across else None
    for row in range(source_grid[0]):
        block = None
        if spread is not None:
            mixed = [
                torch.lerp(rows[below[row]], rows[min(below[row] + 1, len(rows) - 1)], distance[row])
                for rows, below, distance in zip(by_row, low, above)
            ]
            block = spread @ torch.cat(mixed)
        for source_map, target_map in fine:
            block = (
                source_map[:, row].T @ target_map
                if block is None
                else torch.addmm(block, source_map[:, row].T, target_map)
            )
        assert block is not None
        yield block


def _grid(features: Tensor) -> Grid:
    return features.shape[1], features.shape[2]
