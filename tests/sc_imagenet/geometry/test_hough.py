"""Regularised Hough matching beside a plain reference: one vote after the other into one histogram a source cell."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from sc_imagenet.geometry.flow import cell_corners
from sc_imagenet.geometry.hough import (
    HoughSpace,
    _sums_in_few_kernels,
    _sums_row_by_row,
    bin_side_of,
    box_bins,
    box_scores,
    difference_scores,
    difference_sums,
    differences_at,
    gaussian,
    grid_scores,
    half_maximum_sigma,
    pixel_space,
    spread_differences,
)


def random_votes(*shape: int) -> torch.Tensor:
    return torch.rand(*shape, generator=torch.Generator().manual_seed(0))


def plain_scores(votes, source, target, source_size, target_size):
    """As published: a histogram for every source cell, their sum smoothed."""
    bins, (rows, columns) = box_bins(source, target, source_size, target_size, bin_side_of(source_size, target_size))
    histograms = votes.new_zeros(len(votes), rows * columns).scatter_add(1, bins, votes)
    line = gaussian(7, half_maximum_sigma(7)).float()
    kernel = torch.outer(line, line)[None, None]
    return F.conv2d(histograms.sum(0).view(1, 1, rows, columns), kernel, padding=3).view(-1)[bins]


SIZES = [((8, 8), (8, 8), 16), ((5, 9), (7, 4), 16), ((15, 12), (15, 15), 4), ((1, 6), (3, 1), 8)]


@pytest.mark.parametrize(("source", "target", "step"), SIZES)
def test_grids_and_boxes_score_as_the_plain_reference(source, target, step):
    sizes = [(rows * step, columns * step) for rows, columns in (source, target)]
    centres = [cell_corners(grid, step) for grid in (source, target)]
    votes = random_votes(source[0] * source[1], target[0] * target[1])
    expected = plain_scores(votes, *centres, *sizes)
    torch.testing.assert_close(box_scores(votes[None], *centres, *sizes)[0], expected)
    torch.testing.assert_close(grid_scores(votes[None], pixel_space(source, target, step, *sizes))[0], expected)


@pytest.mark.parametrize("window", [1, 3, 5, 7])
def test_bins_of_one_cell_score_a_match_by_the_matches_shifted_alike(window):
    space = HoughSpace((4, 5), (4, 5), window=window)
    votes = torch.zeros(1, 20, 20)
    votes[0, 0, 6] = votes[0, 1, 7] = votes[0, 5, 11] = 1  # one row down, one column right
    peak = gaussian(window, half_maximum_sigma(window))[window // 2].item() ** 2
    assert grid_scores(votes, space)[0, 7, 13].item() == pytest.approx(3 * peak, rel=1e-5)
    reach = window // 2
    beside = grid_scores(votes, space)[0, 7, 7]  # its offset is one row and one column away
    assert (beside > 0) == (reach >= 1)


def test_sigma_can_be_chosen():
    votes = random_votes(1, 16, 16)
    narrow = HoughSpace((4, 4), (4, 4), window=3, sigma=0.01)
    torch.testing.assert_close(grid_scores(votes, narrow), grid_scores(votes, HoughSpace((4, 4), (4, 4), window=1)))


def test_pairs_of_a_batch_do_not_touch_each_other():
    space, votes = HoughSpace((3, 4), (4, 3)), random_votes(3, 12, 12)
    torch.testing.assert_close(grid_scores(votes, space)[1:2], grid_scores(votes[1:2], space))


def test_gradients_are_those_of_the_votes():
    space = HoughSpace((2, 3), (3, 2), window=3)
    votes = random_votes(2, 6, 6).requires_grad_()
    weights = random_votes(2, 6, 6).flip(1)
    (grad,) = torch.autograd.grad((votes * grid_scores(votes, space) * weights).sum(), votes)
    step = torch.zeros_like(votes)
    step[1, 2, 3] = 0.25  # the product is a quadratic function: a central difference is exact

    def value(given: torch.Tensor) -> float:
        return (given * grid_scores(given, space) * weights).sum().item()

    with torch.no_grad():
        difference = (value(votes + step) - value(votes - step)) / 0.5
    assert grad[1, 2, 3].item() == pytest.approx(difference, rel=1e-4)


def test_spreading_is_the_transpose_of_summing():
    volume, table = random_votes(2, 6, 8), random_votes(2, 3, 6)
    source, target = (2, 3), (2, 4)
    down = (difference_sums(volume, source, target) * table).sum()
    up = (volume * spread_differences(table, source, target)).sum()
    torch.testing.assert_close(down, up)


@pytest.mark.parametrize(("source", "target"), [((2, 3), (2, 4)), ((5, 4), (3, 3)), ((1, 6), (6, 1))])
def test_few_kernels_sum_what_rows_sum(source, target):
    by_cell = random_votes(2, source[0] * source[1], target[0] * target[1]).view(2, *source, *target)
    torch.testing.assert_close(_sums_in_few_kernels(by_cell), _sums_row_by_row(by_cell))


def test_some_cells_read_what_all_read():
    space = HoughSpace((3, 4), (5, 2))
    table = difference_scores(random_votes(2, 12, 10), space)
    cells = torch.tensor([11, 0, 5])
    whole = spread_differences(table, space.source, space.target)
    assert torch.equal(differences_at(table, cells, space.source, space.target), whole[:, cells])
    assert differences_at(table, cells[:0], space.source, space.target).shape == (2, 0, 10)


def test_votes_in_half_precision_are_summed_in_float32():
    votes = torch.full((1, 64, 64), 0.1, dtype=torch.bfloat16)
    scores = grid_scores(votes, HoughSpace((8, 8), (8, 8), window=1))
    assert scores.dtype == torch.float32
    assert scores[0, 0, 0].item() == pytest.approx(64 * votes[0, 0, 0].item(), rel=1e-5)


def test_it_can_be_trained_after_it_was_used_for_inference():
    space, votes = HoughSpace((2, 2), (2, 2), bin_side=0.77), random_votes(1, 4, 4)
    with torch.inference_mode():
        grid_scores(votes, space)
    votes.requires_grad_()
    (votes * grid_scores(votes, space)).sum().backward()
    assert votes.grad is not None
    assert votes.grad.isfinite().all()


class Written(TorchDispatchMode):
    """Counts the numbers that operations write: what they cost whatever the processor does beside."""

    def __init__(self) -> None:
        super().__init__()
        self.numbers = 0

    def __torch_dispatch__(self, operation, types, arguments=(), named=None):
        result = operation(*arguments, **(named or {}))
        if not operation.is_view:
            self.numbers += sum(part.numel() for part in tree_leaves(result) if isinstance(part, torch.Tensor))
        return result


def test_it_writes_less_than_a_third_of_the_plain_reference_s_numbers():
    grid, frame = (32, 32), (512, 512)
    centres, space = cell_corners(grid, 16), pixel_space(grid, grid, 16, frame, frame)
    votes = random_votes(1024, 1024)
    with Written() as plain:
        plain_scores(votes, centres, centres, frame, frame)
    with Written() as ours:
        grid_scores(votes[None], space)
    assert 0 < ours.numbers < plain.numbers / 3
