"""Which cells are the object, told by a backbone's own features."""

from __future__ import annotations

import torch
from torch import Tensor

FOREGROUND = 0.5  # saliency from which a cell is of the object
SURE = 0.7  # of the way from background to object, which is given the saliency ``FOREGROUND``
WALK, STEPS = 0.1, 3  # temperature and steps of the random walk


def feature_masks(tokens: Tensor) -> Tensor:
    """Tokens (B, C, h, w) of norm 1 -> masks (B, h, w) in [0, 1].

    A cell's likeness to the background is its mean cosine similarity to the border's cells. A random walk over
    cells of like features evens it out; the two means of its values become 0 and 1, weighted by ``middle_weight``.
    What then has 0.7 counts as foreground: of a label more is lost by a point beside the object than by one fewer.
    """
    batch, _, height, width = tokens.shape
    flat = tokens.flatten(2)
    alike = flat.transpose(1, 2) @ flat  # (B, N, N)
    background = alike[:, :, border_cells(height, width, tokens.device)].mean(2, keepdim=True)
    step = (alike / WALK).softmax(2)
    for _ in range(STEPS):
        background = step @ background
    value = -background[:, :, 0]
    low, high = _two_means(value)
    object_share = (value - low) / (high - low).clamp(min=1e-6) * middle_weight(height, width, tokens.device).flatten()
    return (object_share * (FOREGROUND / SURE)).clamp(0, 1).view(batch, height, width)


def border_cells(height: int, width: int, device: torch.device | None = None) -> Tensor:
    """Flat indices of the cells along a grid's border.

    >>> border_cells(3, 3).tolist()
    [0, 1, 2, 3, 5, 6, 7, 8]
    """
    cells = torch.ones(height, width, dtype=torch.bool, device=device)
    cells[1:-1, 1:-1] = False
    return cells.flatten().nonzero()[:, 0]


def middle_weight(height: int, width: int, device: torch.device | None = None) -> Tensor:
    """A smooth bump (h, w): 1 in the middle, 0 at the corners; photographs of a class show their object there."""
    y, x = (torch.linspace(-1, 1, count, device=device).square() for count in (height, width))
    return 1 - (y[:, None] + x) / 2


def _two_means(values: Tensor, rounds: int = 10) -> tuple[Tensor, Tensor]:
    """The two centres (B, 1) of the values in each row."""
    low, high = values.amin(1, keepdim=True), values.amax(1, keepdim=True)
    for _ in range(rounds):
        upper = values > (low + high) / 2
        high = (values * upper).sum(1, keepdim=True) / upper.sum(1, keepdim=True).clamp(min=1)
        low = (values * ~upper).sum(1, keepdim=True) / (~upper).sum(1, keepdim=True).clamp(min=1)
    return low, high
