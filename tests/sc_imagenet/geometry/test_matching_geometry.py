"""Correlation, soft-argmax, flows and reading maps at points."""

from __future__ import annotations

import pytest
import torch

from sc_imagenet.geometry.correlation import cosine, mutual_nearest_neighbour
from sc_imagenet.geometry.flow import carry_points, flow_to_mapping, mapping_to_flow
from sc_imagenet.geometry.grids import cell_centres, denormalise, normalise, read_at
from sc_imagenet.geometry.soft_argmax import soft_argmax, windowed_soft_argmax


def test_cosine_is_one_between_parallel_features_and_bounded():
    maps = torch.randn(2, 7, 3, 4, generator=torch.Generator().manual_seed(0))
    volume = cosine(maps, 2.5 * maps)
    torch.testing.assert_close(volume.diagonal(dim1=1, dim2=2), torch.ones(2, 12), atol=1e-4, rtol=0)
    assert volume.abs().max() <= 1.0001


def test_mutual_neighbours_keep_their_value_and_others_lose():
    volume = torch.rand(2, 6, 5, generator=torch.Generator().manual_seed(1))
    filtered = mutual_nearest_neighbour(volume)
    best = (volume == volume.amax(-1, keepdim=True)) & (volume == volume.amax(-2, keepdim=True))
    assert best.any()
    torch.testing.assert_close(filtered[best], volume[best])
    assert (filtered[~best] < volume[~best]).all()


def test_a_row_of_zeros_stays_finite():
    volume = torch.rand(4, 4)
    volume[2] = 0
    volume[:, 1] = 0
    assert mutual_nearest_neighbour(volume).isfinite().all()


def test_soft_argmax_is_the_peak_when_cold_and_the_middle_when_hot():
    scores = torch.zeros(1, 4, 6, 1)
    scores[0, 3, 1, 0] = 1
    xs, ys = torch.linspace(-1, 1, 6), torch.linspace(-1, 1, 4)
    assert soft_argmax(scores, xs, ys, 0.01).flatten().tolist() == pytest.approx([-0.6, 1.0])
    assert soft_argmax(scores, xs, ys, 1e6).flatten().tolist() == pytest.approx([0, 0], abs=1e-4)


def test_the_window_leaves_out_a_second_peak():
    scores = torch.zeros(2, 3, 9, 9)
    scores[..., 2, 3] = 1.0
    scores[..., 7, 8] = 0.99
    assert windowed_soft_argmax(scores, 2, 0.01).reshape(-1, 2).round(decimals=4).unique(dim=0).tolist() == [[3, 2]]
    assert windowed_soft_argmax(scores, 20, 0.01)[0, 0, 0] > 3.5


def test_reading_at_cell_centres_gives_the_cells():
    grid = torch.randn(1, 3, 4, 4, generator=torch.Generator().manual_seed(2))
    centres = cell_centres(4, 16)
    points = torch.stack((centres.repeat(4), centres.repeat_interleave(4)), -1)[None]
    torch.testing.assert_close(read_at(grid, points, 64), grid.flatten(2).transpose(1, 2), atol=1e-5, rtol=0)
    assert torch.equal(read_at(grid, torch.tensor([[[-5.0, 70.0]]]), 64)[0, 0], grid[0, :, 3, 0])


def test_normalised_points_come_back():
    points = torch.rand(5, 2) * 300
    torch.testing.assert_close(denormalise(normalise(points, 300), 300), points, atol=1e-3, rtol=0)


def test_zero_flow_maps_every_cell_to_itself():
    mapping = flow_to_mapping(torch.zeros(1, 2, 4, 5))
    assert mapping[0, 0, 0].tolist() == pytest.approx([-1, -0.5, 0, 0.5, 1])
    assert mapping[0, 1, :, 0].tolist() == pytest.approx([-1, -1 / 3, 1 / 3, 1])
    torch.testing.assert_close(mapping_to_flow(mapping), torch.zeros(1, 2, 4, 5), atol=1e-6, rtol=0)


def test_carried_points_drop_their_fraction_and_stay_inside():
    flow = torch.zeros(1, 2, 16, 16)
    flow[:, 1] = 0.5
    points = torch.tensor([[[10.9, 20.2], [-4.0, 300.0]]])
    assert carry_points(flow, points, 256).tolist() == [[[10.0, 28.0], [0.0, 263.0]]]


def test_carried_points_follow_the_flow_between_cells():
    flow = torch.zeros(1, 2, 1, 2)
    flow[0, 0, 0, 1] = 1.0  # one cell of 32 px, at the right cell only
    moved = carry_points(flow, torch.tensor([[[32.0, 5.0]]]), 64)
    assert moved[0, 0, 0].item() == pytest.approx(32 + 32 * (32.5 - 16) / 32)
