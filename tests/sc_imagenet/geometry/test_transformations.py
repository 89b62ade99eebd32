"""Affine transformations and splines of points, and images warped by them."""

from __future__ import annotations

import pytest
import torch

from sc_imagenet.geometry.transformations import (
    AFFINE,
    IDENTITY,
    SPLINE,
    lattice,
    squared_distance,
    transform,
    transformed_grid,
    warp_source,
)


def drawn(parameters: int, count: int = 2) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    moved = torch.rand(count, parameters, generator=generator, dtype=torch.float64) * 0.4 - 0.2
    return torch.tensor(IDENTITY[parameters], dtype=torch.float64) + moved


def test_a_spline_takes_its_control_points_where_its_parameters_say():
    theta = drawn(SPLINE)
    control = torch.tensor(IDENTITY[SPLINE], dtype=torch.float64).view(2, 9).T.expand(2, -1, -1)
    torch.testing.assert_close(transform(theta, control), theta.unflatten(1, (2, 9)).mT)


def test_a_stiff_spline_misses_its_control_points_and_stays_affine_where_they_are():
    control = torch.tensor(IDENTITY[SPLINE], dtype=torch.float64).view(2, 9).T[None]
    bent = drawn(SPLINE, 1)
    where = bent.unflatten(1, (2, 9)).mT
    soft = squared_distance(bent, control, where).sum()
    stiff = (transform(bent, control, 0.2) - where).square().sum()
    assert soft < 1e-20 < 1e-6 < stiff
    # Control points that an affine transformation moves are met however stiff the spline is.
    straight = transform(drawn(AFFINE, 1), control).mT.flatten(1)
    torch.testing.assert_close(transform(straight, control, 0.2).mT.flatten(1), straight)


@pytest.mark.parametrize("parameters", [AFFINE, SPLINE])
def test_a_warped_image_shows_at_each_pixel_what_the_source_has_where_it_goes(parameters):
    """Of an image that holds its own coordinates the warped one holds the transformation's."""
    side = 9
    theta = drawn(parameters) * 0.8  # stays inside
    coordinates = lattice(side, theta).T.unflatten(1, (side, side)).expand(2, -1, -1, -1)
    grid = transformed_grid(theta, side)
    inside = (grid.abs() < 1).all(-1)
    assert inside.double().mean() > 0.5
    torch.testing.assert_close(warp_source(coordinates, theta).permute(0, 2, 3, 1)[inside], grid[inside])


def test_gradients_of_points_on_control_points_are_numbers():
    theta = torch.tensor([IDENTITY[SPLINE]], requires_grad=True)
    points = lattice(3, theta)[None].clone().requires_grad_(True)
    transform(theta, points).square().sum().backward()
    assert theta.grad.isfinite().all()
    assert points.grad.isfinite().all()
