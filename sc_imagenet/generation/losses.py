"""The three losses of the cascade (section "Training" of the paper, Eq. 2 and 3)."""

from __future__ import annotations

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from sc_imagenet.generation.pmps import Matches, match_probability
from sc_imagenet.geometry.volumes import Grid

ClassLoss = Literal["margin", "literal"]


def class_loss(positive: Tensor, negative: Tensor, kind: ClassLoss, margin: float) -> Tensor:
    """Eq. 2: images of one class match better than images of two.

    [R] "literal" is mean(-AP(positive) + AP(negative)) on the volumes themselves. It has no lower bound, and a free
    projection collapses under it. "margin" pools the probability of every match, which lies in [0, 1], and asks no
    more than that the positive pair leads by ``margin``.

    Args:
        positive, negative: pooled scores (B,), see ``pooled_score``.
        kind: "margin" or "literal".
        margin: lead that is enough, of a score in [0, 1].
    """
    if kind == "literal":
        return (negative - positive).mean()
    return (margin + negative - positive).relu().mean()


def pooled_score(
    volume: Tensor,
    kind: ClassLoss,
    temperature: float,
    source_weight: Tensor | None = None,
    target_weight: Tensor | None = None,
) -> Tensor:
    """AP: maximum over the other image's cells, then the mean over cells, both directions averaged; (B,).

    Args:
        volume: (B, N_source, N_target).
        kind: "literal" pools the volume, "margin" the probability of every match.
        temperature: of that probability.
        source_weight, target_weight: (B, N) saliency by which cells count; None: all alike.

    >>> pooled_score(torch.eye(2)[None], "literal", 0.05).tolist()
    [1.0]
    """
    scores = volume if kind == "literal" else match_probability(volume, temperature).clamp(min=1e-12).sqrt()
    directions = []
    for dim, weight in ((2, source_weight), (1, target_weight)):
        best = scores.amax(dim)
        if weight is None:
            directions.append(best.mean(1))
        else:
            directions.append((best * weight).sum(1) / weight.sum(1).clamp(min=1e-6))
    return (directions[0] + directions[1]) / 2


def pixel_loss(
    volume: Tensor, matches: Matches, source: Grid, target: Grid, temperature: float, sigma: float
) -> Tensor:
    """Cross entropy between rows and columns of the volume and a Gaussian around the true cell.

    Args:
        volume: (B, N_source, N_target).
        matches: (B, K); where invalid, they do not count.
        source, target: rows and columns of the grids.
        temperature: the volume's values are divided by it.
        sigma: of the Gaussian, in cells.

    Returns:
        Mean over the valid matches and both directions, a scalar; 0 if none is valid.
    """
    batch = torch.arange(len(volume), device=volume.device)[:, None]
    rows = volume[batch, matches.source] / temperature  # (B, K, N_target)
    columns = volume.transpose(1, 2)[batch, matches.target] / temperature
    wanted_rows = gaussian_targets(matches.target, target, sigma)
    wanted_columns = gaussian_targets(matches.source, source, sigma)
    each = -(wanted_rows * F.log_softmax(rows, -1)).sum(-1) - (wanted_columns * F.log_softmax(columns, -1)).sum(-1)
    return (each * matches.valid).sum() / (2 * matches.valid.sum().clamp(min=1))


def gaussian_targets(cells: Tensor, grid: Grid, sigma: float) -> Tensor:
    """A Gaussian around each flat cell, of sum 1 over the grid: (B, K) -> (B, K, N).

    >>> gaussian_targets(torch.tensor([[1]]), (1, 3), 0.5)[0, 0].tolist()
    [0.106..., 0.786..., 0.106...]
    """
    rows = torch.arange(grid[0], device=cells.device).float()
    columns = torch.arange(grid[1], device=cells.device).float()
    down = (rows - (cells // grid[1])[..., None]).square()
    across = (columns - (cells % grid[1])[..., None]).square()
    return (-(down[..., :, None] + across[..., None, :]).flatten(-2) / (2 * sigma**2)).softmax(-1)
