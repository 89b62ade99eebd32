"""From scores over a grid to one point: expectation under a softmax, over the whole grid or a window."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from sc_imagenet.geometry.correlation import at_least_float32

FINE_AT_ONCE = {"cpu": 2**19, "cuda": 2**26}  # up-sampled scores held at a time: on a CPU what its caches hold


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


def upsampled_soft_argmax(scores: Tensor, xs: Tensor, ys: Tensor, temperature: float) -> Tensor:
    """Expected position under softmax(scores / temperature), the scores up-sampled to a finer grid before.

    The same as resizing to H x W (bilinear, corners aligned) and ``soft_argmax``, but the fine scores are never
    held: a few rows at a time are up-sampled, reduced to their expectation and forgotten, and made again for the
    backward pass. In float32 at least, whatever the precision around.

    Args:
        scores: (N, h, w), N distributions over a coarse grid; each may span up to some 300 temperatures.
        xs: (W,) value of each fine column.
        ys: (H,) value of each fine row.
        temperature: the smaller, the closer to argmax.

    Returns:
        (N, 2), x then y, in the units of ``xs`` and ``ys``.

    >>> corner = torch.tensor([[[0.0, 0.0], [0.0, 1.0]]])
    >>> upsampled_soft_argmax(corner, torch.arange(5.0), torch.arange(9.0), 0.001).tolist()
    [[4.0, 8.0]]
    """
    at_once = FINE_AT_ONCE.get(scores.device.type, FINE_AT_ONCE["cuda"])
    rows = max(1, at_once // (len(xs) * len(ys)))
    with torch.autocast(scores.device.type, enabled=False):
        fine = at_least_float32(scores)
        given = (fine / temperature, xs.to(fine), ys.to(fine))
        if len(scores) <= rows or not torch.is_grad_enabled():
            positions = [_expected_position(some, *given[1:]) for some in given[0].split(rows)]
        else:
            positions = [
                checkpoint(_expected_position, some, *given[1:], use_reentrant=False, preserve_rng_state=False)
                for some in given[0].split(rows)
            ]
    return torch.cat(positions)


def _expected_position(logits: Tensor, xs: Tensor, ys: Tensor) -> Tensor:
    """(N, h, w) -> expected position (N, 2) under the softmax of the up-sampled logits."""
    # A coarse maximum bounds what is interpolated from it, so that exp needs no second look at the fine scores.
    below = logits - logits.amax((1, 2), keepdim=True)
    weights = (_linear(ys, below.shape[1]).mT @ (below @ _linear(xs, below.shape[2]))).exp()
    by_column, by_row = weights.sum(1), weights.sum(2)
    total = by_column.sum(1)
    return torch.stack(((by_column * xs).sum(1), (by_row * ys).sum(1)), 1) / total[:, None]


def _linear(fine: Tensor, count: int) -> Tensor:
    """Matrix (count, len(fine)) that resizes ``count`` values linearly, corners aligned."""
    identity = torch.eye(count, device=fine.device, dtype=fine.dtype)
    return F.interpolate(identity[None], len(fine), mode="linear", align_corners=True)[0]


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
