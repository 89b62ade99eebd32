"""Correlation volumes between two feature maps, and the mutual nearest-neighbour filter."""

from __future__ import annotations

import torch
from torch import Tensor

SMALLEST = 1e-30  # stands for a maximum of exactly zero


def unit(features: Tensor, eps: float = 1e-6) -> Tensor:
    """Features divided by sqrt(sum of squares + eps) over dimension 1; shape (B, C, ...).

    >>> unit(torch.tensor([[3.0, 4.0]]), eps=0.0).tolist()
    [[0.6..., 0.8...]]
    """
    return features / (features.square().sum(1, keepdim=True) + eps).sqrt()


def inner_product(source: Tensor, target: Tensor) -> Tensor:
    """Inner products of all source cells with all target cells.

    (B, C, h, w) and (B, C, h', w') -> (B, h*w, h'*w').

    >>> inner_product(torch.ones(1, 5, 2, 2), torch.ones(1, 5, 1, 3)).shape
    torch.Size([1, 4, 3])
    """
    return source.flatten(2).transpose(1, 2) @ target.flatten(2)


def cosine(source: Tensor, target: Tensor, eps: float = 1e-6) -> Tensor:
    """Cosine similarities of all source cells with all target cells, (B, h*w, h'*w'); see ``unit``.

    >>> cosine(torch.ones(1, 5, 2, 2), 3 * torch.ones(1, 5, 2, 2)).round(decimals=3).unique().tolist()
    [1.0]
    """
    return inner_product(unit(source, eps), unit(target, eps))


def mutual_nearest_neighbour(correlation: Tensor) -> Tensor:
    """Soft mutual nearest-neighbour filter: c * (c / row maximum) * (c / column maximum).

    (..., N_source, N_target) -> same shape (Rocco et al., NeurIPS 2018, section 3.2; CATs section 3.2). A match
    that is the best of both its cells keeps its value.

    >>> mutual_nearest_neighbour(torch.tensor([[0.5, 0.25], [0.0, 0.5]])).tolist()
    [[0.5, 0.0625], [0.0, 0.5]]
    """
    over_target = correlation.amax(-1, keepdim=True)
    over_source = correlation.amax(-2, keepdim=True)
    over_target = torch.where(over_target == 0, over_target + SMALLEST, over_target)
    over_source = torch.where(over_source == 0, over_source + SMALLEST, over_source)
    return correlation * ((correlation / over_target) * (correlation / over_source))
