"""Cells of a feature grid, points in pixels, cells and [-1, 1], and keypoints as maps on a grid."""

from __future__ import annotations

import torch
from torch import Tensor

# Cells of a feature grid, and points in pixels, cells and [-1, 1].


def pixels_of(cells: Tensor, stride: float) -> Tensor:
    """Cells, counted from the centre of the first -> pixels: stride * (cell + 1/2); any shape.

    >>> pixels_of(torch.tensor([0.0, 0.5]), 16).tolist()
    [8.0, 16.0]
    """
    return (cells + 0.5) * stride


def cell_centres(count: int, stride: float, device: torch.device | None = None) -> Tensor:
    """Centres of ``count`` cells along one axis, in pixels: stride * (i + 1/2); shape (count,).

    >>> cell_centres(3, 16).tolist()
    [8.0, 24.0, 40.0]
    """
    return pixels_of(torch.arange(count, device=device), stride)


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


# Ground truth on a grid, made from sparse keypoints.


def sparse_flow(
    source_points: Tensor,
    target_points: Tensor,
    valid: Tensor,
    grid: int,
    stride: float = 16.0,
    reach: float = 17.0,
) -> tuple[Tensor, Tensor]:
    """Flow from the target's grid into the source at the cells that keypoints cover (CATs, VAT, SCorrSAN).

    A keypoint covers every cell whose centre is at most ``reach`` pixels from its target position along both
    axes. The flow there is (source position of the LAST keypoint that covers the cell - mean target position
    of ALL keypoints that cover it) / stride: the published codes write one keypoint after the other.

    Args:
        source_points: (B, K, 2), pixels of the square frame of side grid * stride.
        target_points: (B, K, 2), pixels of the same frame.
        valid: (B, K) bool; other rows are not looked at.
        grid: cells along each side.
        stride: pixels from one cell to the next.
        reach: 17 for the receptive field of 35 pixels that the published codes use at stride 16.

    Returns:
        flow (B, 2, grid, grid) in cells, 0 where nothing is covered, and covered (B, grid, grid) bool.

    >>> point = torch.tensor([[[8.0, 8.0]]])
    >>> flow, covered = sparse_flow(point + 16, point, torch.tensor([[True]]), grid=3)
    >>> covered.int()[0].tolist(), flow[0, 0].tolist()
    ([[1, 1, 0], [1, 1, 0], [0, 0, 0]], [[1.0, 1.0, 0.0], [1.0, 1.0, 0.0], [0.0, 0.0, 0.0]])
    """
    centres = cell_centres(grid, stride, target_points.device)
    near = (target_points[..., None] - centres).abs() <= reach  # (B, K, 2, grid)
    covers = near[:, :, 1, :, None] & near[:, :, 0, None, :] & valid[:, :, None, None]  # (B, K, grid, grid)
    covered = covers.any(1)
    cells = covers.flatten(2)  # (B, K, cells)
    # A sum, not a matrix product: under mixed precision coordinates must stay in float32.
    points = torch.where(cells[..., None], target_points[:, :, None], 0)
    mean_target = points.sum(1) / cells.sum(1).clamp(min=1)[..., None]
    # The last keypoint that covers a cell; 0 stands for "none", so that K = 0 works too.
    order = torch.arange(1, valid.shape[1] + 1, device=valid.device)
    none = order.new_zeros(valid.shape[0], 1, grid * grid)
    last = torch.cat((none, cells * order[:, None]), 1).amax(1)  # (B, cells)
    or_none = torch.cat((source_points.new_zeros(valid.shape[0], 1, 2), source_points), 1)
    last_source = or_none.gather(1, last[..., None].expand(-1, -1, 2))
    flow = torch.where(covered.flatten(1)[..., None], (last_source - mean_target) / stride, 0)
    return flow.transpose(1, 2).unflatten(2, (grid, grid)), covered
