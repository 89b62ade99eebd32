"""Points move like the cells whose boxes hold them."""

from __future__ import annotations

import torch

from sc_imagenet.geometry.flow import cell_corners, covering, mean_shift, nearest_cell


def test_a_box_holds_its_border():
    centres = cell_corners((1, 4), 4)
    covers = covering(torch.tensor([[5.0, 5.0], [5.1, 0.0]]), centres, 5)
    assert covers.tolist() == [[True, True, True, False], [False, True, True, False]]


def test_a_point_in_no_box_belongs_to_the_nearest():
    covers = covering(torch.tensor([[100.0, 3.0]]), cell_corners((2, 3), 4), 5)
    assert covers.nonzero().tolist() == [[0, 2], [0, 5]]


def test_no_points_are_no_points():
    centres = cell_corners((2, 2), 4)
    assert mean_shift(covering(torch.zeros(0, 2), centres, 5), centres).shape == (0, 2)
    assert nearest_cell(torch.zeros(0, 2), 4, (2, 2)).shape == (0,)


def test_a_cell_is_nearest_to_its_own_centre():
    centres = cell_corners((5, 7), 4)
    assert torch.equal(nearest_cell(centres, 4, (5, 7)), torch.arange(35))
    assert torch.equal(nearest_cell(centres + 1.9, 4, (5, 7)), torch.arange(35))
