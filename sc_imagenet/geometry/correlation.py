"""Correlation volumes between two feature maps: made, filtered, resized."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

# Correlation volumes between two feature maps, and the mutual nearest-neighbour filter.

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


# Correlation volumes resized: bilinear interpolation of the source's grid, of the target's, or of both.

Grid = tuple[int, int]  # rows, columns


def resize_source(volume: Tensor, grid: Grid, wanted: Grid) -> Tensor:
    """Resize the source's grid, corners aligned: (B, h*w, N_target) -> (B, h'*w', N_target).

    >>> import torch
    >>> resize_source(torch.tensor([[[0.0], [1.0]]]), (1, 2), (1, 3)).flatten().tolist()
    [0.0, 0.5, 1.0]
    """
    return resize_target(volume.transpose(1, 2), grid, wanted).transpose(1, 2)


def resize_target(volume: Tensor, grid: Grid, wanted: Grid) -> Tensor:
    """Resize the target's grid, corners aligned: (B, N_source, h*w) -> (B, N_source, h'*w')."""
    if grid == wanted:
        return volume
    return F.interpolate(volume.unflatten(2, grid), wanted, mode="bilinear", align_corners=True).flatten(2)


# How much of a volume is worked on at a time.

GPU_TIMES = 64  # a GPU is kept busy by large pieces, and each piece costs it a launch


def at_once(entries: int, device: torch.device) -> int:
    """Entries to take at a time on ``device``: ``entries``, which fit a processor core's cache, or many more.

    >>> at_once(1024, torch.device("cpu")), at_once(1024, torch.device("cuda"))
    (1024, 65536)
    """
    return entries if device.type == "cpu" else GPU_TIMES * entries


def at_least_float32(values: Tensor) -> Tensor:
    """Half precisions become float32; float32 and float64 stay.

    >>> [at_least_float32(torch.zeros(1, dtype=given)).dtype for given in (torch.bfloat16, torch.float64)]
    [torch.float32, torch.float64]
    """
    return values.to(torch.promote_types(values.dtype, torch.float32))
