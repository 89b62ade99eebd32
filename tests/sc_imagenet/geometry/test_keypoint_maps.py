"""The sparse flow that keypoints give, against the published rule as a plain loop."""

from __future__ import annotations

import pytest
import torch

from sc_imagenet.geometry.grids import sparse_flow


def plain(source, target, valid, grid, stride, reach):
    """One image: keypoint after keypoint, the last one overwrites."""
    flow = torch.zeros(2, grid, grid)
    for row in range(grid):
        for column in range(grid):
            centre = torch.tensor([column * stride + stride / 2, row * stride + stride / 2])
            covering = [k for k in range(len(valid)) if valid[k] and bool(((target[k] - centre).abs() <= reach).all())]
            if covering:
                flow[:, row, column] = (source[covering[-1]] - target[covering].mean(0)) / stride
    return flow


@pytest.mark.parametrize(("grid", "stride", "reach"), [(16, 16.0, 17.0), (10, 16.0, 17.0), (8, 8.0, 8.5)])
def test_equals_the_plain_loop(grid, stride, reach):
    generator = torch.Generator().manual_seed(grid)
    side = grid * stride
    source, target = (torch.rand(3, 9, 2, generator=generator) * side for _ in range(2))
    target[0, :4] = target[0, :1] + 3  # several keypoints in the same cells
    valid = torch.rand(3, 9, generator=generator) > 0.3
    flow, covered = sparse_flow(source, target, valid, grid, stride, reach)
    for image in range(3):
        expected = plain(source[image], target[image], valid[image], grid, stride, reach)
        torch.testing.assert_close(flow[image], expected, rtol=0, atol=1e-5)
        assert torch.equal(covered[image], (expected != 0).any(0))


def test_the_source_of_the_last_keypoint_counts_and_the_mean_of_all_targets():
    target = torch.tensor([[[8.0, 8.0], [10.0, 8.0]]])
    source = torch.tensor([[[100.0, 8.0], [41.0, 8.0]]])
    flow, _ = sparse_flow(source, target, torch.tensor([[True, True]]), 16)
    assert flow[0, :, 0, 0].tolist() == [(41 - 9) / 16, 0]


def test_a_keypoint_covers_four_to_nine_cells():
    for position, cells in ((8.0, 4), (9.0, 4), (24.0, 4), (23.0, 9), (25.0, 9)):
        target = torch.full((1, 1, 2), position + 16)
        _, covered = sparse_flow(target, target, torch.tensor([[True]]), 16)
        exact = sum(abs(16 * cell + 8 - position - 16) <= 17 for cell in range(16)) ** 2
        assert covered.sum() == exact
        assert exact in (4, 9), cells


def test_padding_is_not_looked_at_and_no_points_are_fine():
    target = torch.tensor([[[40.0, 40.0], [float("nan"), float("nan")]]])
    flow, covered = sparse_flow(target + 16, target, torch.tensor([[True, False]]), 16)
    assert flow.isfinite().all()
    assert covered.any()
    flow, covered = sparse_flow(torch.zeros(2, 0, 2), torch.zeros(2, 0, 2), torch.zeros(2, 0, dtype=torch.bool), 16)
    assert flow.shape == (2, 2, 16, 16)
    assert not covered.any()
