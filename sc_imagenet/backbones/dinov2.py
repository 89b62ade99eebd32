"""Position embeddings of DINOv2 (Oquab et al., TMLR 2024) on other grids than the 37 x 37 cells it was trained with.

Its authors interpolate those of the models without registers by a scale factor that has a tenth of a cell added, and
without antialiasing; timm interpolates by size, with antialiasing, as the authors do for the models with registers.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

CELLS = 37  # along each side of the grid that the published weights have
OFFSET = 0.1  # cells added before the scale factor is taken


def has_offset(name: str) -> bool:
    """Whether a backbone is a DINOv2 without registers, whose positions are interpolated with the offset.

    >>> has_offset("vit_small_patch14_dinov2.lvd142m"), has_offset("vit_small_patch14_reg4_dinov2.lvd142m")
    (True, False)
    """
    return re.fullmatch(r"vit_\w+_patch14_dinov2(\.\w+)?", name) is not None


def published_positions(positions: Tensor, grid: Sequence[int]) -> Tensor:
    """Position embeddings (1, 1 + 37 * 37, C) -> (1, 1 + rows * columns, C), as the authors interpolate them.

    Args:
        positions: the class token's, then those of the cells.
        grid: rows, columns.

    >>> published_positions(torch.zeros(1, 1370, 8), (60, 40)).shape
    torch.Size([1, 2401, 8])
    """
    if tuple(grid) == (CELLS, CELLS):
        return positions
    of_class, of_cells = positions[:, :1], positions[:, 1:].unflatten(1, (CELLS, CELLS)).permute(0, 3, 1, 2)
    factors = [(count + OFFSET) / CELLS for count in grid]
    fitted = F.interpolate(of_cells.float(), scale_factor=factors, mode="bicubic")
    return torch.cat((of_class, fitted.permute(0, 2, 3, 1).flatten(1, 2).to(positions.dtype)), 1)


def fit_to_grid(net: Any, grid: Sequence[int]) -> None:
    """Make a timm DINOv2 without registers, built for 37 x 37 cells, one for images of ``grid`` (rows, columns)."""
    positions = published_positions(net.pos_embed.detach(), grid)
    rows, columns = net.patch_embed.patch_size
    net.set_input_size(img_size=(grid[0] * rows, grid[1] * columns))
    net.pos_embed = nn.Parameter(positions, requires_grad=net.pos_embed.requires_grad)
