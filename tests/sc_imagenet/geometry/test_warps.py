"""Affine and thin-plate warps of images."""

from __future__ import annotations

from math import pi

import torch

from sc_imagenet.geometry.warps import affine_grid, spline, thin_plate_grid, warp

NONE, ONES = torch.zeros(1), torch.ones(1, 2)
STAY = torch.zeros(1, 2)


def dots(*places: tuple[int, int]) -> torch.Tensor:
    image = torch.zeros(1, 1, 9, 9)
    for row, column in places:
        image[0, 0, row, column] = 1
    return image


def test_a_quarter_turn_turns():
    turned = warp(dots((1, 4)), [affine_grid(torch.tensor([pi / 2]), NONE, ONES, STAY, 9)], "nearest")
    assert turned.nonzero()[:, 2:].tolist() in ([[4, 1]], [[4, 7]])
    again = warp(turned, [affine_grid(torch.tensor([-pi / 2]), NONE, ONES, STAY, 9)], "nearest")
    assert torch.equal(again, dots((1, 4)))


def test_scaling_along_turned_axes_is_the_same_for_equal_scales():
    half = torch.full((1, 2), 0.5)
    plain, turned = (affine_grid(NONE, torch.tensor([axis]), half, STAY, 6) for axis in (0.0, 0.7))
    torch.testing.assert_close(plain, turned)
    uneven = affine_grid(NONE, torch.tensor([pi / 2]), torch.tensor([[0.5, 2.0]]), STAY, 6)
    torch.testing.assert_close(uneven, affine_grid(NONE, NONE, torch.tensor([[2.0, 0.5]]), STAY, 6), atol=1e-6, rtol=0)


def test_what_comes_from_outside_is_zero():
    image = torch.ones(1, 3, 8, 8)
    shifted = warp(image, [affine_grid(NONE, NONE, ONES, torch.tensor([[0.5, 0.0]]), 8)])
    assert shifted[..., :6].eq(1).all()
    assert shifted[..., 6:].eq(0).all()
    far = affine_grid(NONE, NONE, ONES, torch.tensor([[3.0, 0.0]]), 8)
    back = affine_grid(NONE, NONE, ONES, torch.tensor([[-3.0, 0.0]]), 8)
    assert not warp(image, [far, back]).any()


def test_a_spline_goes_through_its_points_and_is_affine_where_they_are():
    draw = torch.Generator().manual_seed(0)
    points, elsewhere = torch.rand(7, 2, generator=draw), torch.rand(5, 2, generator=draw)
    values = torch.rand(3, 7, 2, generator=draw)
    torch.testing.assert_close(spline(points, values, points), values, atol=1e-4, rtol=0)
    linear, shift = torch.tensor([[1.0, 0.4], [-0.2, 0.8]]), torch.tensor([0.3, -0.1])
    affine = spline(points, (points @ linear + shift)[None], elsewhere)
    torch.testing.assert_close(affine[0], elsewhere @ linear + shift, atol=1e-4, rtol=0)


def test_an_unmoved_lattice_changes_nothing_and_a_moved_point_moves_its_surroundings():
    still = thin_plate_grid(torch.zeros(1, 9, 2), 5)
    line = torch.linspace(-1, 1, 5)
    torch.testing.assert_close(still[0, :, :, 0], line.expand(5, 5), atol=1e-5, rtol=0)
    moves = torch.zeros(1, 9, 2)
    moves[0, 4, 0] = 0.3
    moved = thin_plate_grid(moves, 5) - still
    assert (moved[0, 2, 2] - moves[0, 4]).abs().max() < 1e-5
    assert moved[0, 0, 0].abs().max() < 1e-5
    assert 0 < moved[0, 2, 1, 0] < 0.3
