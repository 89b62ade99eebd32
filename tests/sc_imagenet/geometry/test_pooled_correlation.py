"""Correlations pooled as they are computed equal those that are computed whole, gradients included."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from sc_imagenet.geometry import pooled_correlation as module
from sc_imagenet.geometry.pooled_correlation import pooled_correlation


def whole(target, source, pool_target, pool_source):
    """The same by definition: every cosine, then ``max_pool2d``."""
    ours, theirs = (
        torch.stack([level / (level.norm(dim=1, keepdim=True) + 1e-5) for level in maps]) for maps in (target, source)
    )
    volume = torch.einsum("lbcij,lbckm->blijkm", ours, theirs).clamp(min=0)
    batch, layers, *grid = volume.shape
    over_source = F.max_pool2d(volume.flatten(0, 3), pool_source, ceil_mode=True)
    over_source = over_source.view(batch, layers, *grid[:2], *over_source.shape[-2:]).permute(0, 4, 5, 2, 3, 1)
    over_target = F.max_pool2d(volume.permute(0, 1, 4, 5, 2, 3).flatten(0, 3), pool_target, ceil_mode=True)
    over_target = over_target.view(batch, layers, *grid[2:], *over_target.shape[-2:]).permute(0, 4, 5, 2, 3, 1)
    return over_source, over_target


@pytest.mark.parametrize("pools", [(2, 2), (2, 1), (1, 2), (1, 1)])
@pytest.mark.parametrize("grids", [((6, 8), (4, 6)), ((5, 7), (3, 5)), ((1, 2), (5, 1))])
@pytest.mark.parametrize("chunk", [1, 100, 1 << 20])
def test_pooled_on_the_way_is_pooled_afterwards(pools, grids, chunk, monkeypatch):
    monkeypatch.setattr(module, "CHUNK", chunk)
    torch.manual_seed(0)
    target, source = ([torch.randn(2, 7, *grid, requires_grad=True) for _ in range(3)] for grid in grids)
    found = []
    for function in (pooled_correlation, whole):
        pooled = function(target, source, *pools)
        weights = [torch.linspace(-1, 2, part.numel()).view(part.shape) for part in pooled]
        total = sum((part * weight).sum() for part, weight in zip(pooled, weights))
        found.append((*pooled, *torch.autograd.grad(total, (*target, *source))))
    for mine, other in zip(*found, strict=True):
        torch.testing.assert_close(mine, other, atol=2e-5, rtol=1e-4)


def test_layers_may_differ_in_their_channels():
    torch.manual_seed(0)
    maps = [torch.randn(1, channels, 4, 4) for channels in (3, 9)]
    together = pooled_correlation(maps, maps, 2, 2)
    alone = [pooled_correlation([level], [level], 2, 2) for level in maps]
    for number, part in enumerate(together):
        assert torch.equal(part, torch.cat([single[number] for single in alone], -1))


def test_a_feature_of_zeros_is_like_nothing():
    maps = [torch.zeros(1, 3, 2, 2, requires_grad=True)]
    over_source, _ = pooled_correlation(maps, maps, 2, 2)
    over_source.sum().backward()
    assert (over_source == 0).all()
    assert maps[0].grad.isfinite().all()
