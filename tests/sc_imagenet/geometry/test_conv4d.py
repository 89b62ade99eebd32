"""The 4-D convolution beside its definition."""

from __future__ import annotations

import itertools

import pytest
import torch
import torch.nn.functional as F

from sc_imagenet.geometry.conv4d import conv4d


def tap_by_tap(volume, weight, bias):
    """The sum over all taps of the shifted volume."""
    size = weight.shape[2]
    padded = F.pad(volume, (size // 2,) * 8)
    result = bias.view(1, -1, 1, 1, 1, 1)
    for tap in itertools.product(range(size), repeat=4):
        cut = padded
        for dimension, (start, length) in enumerate(zip(tap, volume.shape[2:]), 2):
            cut = cut.narrow(dimension, start, length)
        result = result + torch.einsum("oc,bcijkl->boijkl", weight[(..., *tap)], cut)
    return result


@pytest.mark.parametrize(
    ("inputs", "outputs", "size", "grid"),
    [
        (1, 4, 3, (5, 5, 5, 5)),
        (4, 4, 5, (6, 6, 6, 6)),
        (4, 1, 5, (5, 5, 5, 5)),
        (2, 3, 3, (4, 5, 3, 6)),
        (3, 2, 1, (2, 3, 1, 4)),
    ],
)
def test_values_and_gradients_are_those_of_the_definition(inputs, outputs, size, grid):
    generator = torch.Generator().manual_seed(0)
    shapes = (2, inputs, *grid), (outputs, inputs, *4 * (size,)), (outputs,)
    arguments = [torch.randn(shape, generator=generator).requires_grad_() for shape in shapes]
    volume, weight, bias = arguments
    ours = conv4d(volume.movedim(1, 3), weight, bias).movedim(3, 1)
    theirs = tap_by_tap(volume, weight, bias)
    torch.testing.assert_close(ours, theirs, atol=1e-4, rtol=1e-4)
    towards = torch.randn(ours.shape, generator=generator)
    for mine, yours in zip(*(torch.autograd.grad(y, arguments, towards) for y in (ours, theirs))):
        torch.testing.assert_close(mine, yours, atol=1e-3, rtol=1e-4)


def test_no_match_wraps_around_the_border():
    corner = torch.zeros(1, 4, 4, 1, 4, 4)
    corner[0, 3, 3, 0, 3, 3] = 1
    spread = conv4d(corner, torch.ones(1, 1, 5, 5, 5, 5))
    assert spread[0, 0].abs().max() < 1e-5
    assert spread[0, :, :, 0, 0].abs().max() < 1e-5
