"""Smooth warps of images and maps: grids of the positions that each pixel of the warped image is read from.

Positions are in [-1, 1], the outer edges of the frame at -1 and 1; a grid is (B, h, w, 2), x then y.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

COVERED = 0.9999  # least share of a pixel that comes from inside the frame; with less it is black


def affine_grid(angle: Tensor, axis: Tensor, scales: Tensor, shift: Tensor, side: int) -> Tensor:
    """Rotate by ``angle``, after scaling along two perpendicular axes turned by ``axis``, and shift.

    Args:
        angle, axis: (B,), radians.
        scales, shift: (B, 2), of positions in [-1, 1].
        side: pixels along each side of the warped image.

    >>> still = affine_grid(torch.zeros(1), torch.ones(1), torch.ones(1, 2), torch.zeros(1, 2), 2)
    >>> still.flatten(1).round(decimals=4).tolist()
    [[-0.5, -0.5, 0.5, -0.5, -0.5, 0.5, 0.5, 0.5]]
    """
    turned = _rotation(axis)
    linear = _rotation(angle) @ turned.mT @ torch.diag_embed(scales) @ turned
    return F.affine_grid(torch.cat((linear, shift[:, :, None]), 2), [len(shift), 1, side, side], align_corners=False)


def _rotation(angle: Tensor) -> Tensor:
    cosine, sine = angle.cos(), angle.sin()
    return torch.stack((cosine, -sine, sine, cosine), -1).unflatten(-1, (2, 2))


def thin_plate_grid(moves: Tensor, side: int) -> Tensor:
    """A thin-plate spline that moves a lattice of n x n control points, spread evenly over the frame.

    Args:
        moves: (B, n * n, 2), how far each is moved, row by row; positions in [-1, 1].
        side: pixels along each side of the warped image, the first at -1 and the last at 1 as in the published codes.

    >>> thin_plate_grid(torch.full((1, 9, 2), 0.5), 2).flatten(1).round(decimals=4).tolist()
    [[-0.5, -0.5, 1.5, -0.5, -0.5, 1.5, 1.5, 1.5]]
    """
    control = _lattice(round(moves.shape[1] ** 0.5), moves)
    pixels = _lattice(side, moves)
    return spline(control, control + moves, pixels).unflatten(1, (side, side))


def _lattice(count: int, like: Tensor) -> Tensor:
    line = torch.linspace(-1, 1, count, device=like.device, dtype=like.dtype)
    return torch.stack((line.repeat(count), line.repeat_interleave(count)), 1)


def spline(control: Tensor, values: Tensor, positions: Tensor) -> Tensor:
    """The thin-plate spline through ``values`` (B, N, C) at ``control`` (N, 2), read at ``positions`` (M, 2).

    Returns (B, M, C).

    >>> corners = torch.tensor([[0.0, 0.0], [1.0, 0.0], [0.0, 1.0], [1.0, 1.0]])
    >>> bool(torch.allclose(spline(corners, corners[None] ** 2, corners), corners[None] ** 2, atol=1e-5))
    True
    """
    count = len(control)
    system = control.new_zeros(count + 3, count + 3)
    system[:count, :count] = _bending(control, control)
    system[:count, count:] = _plane(control)
    system[count:, :count] = _plane(control).T
    right = F.pad(values, (0, 0, 0, 3))
    weights = torch.linalg.solve(system.double(), right.double()).to(values.dtype)
    return torch.cat((_bending(positions, control), _plane(positions)), 1) @ weights


def _bending(first: Tensor, second: Tensor) -> Tensor:
    """r^2 log r^2 of all distances r, 0 at 0."""
    square = (first[:, None] - second).square().sum(-1)
    return torch.xlogy(square, square)


def _plane(positions: Tensor) -> Tensor:
    return F.pad(positions, (1, 0), value=1.0)


def warp(maps: Tensor, grids: Sequence[Tensor], mode: str = "bilinear") -> Tensor:
    """Warp maps (B, C, h, w) by one grid after the other; what comes from outside the frame is 0.

    >>> left = affine_grid(torch.zeros(1), torch.zeros(1), torch.ones(1, 2), torch.tensor([[0.5, 0.0]]), 4)
    >>> warp(torch.arange(1.0, 17).view(1, 1, 4, 4), [left], "nearest")[0, 0, 0].tolist()
    [2.0, 3.0, 4.0, 0.0]
    """
    for grid in grids:
        frame = maps.new_ones(len(maps), 1, *maps.shape[2:])
        both = F.grid_sample(torch.cat((maps, frame), 1), grid.to(maps.dtype), mode=mode, align_corners=False)
        maps = both[:, :-1] * (both[:, -1:] >= COVERED)
    return maps
