"""Keypoint transfer by a flow field on a feature grid, or by the receptive boxes of its cells."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from sc_imagenet.geometry.correlation import Grid

# Flow fields on a feature grid: from a normalised mapping and back, and carrying points along them.
#
# A flow (B, 2, h, w) lies on the grid of one image and points into the other; channel 0 is x, channel 1 is y; units
# are cells.


def _cells(height: int, width: int, like: Tensor) -> Tensor:
    """Column and row of every cell, (2, h, w)."""
    ys = torch.arange(height, device=like.device, dtype=like.dtype)
    xs = torch.arange(width, device=like.device, dtype=like.dtype)
    return torch.stack((xs.expand(height, width), ys[:, None].expand(height, width)))


def _spans(height: int, width: int, like: Tensor) -> Tensor:
    """(w - 1) / 2 and (h - 1) / 2 as (2, 1, 1): cells per unit of a mapping."""
    return like.new_tensor([(width - 1) / 2, (height - 1) / 2])[:, None, None]


def mapping_to_flow(mapping: Tensor) -> Tensor:
    """Mapping (B, 2, h, w), -1 and 1 at the first and the last cell, -> flow in cells, same shape.

    >>> centre = torch.zeros(1, 2, 3, 3)
    >>> mapping_to_flow(centre)[0, 0, 0].tolist()
    [1.0, 0.0, -1.0]
    """
    height, width = mapping.shape[-2:]
    return (mapping + 1) * _spans(height, width, mapping) - _cells(height, width, mapping)


def flow_to_mapping(flow: Tensor) -> Tensor:
    """The inverse of ``mapping_to_flow``.

    >>> flow = torch.rand(1, 2, 4, 5)
    >>> bool(torch.allclose(mapping_to_flow(flow_to_mapping(flow)), flow, atol=1e-5))
    True
    """
    height, width = flow.shape[-2:]
    return (flow + _cells(height, width, flow)) / _spans(height, width, flow) - 1


def carry_points(flow: Tensor, points: Tensor, side: int) -> Tensor:
    """Transfer points along a flow up-sampled to the frame and read at whole pixels (CATs, VAT, SCorrSAN).

    The fraction of a point is dropped: both the place where the flow is read and the start of the
    displacement are truncated to whole pixels inside the frame.

    Args:
        flow: (B, 2, h, w), cells of the grid that the points lie on.
        points: (B, K, 2), pixels of the frame of side ``side``.
        side: side of the frame in pixels.

    Returns:
        (B, K, 2), pixels of the other image's frame.

    >>> one_cell_right = torch.tensor([1.0, 0.0]).view(1, 2, 1, 1).expand(1, 2, 4, 4)
    >>> carry_points(one_cell_right, torch.tensor([[[10.7, 70.0]]]), 64).tolist()
    [[[26.0, 63.0]]]
    """
    height, width = flow.shape[-2:]
    scale = flow.new_tensor([side / width, side / height])[:, None, None]
    dense = F.interpolate(flow, (side, side), mode="bilinear", align_corners=False) * scale
    pixels = points.long().clamp(0, side - 1)
    index = pixels[..., 1] * side + pixels[..., 0]
    shift = dense.flatten(2).gather(2, index[:, None].expand(-1, 2, -1))
    return pixels.to(shift.dtype) + shift.transpose(1, 2)


def cells_read(points: Tensor, side: int, grid: int) -> Tensor:
    """The cells of a flow (B, 2, grid, grid) that ``carry_points`` reads for ``points``: (B, grid, grid) bool.

    Args:
        points: (B, K, 2), pixels of the frame of side ``side``.
        side: side of the frame in pixels.
        grid: cells along each side.

    >>> cells_read(torch.tensor([[[10.0, 0.0]]]), 64, 4).int()[0].tolist()
    [[1, 1, 0, 0], [0, 0, 0, 0], [0, 0, 0, 0], [0, 0, 0, 0]]
    """
    pixels = points.long().clamp(0, side - 1)
    place = (pixels + 0.5) * (grid / side) - 0.5
    either = torch.stack((place.floor(), place.ceil()), -1).long().clamp(0, grid - 1)  # (B, K, 2, 2)
    columns, rows = F.one_hot(either, grid).amax(3).float().unbind(2)  # (B, K, grid)
    return (rows.mT @ columns) > 0


def labelled(true: Tensor) -> Tensor:
    """Cells (B, h, w) that a true flow (B, 2, h, w) labels; one of exactly (0, 0) does not count, as published."""
    return (true != 0).any(1)


def end_point_error(flow: Tensor, true: Tensor) -> Tensor:
    """Distance between two flows (B, 2, h, w) in cells, averaged over the labelled cells of the whole batch.

    Unlike the published codes (CATs, VAT, SCorrSAN), which give NaN, a batch without any such cell has the loss 0.

    >>> end_point_error(torch.zeros(1, 2, 1, 1), torch.tensor([3.0, 4.0]).view(1, 2, 1, 1)).item()
    5.0
    """
    counted = labelled(true)
    error = torch.linalg.vector_norm(flow - true, dim=1)
    return (error * counted).sum() / counted.sum().clamp(min=1)


# Keypoint transfer by receptive boxes: a point moves like the cells that see it (Min et al., ICCV 2019).
#
# Cell (i, j) of a grid sees a square box around (j * stride, i * stride): the first cell lies on the first pixel.


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
