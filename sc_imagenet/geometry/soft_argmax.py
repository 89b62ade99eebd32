"""From scores over a grid to one point: expectation under a softmax, over the whole grid or a window."""

from __future__ import annotations

import torch
from torch import Tensor


def soft_argmax(scores: Tensor, xs: Tensor, ys: Tensor, temperature: float) -> Tensor:
    """Expected position under softmax(scores / temperature).

    Args:
        scores: (B, h, w, N), N distributions over an h x w grid.
        xs: (w,) value of each column.
        ys: (h,) value of each row.
        temperature: the smaller, the closer to argmax.

    Returns:
        (B, 2, N), x then y, in the units of ``xs`` and ``ys``.

    >>> peak = torch.zeros(1, 2, 3, 1); peak[0, 1, 2, 0] = 1
    >>> soft_argmax(peak, torch.tensor([0.0, 1, 2]), torch.tensor([0.0, 1]), 0.01).flatten().tolist()
    [2.0, 1.0]
    """
    batch, height, width, count = scores.shape
    weights = (scores.reshape(batch, height * width, count) / temperature).softmax(1)
    weights = weights.view(batch, height, width, count)
    # Sums, not matrix products: under mixed precision coordinates must stay in float32.
    x = (weights.sum(1) * xs[:, None]).sum(1)
    y = (weights.sum(2) * ys[:, None]).sum(1)
    return torch.stack((x, y), 1)


def windowed_soft_argmax(scores: Tensor, radius: float, temperature: float) -> Tensor:
    """Expected position within a square window around the highest score; radius 0 is the plain argmax.

    Args:
        scores: (..., H, W).
        radius: half side of the window, in cells.
        temperature: of the softmax inside the window.

    Returns:
        (..., 2), x and y in cells, 0 being the centre of the first cell.

    >>> windowed_soft_argmax(torch.tensor([[0.0, 1.0, 1.0, 0.0, 0.9]]), 1, 0.1).tolist()
    [1.49..., 0.0]
    """
    height, width = scores.shape[-2:]
    best = scores.flatten(-2).argmax(-1)
    centre = torch.stack((best % width, best // width), -1).to(scores.dtype)
    if radius == 0:
        return centre
    xs = torch.arange(width, device=scores.device, dtype=scores.dtype)
    ys = torch.arange(height, device=scores.device, dtype=scores.dtype)
    far = ((xs - centre[..., :1]).abs() > radius)[..., None, :] | ((ys - centre[..., 1:]).abs() > radius)[..., :, None]
    weights = (scores / temperature).masked_fill(far, -torch.inf).flatten(-2).softmax(-1)
    weights = weights.view_as(scores)
    x = (weights.sum(-2) * xs).sum(-1)
    y = (weights.sum(-1) * ys).sum(-1)
    return torch.stack((x, y), -1)
