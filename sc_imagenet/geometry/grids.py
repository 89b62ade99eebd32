"""Cells of a feature grid, and points in pixels, cells and [-1, 1]."""

from __future__ import annotations

import torch
from torch import Tensor


def cell_centres(count: int, stride: float, device: torch.device | None = None) -> Tensor:
    """Centres of ``count`` cells along one axis, in pixels: stride * (i + 1/2); shape (count,).

    >>> cell_centres(3, 16).tolist()
    [8.0, 24.0, 40.0]
    """
    return (torch.arange(count, device=device) + 0.5) * stride


def normalise(points: Tensor, side: float) -> Tensor:
    """Pixels of a frame of side S -> [-1, 1], the frame's outer edges at -1 and 1; any shape.

    >>> normalise(torch.tensor([0.0, 128.0, 256.0]), 256).tolist()
    [-1.0, 0.0, 1.0]
    """
    return points * (2 / side) - 1


def denormalise(points: Tensor, side: float) -> Tensor:
    """[-1, 1] -> pixels of a frame of side S; the inverse of ``normalise``.

    >>> denormalise(torch.tensor([-1.0, 0.0, 1.0]), 256).tolist()
    [0.0, 128.0, 256.0]
    """
    return (points + 1) * (side / 2)


def read_at(grid: Tensor, points: Tensor, side: float) -> Tensor:
    """Read a map bilinearly at points; outside the outermost cell centres the border is repeated.

    Args:
        grid: (B, C, h, w), cells spread evenly over the frame.
        points: (B, K, 2), pixels of the frame of side ``side``.

    Returns:
        (B, K, C).

    >>> read_at(torch.tensor([[[[0.0, 1.0]]]]), torch.tensor([[[4.0, 4.0], [8.0, 8.0]]]), 16).flatten().tolist()
    [0.0, 0.5]
    """
    where = normalise(points, side)[:, :, None].to(grid.dtype)
    read = torch.nn.functional.grid_sample(grid, where, padding_mode="border", align_corners=False)
    return read.squeeze(-1).transpose(1, 2)
