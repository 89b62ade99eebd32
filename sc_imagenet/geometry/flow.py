"""Flow fields on a feature grid: from a normalised mapping and back, and carrying points along them.

A flow (B, 2, h, w) lies on the grid of one image and points into the other; channel 0 is x, channel 1 is y;
units are cells.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


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
    """Carry points along a flow up-sampled to the frame and read at whole pixels (CATs, VAT, SCorrSAN).

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
