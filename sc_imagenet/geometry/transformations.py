"""Affine and thin-plate-spline transformations of points, by the parameters that CNNGeo's networks give.

A transformation takes points of the target image to the source image. Positions are unit coordinates: x and y in
[-1, 1], the CENTRES of the outer pixels at -1 and 1 (``align_corners=True``), as the published codes have it. An affine
transformation is (a11, a12, tx, a21, a22, ty); a spline is where its nine control points go, their x before their y,
the points themselves on {-1, 0, 1} x {-1, 0, 1}, y running fastest.
"""

from __future__ import annotations

import functools

import torch
import torch.nn.functional as F
from torch import Tensor

AFFINE, SPLINE = 6, 18  # parameters

IDENTITY = {
    AFFINE: (1.0, 0.0, 0.0, 0.0, 1.0, 0.0),
    SPLINE: (-1.0, -1.0, -1.0, 0.0, 0.0, 0.0, 1.0, 1.0, 1.0, *3 * (-1.0, 0.0, 1.0)),
}


def transform(theta: Tensor, points: Tensor, stiffness: float = 0.0) -> Tensor:
    """Points (B, N, 2) of the target -> of the source, by parameters (B, 6) or (B, 18), whichever they are.

    Args:
        theta: of one transformation for each row of ``points``.
        points: unit coordinates.
        stiffness: added to the diagonal of a spline's system; 0 passes through the control points.

    >>> points = torch.tensor([[[0.5, -0.5], [1.0, 0.0]]])
    >>> transform(torch.tensor([[2.0, 0.0, 0.25, 0.0, 1.0, 0.0]]), points).tolist()
    [[[1.25, -0.5], [2.25, 0.0]]]
    >>> still = transform(torch.tensor([IDENTITY[18]]), points)
    >>> bool(torch.allclose(still, points, atol=1e-6))
    True
    """
    # Sums, not matrix products: under mixed precision coordinates must stay in float32.
    if theta.shape[1] == AFFINE:
        matrix = theta.unflatten(1, (2, 3))
        return (points[:, :, None] * matrix[:, None, :, :2]).sum(-1) + matrix[:, None, :, 2]
    control, inverse = _system(stiffness)
    control, inverse = control.to(points), inverse.to(points)
    weights = (inverse[:, :9, None] * theta.unflatten(1, (2, 9)).mT[:, None]).sum(2)  # (B, 12, 2)
    square = (points[:, :, None] - control).square().sum(-1)  # (B, N, 9)
    # r^2 log r^2, which is 0 at 0 with a gradient of 0 there.
    bending = square * torch.where(square == 0, 1.0, square).log()
    plane = F.pad(points, (1, 0), value=1.0)
    return torch.stack([(torch.cat((bending, plane), 2) * axis[:, None]).sum(-1) for axis in weights.unbind(2)], 2)


@functools.cache
def _system(stiffness: float) -> tuple[Tensor, Tensor]:
    """The control points (9, 2), and the inverse (12, 12) of the system that a spline through them solves."""
    line = torch.tensor([-1.0, 0.0, 1.0], dtype=torch.float64, device="cpu")
    control = torch.cartesian_prod(line, line)
    square = (control[:, None] - control).square().sum(-1)
    plane = F.pad(control, (1, 0), value=1.0)
    system = control.new_zeros(12, 12)
    system[:9, :9] = torch.xlogy(square, square) + stiffness * control.new_ones(9).diag()
    system[:9, 9:] = plane
    system[9:, :9] = plane.T
    return control, torch.linalg.inv(system)


def lattice(count: int, like: Tensor) -> Tensor:
    """Points (count * count, 2) spread evenly over [-1, 1] x [-1, 1], row by row, x fastest.

    >>> lattice(2, torch.zeros(())).tolist()
    [[-1.0, -1.0], [1.0, -1.0], [-1.0, 1.0], [1.0, 1.0]]
    """
    line = torch.linspace(-1, 1, count, device=like.device, dtype=like.dtype)
    return torch.stack((line.repeat(count), line.repeat_interleave(count)), 1)


def transformed_grid(theta: Tensor, side: int) -> Tensor:
    """Where every pixel of a target of ``side`` pixels is in the source: (B, side, side, 2)."""
    points = lattice(side, theta).expand(len(theta), -1, -1)
    return transform(theta, points).unflatten(1, (side, side))


def warp_source(images: Tensor, theta: Tensor) -> Tensor:
    """Source images (B, C, S, S) as the target sees them; what comes from outside is 0.

    >>> aside = torch.tensor([[1.0, 0.0, 1.0, 0.0, 1.0, 0.0]])
    >>> warp_source(torch.arange(9.0).view(1, 1, 3, 3), aside)[0, 0, 0].tolist()
    [1.0, 2.0, 0.0]
    """
    return F.grid_sample(images, transformed_grid(theta, images.shape[-1]).to(images.dtype), align_corners=True)


def squared_distance(theta: Tensor, points: Tensor, arrived: Tensor) -> Tensor:
    """How far a transformation takes points (B, N, 2) from where they should arrive: squares, (B, N).

    Of a lattice of points it is CNNGeo's grid loss (Rocco et al., CVPR 2017, section 4).

    >>> still, far = torch.tensor([IDENTITY[6]]), torch.tensor([[[0.3, 0.4]]])
    >>> squared_distance(still, torch.zeros(1, 1, 2), far).tolist()
    [[0.25]]
    """
    return (transform(theta, points) - arrived).square().sum(-1)
