"""Windows of a volume: cutting and merging lose nothing, and attention inside them sees what it should."""

from __future__ import annotations

from itertools import product

import pytest
import torch

from sc_imagenet.geometry.windows4d import (
    HIDDEN,
    attention_mask,
    count_windows,
    half_shift,
    merge,
    padded_grid,
    partition,
    relative_position,
)

GRIDS = [(8, 8, 8, 8), (5, 5, 3, 3), (4, 6, 1, 7), (10, 10, 5, 5), (1, 1, 1, 1), (7, 9)]


@pytest.mark.parametrize("grid", GRIDS)
@pytest.mark.parametrize("shifted", [False, True])
def test_merging_undoes_cutting_on_any_grid(grid, shifted):
    shift = half_shift(grid, 4) if shifted else None
    volume = torch.rand(2, *grid, 3)
    windows = partition(volume, 4, shift)
    assert windows.shape == (2, count_windows(grid, 4), 4 ** len(grid), 3)
    assert torch.equal(merge(windows, grid, 4, shift), volume)


@pytest.mark.parametrize("grid", GRIDS)
@pytest.mark.parametrize("shifted", [False, True])
def test_tokens_see_exactly_their_neighbours_in_the_unrolled_grid(grid, shifted):
    """Two real cells see each other iff they are in one window and, there, as far apart as in the grid."""
    shift = half_shift(grid, 4) if shifted else None
    masks, kind = attention_mask(grid, 4, shift)
    places = torch.tensor(list(product(*map(range, grid)))).float().view(1, *grid, -1)
    real = partition(torch.ones(1, *grid, 1), 4, shift)[0, ..., 0] > 0
    where = partition(places, 4, shift)[0]
    inside = torch.tensor(list(product(range(4), repeat=len(grid)))).float()
    near = (where[:, :, None] - where[:, None] == inside[:, None] - inside[None]).all(-1)
    both = real[:, :, None] & real[:, None]
    assert torch.equal((masks[kind] == 0) & both, near & both)
    assert (masks[kind][real[:, :, None] != real[:, None]] == HIDDEN).all()


def test_every_token_sees_itself():
    masks, _ = attention_mask((5, 6, 7, 3), 4, half_shift((5, 6, 7, 3), 4))
    assert (masks.diagonal(dim1=1, dim2=2) == 0).all()


def test_offsets_are_numbered_by_row_then_column_then_those_of_the_source():
    index = relative_position(3)
    first, last = torch.tensor([0, 0, 0, 0]), torch.tensor([2, 2, 2, 2])
    numbers = ((first - last + 2) * torch.tensor([125, 25, 5, 1])).sum()
    assert index[0, -1] == numbers == 0
    assert index[-1, 0] == 5**4 - 1
    assert index[0, 1] == index[0, 0] - 1
    assert index[0, 27] == index[0, 0] - 125


def test_a_grid_of_one_window_is_not_shifted():
    assert half_shift((4, 3, 5, 8), 4) == (0, 0, 2, 2)
    assert padded_grid((4, 3, 5, 8), 4) == (4, 4, 8, 8)


def test_a_window_may_have_a_side_for_every_dimension():
    grid, window = (6, 5, 2, 3), (4, 4, 2, 2)
    shift = half_shift(grid, window)
    assert shift == (2, 2, 0, 1)
    volume = torch.rand(2, *grid, 3)
    windows = partition(volume, window, shift)
    assert windows.shape == (2, 2 * 2 * 1 * 2, 64, 3)
    assert torch.equal(merge(windows, grid, window, shift), volume)
    assert relative_position(window).max() == 7 * 7 * 3 * 3 - 1


def test_gradients_go_back_to_where_the_tokens_came_from():
    volume = torch.rand(2, 5, 4, 3, 4, 2, dtype=torch.float64, requires_grad=True)
    weights = torch.rand_like(partition(volume, 4, (2, 0, 0, 0)))
    windows = partition(volume, 4, (2, 0, 0, 0))
    (windows * weights).sum().backward()
    assert torch.equal(volume.grad, merge(weights, (5, 4, 3, 4), 4, (2, 0, 0, 0)))
