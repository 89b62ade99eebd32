"""Similarities of single source points with all target cells, and what networks are trained by on them.

Cells are (column, row), fractional, the centre of the first at 0. ``aligned`` cells have the first and the last on the
first and the last pixel of the frame.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def aligned_cells(points: Tensor, side: int, cells: int) -> Tensor:
    """Pixels of a frame of ``side`` -> cells, first and last on first and last pixel; any shape.

    >>> aligned_cells(torch.tensor([0.0, 15.0]), 16, 4).tolist()
    [0.0, 3.0]
    """
    return points * ((cells - 1) / (side - 1))


def displaced_cells(points: Tensor, side: int, cells: int) -> Tensor:
    """Pixels -> cells as MARCO takes them: by the ratio of the sides, though read as if they were aligned.

    >>> displaced_cells(torch.tensor([0.0, 8.0]), 16, 4).tolist()
    [0.0, 2.0]
    """
    return points * (cells / side)


def read_cells(grid: Tensor, cells: Tensor) -> Tensor:
    """Read maps (B, C, h, w) bilinearly at fractional cells (B, K, 2) -> (B, K, C); beyond the border the border's.

    >>> read_cells(torch.tensor([[[[0.0, 1.0]]]]), torch.tensor([[[0.25, 0.0], [9.0, 0.0]]])).flatten().tolist()
    [0.25, 1.0]
    """
    last = cells.new_tensor([max(grid.shape[3] - 1, 1), max(grid.shape[2] - 1, 1)])
    where = (cells / last * 2 - 1)[:, :, None].to(grid.dtype)
    read = F.grid_sample(grid, where, padding_mode="border", align_corners=True)
    return read.squeeze(-1).transpose(1, 2)


def similarities(vectors: Tensor, target: Tensor) -> Tensor:
    """Inner products of vectors (B, K, C) with the cells of maps (B, C, h, w): (B, K, h, w).

    >>> similarities(torch.ones(1, 2, 3), torch.ones(1, 3, 4, 5)).shape
    torch.Size([1, 2, 4, 5])
    """
    return (vectors @ target.flatten(2)).unflatten(2, target.shape[-2:])


def expected_place(rows: Tensor, temperature: float, xs: Tensor, ys: Tensor) -> Tensor:
    """Expected (x, y), (B, K, 2), under softmax(rows / temperature) of rows (B, K, h, w).

    ``xs`` (w,) and ``ys`` (h,) are the values of columns and rows.
    """
    likely = (rows.flatten(2) / temperature).softmax(2).view_as(rows)
    return torch.stack(((likely.sum(2) * xs).sum(-1), (likely.sum(3) * ys).sum(-1)), -1)


def expected_cells(rows: Tensor, temperature: float) -> Tensor:
    """Expected cell (B, K, 2) under softmax(rows / temperature) of rows (B, K, h, w).

    >>> expected_cells(torch.tensor([[[[0.0, 9.0]]]]), 0.1).tolist()
    [[[1.0, 0.0]]]
    """
    xs, ys = (torch.arange(count, dtype=rows.dtype, device=rows.device) for count in (rows.shape[3], rows.shape[2]))
    return expected_place(rows, temperature, xs, ys)


def gaussian(reach: int, sigma: float) -> Tensor:
    """exp(-r^2 / 2 sigma^2) / (2 pi sigma^2) at offsets -reach .. reach, (2 reach + 1) on each side; not re-normalised.

    >>> gaussian(1, 1.0)[1, 1].item()
    0.159...
    """
    offsets = torch.arange(-reach, reach + 1, dtype=torch.float64)
    squares = offsets[:, None] ** 2 + offsets**2
    return torch.exp(-squares / (2 * sigma**2)) / (2 * torch.pi * sigma**2)


def gaussian_cross_entropy(
    rows: Tensor, cells: Tensor, sigma: float, temperature: float, reach: int, floor: float = 0.0
) -> Tensor:
    """Cross-entropy of softmax(rows / temperature) with a Gaussian around each true cell (SD4Match, MARCO).

    The probabilities are read bilinearly at whole offsets from the true cell; offsets that are not strictly inside the
    map do not count.

    Args:
        rows: (B, K, h, w) similarities.
        cells: (B, K, 2) true cells.
        sigma: of the Gaussian, in cells.
        temperature: of the softmax.
        reach: largest offset along each axis, in cells.
        floor: added to each probability.

    Returns:
        (B, K).
    """
    count, (height, width) = 2 * reach + 1, rows.shape[-2:]
    likely = (rows.flatten(2) / temperature).softmax(2) + floor
    offsets = torch.arange(-reach, reach + 1, device=rows.device, dtype=cells.dtype)
    ys, xs = torch.meshgrid(offsets, offsets, indexing="ij")
    places = cells[:, :, None] + torch.stack((xs, ys), -1).view(-1, 2)  # (B, K, count^2, 2)
    last = cells.new_tensor([width - 1, height - 1])
    inside = ((places > 0) & (places < last)).all(-1)
    maps = likely.view(-1, 1, height, width)
    read = read_cells(maps, places.flatten(0, 1)).view(*rows.shape[:2], count * count)
    weights = gaussian(reach, sigma).to(rows).flatten()
    logarithms = torch.where(inside, read, 1).log()
    return -(logarithms * weights).sum(-1)
