"""Correlation volumes resized: bilinear interpolation of the source's grid, of the target's, or of both."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

Grid = tuple[int, int]  # rows, columns


def resize_source(volume: Tensor, grid: Grid, wanted: Grid) -> Tensor:
    """Resize the source's grid, corners aligned: (B, h*w, N_target) -> (B, h'*w', N_target).

    >>> import torch
    >>> resize_source(torch.tensor([[[0.0], [1.0]]]), (1, 2), (1, 3)).flatten().tolist()
    [0.0, 0.5, 1.0]
    """
    return resize_target(volume.transpose(1, 2), grid, wanted).transpose(1, 2)


def resize_target(volume: Tensor, grid: Grid, wanted: Grid) -> Tensor:
    """Resize the target's grid, corners aligned: (B, N_source, h*w) -> (B, N_source, h'*w')."""
    if grid == wanted:
        return volume
    return F.interpolate(volume.unflatten(2, grid), wanted, mode="bilinear", align_corners=True).flatten(2)
