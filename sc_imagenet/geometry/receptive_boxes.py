"""Keypoint transfer by receptive boxes: a point moves like the cells that see it (Min et al., ICCV 2019).

Cell (i, j) of a grid sees a square box around (j * stride, i * stride): the first cell lies on the first pixel.
"""

from __future__ import annotations

import torch
from torch import Tensor

from sc_imagenet.geometry.volumes import Grid


def cell_corners(grid: Grid, stride: float, device: torch.device | None = None) -> Tensor:
    """Centres (N, 2), x and y, of the boxes of all cells.

    >>> cell_corners((1, 3), 4).tolist()
    [[0.0, 0.0], [4.0, 0.0], [8.0, 0.0]]
    """
    rows, columns = (torch.arange(count, device=device) * float(stride) for count in grid)
    return torch.stack((columns.repeat(grid[0]), rows.repeat_interleave(grid[1])), 1)


def nearest_cell(points: Tensor, stride: float, grid: Grid) -> Tensor:
    """Number (K,) of the cell nearest to each point (K, 2); the lower one of two.

    >>> nearest_cell(torch.tensor([[6.0, 0.0], [6.1, 0.0], [999.0, 0.0]]), 4, (1, 3)).tolist()
    [1, 2, 2]
    """
    places = (points / stride - 0.5).ceil().long()
    columns, rows = places[:, 0].clamp(0, grid[1] - 1), places[:, 1].clamp(0, grid[0] - 1)
    return rows * grid[1] + columns


def covering(points: Tensor, centres: Tensor, reach: float) -> Tensor:
    """Which boxes hold each point: (K, N) bool. A point in no box is given to the nearest.

    Args:
        points: (K, 2), pixels.
        centres: (N, 2), of the boxes.
        reach: half the side of a box; its border belongs to it.
    """
    distance = (points[:, None] - centres).abs().amax(-1)
    return distance <= distance.amin(1, keepdim=True).clamp(min=reach)


def mean_shift(covers: Tensor, shifts: Tensor) -> Tensor:
    """Mean (K, 2) of the shifts (N, 2) of the cells that cover each point, (K, N) bool.

    >>> mean_shift(torch.tensor([[True, True, False]]), torch.tensor([[2.0, 0], [4.0, 0], [9.0, 9.0]])).tolist()
    [[3.0, 0.0]]
    """
    # A sum, not a matrix product: under mixed precision coordinates must stay in float32.
    return torch.where(covers[..., None], shifts, 0).sum(1) / covers.sum(1, keepdim=True)
