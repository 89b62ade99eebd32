"""Inner products of up-sampled maps are those that one gets by up-sampling them."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from sc_imagenet.geometry.upsampled import inner_products, inner_products_of, square_norms

LEVELS = [(3, (12, 10)), (5, (6, 5)), (7, (3, 3)), (4, (1, 2))]


def maps(grid: tuple[int, int], seed: int) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    shrink = [(max(grid[0] // n, 1), max(grid[1] // n, 1)) for n in (1, 2, 4, 9)]
    return [torch.randn(c, *size, generator=generator) for (c, _), size in zip(LEVELS, shrink)]


def hyperpixels(given: list[torch.Tensor], grid: tuple[int, int]) -> torch.Tensor:
    """(C, N), up-sampled."""
    wide = [F.interpolate(own[None], grid, mode="bilinear", align_corners=True)[0] for own in given]
    return torch.cat(wide).flatten(1)


@pytest.mark.parametrize("grids", [((12, 10), (12, 10)), ((9, 13), (20, 5)), ((4, 4), (1, 7))])
@pytest.mark.parametrize("levels", [slice(None), slice(1), slice(1, None)])
def test_rows_and_chosen_cells(grids, levels):
    source, target = (maps(grid, seed)[levels] for seed, grid in enumerate(grids))
    expected = hyperpixels(source, grids[0]).T @ hyperpixels(target, grids[1])
    rows = list(inner_products(source, target, *grids))
    assert len(rows) == grids[0][0]
    torch.testing.assert_close(torch.cat(rows), expected, atol=1e-4, rtol=1e-4)
    cells = torch.tensor([3, 0, len(expected) - 1])
    torch.testing.assert_close(inner_products_of(source, target, cells, *grids), expected[cells], atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("grid", [(12, 10), (9, 13), (1, 7), (5, 1)])
def test_norms(grid):
    given = maps(grid, 2)
    torch.testing.assert_close(
        square_norms(given, grid), hyperpixels(given, grid).square().sum(0), atol=1e-4, rtol=1e-4
    )


def test_gradients_of_rows_norms_and_cells():
    grid = (8, 6)
    source, target = ([own.requires_grad_() for own in maps(grid, seed)] for seed in (3, 4))
    weight = torch.randn(48, 48, generator=torch.Generator().manual_seed(5))

    def gradients(products: torch.Tensor, norms: torch.Tensor) -> list[torch.Tensor]:
        return list(torch.autograd.grad((products * weight).sum() + (norms * weight[0]).sum(), source + target))

    ours = gradients(torch.cat(list(inner_products(source, target, grid, grid))), square_norms(source, grid))
    chosen = gradients(inner_products_of(source, target, torch.arange(48), grid, grid), square_norms(source, grid))
    wide = hyperpixels(source, grid)
    plain = gradients(wide.T @ hyperpixels(target, grid), wide.square().sum(0))
    for first, second, expected in zip(ours, chosen, plain):
        torch.testing.assert_close(first, expected, atol=1e-3, rtol=1e-4)
        torch.testing.assert_close(second, expected, atol=1e-3, rtol=1e-4)
