"""Histograms of gradients, and their whitening."""

from __future__ import annotations

import torch

from sc_imagenet.geometry.fhog import FEATURES, histograms, statistics, whitening


def noise(*shape: int) -> torch.Tensor:
    return torch.rand(*shape, generator=torch.Generator().manual_seed(0))


def test_a_plain_image_has_no_gradients():
    assert histograms(torch.full((1, 3, 32, 40), 0.3)).abs().max() == 0


def test_a_ramp_points_one_way_and_its_reverse_the_other():
    ramp = torch.linspace(0, 1, 40).expand(1, 3, 40, 40)
    right, left = (histograms(image)[0, :, 1, 1] for image in (ramp, ramp.flip(-1)))
    assert right[:18].argmax() == 0
    assert left[:18].argmax() == 9
    torch.testing.assert_close(right[18:27], left[18:27])
    assert histograms(ramp.mT)[0, 18:27, 1, 1].argmax() in (4, 5)  # 90 degrees lies between the two nearest of nine


def test_brightness_and_contrast_do_not_matter():
    image = noise(1, 3, 48, 48)
    torch.testing.assert_close(histograms(image), histograms(image * 0.5 + 0.2), atol=2e-3, rtol=0)


def test_an_image_moved_by_a_cell_has_its_features_moved_by_one():
    image = noise(1, 3, 64, 64)
    moved = histograms(image.roll((8, 16), (2, 3)))
    # Features of cells whose blocks do not touch the border.
    torch.testing.assert_close(moved[..., 2:5, 3:5], histograms(image)[..., 1:4, 1:3])


def test_whitened_windows_have_unit_covariance():
    """The factor undoes the covariance that its blocks are put together to."""
    side = 2
    _, covariances = statistics(noise(6, 3, 80, 96), side)
    whitener = whitening(covariances, side, ridge=1e-6).double()
    matrix = torch.linalg.inv(whitener) @ torch.linalg.inv(whitener).T
    expected = covariances[0, side - 1].double()
    blocks = matrix.view(FEATURES, side * side, FEATURES, side * side)
    for cell in range(side * side):
        torch.testing.assert_close(blocks[:, cell, :, cell], expected, atol=1e-4, rtol=1e-3)
    # The cell below, and the one to the right of it, by their offset.
    torch.testing.assert_close(blocks[:, 0, :, 2], covariances[1, side - 1].double(), atol=1e-4, rtol=1e-3)
    torch.testing.assert_close(blocks[:, 1, :, 2], covariances[1, side - 2].double(), atol=1e-4, rtol=1e-3)
