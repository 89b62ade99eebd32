"""The three losses of the cascade (section "Training" of the paper, Eq. 2 and 3)."""

from __future__ import annotations

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from sc_imagenet.generation.cascade.pmps import PlaceMatches, match_probability
from sc_imagenet.geometry.volumes import Grid

ClassLoss = Literal["margin", "literal"]
PixelLoss = Literal["softmax", "binary"]


def class_loss(
    positive: Tensor, negative: Tensor, kind: ClassLoss, margin: float, counted: Tensor | None = None
) -> Tensor:
    """Eq. 2: images of one class match better than images of two.

    [R] "literal" is mean(-AP(positive) + AP(negative)) on the volumes themselves. It has no lower bound, and a free
    projection collapses under it. "margin" pools the probability of every match, which lies in [0, 1], and asks no
    more than that the positive pair leads by ``margin``.

    Args:
        positive, negative: pooled scores (B,), see ``pooled_score``.
        kind: "margin" or "literal".
        margin: lead that is enough, of a score in [0, 1].
        counted: bool (B,), which ones the mean is over; None: all.
    """
    each = negative - positive if kind == "literal" else (margin + negative - positive).relu()
    return each.mean() if counted is None else (each * counted).sum() / counted.sum().clamp(min=1)


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
    logits: Tensor, matches: PlaceMatches, source: Grid, target: Grid, sigma: float, kind: PixelLoss = "softmax"
) -> Tensor:
    """Cross entropy between rows and columns of the volume and a Gaussian around the true place.

    A place between cells has the bilinear mean of their rows.

    Args:
        logits: (B, N_source, N_target), a volume divided by its temperature.
        matches: (B, K) of them; where invalid, they do not count.
        source, target: rows and columns of the grids.
        sigma: of the Gaussian, in cells.
        kind: "softmax" over a row's cells; or "binary", the paper's, where each cell is of the match or not by itself.

    Returns:
        Mean over the valid matches and both directions, a scalar; 0 if none is valid.
    """
    each = torch.zeros_like(matches.valid, dtype=logits.dtype)
    for volume, here, there, grid, other in (
        (logits, matches.source, matches.target, source, target),
        (logits.transpose(1, 2), matches.target, matches.source, target, source),
    ):
        each = each + _row_loss(rows_at(volume, here, grid), gaussian_targets(there, other, sigma), kind)
    return (each * matches.valid).sum() / (2 * matches.valid.sum().clamp(min=1))


def _row_loss(logits: Tensor, wanted: Tensor, kind: PixelLoss) -> Tensor:
    """Of each row of logits (B, K, N) against ``wanted`` of sum 1: (B, K)."""
    if kind == "softmax":
        return -(wanted * logits.log_softmax(-1)).sum(-1)
    peak = wanted.amax(-1, keepdim=True)  # a cell at the very place is of the match
    return F.binary_cross_entropy_with_logits(logits, wanted / peak, reduction="none").mean(-1)


def rows_at(volume: Tensor, places: Tensor, grid: Grid) -> Tensor:
    """Rows of a volume at places between its cells, bilinearly.

    Args:
        volume: (B, N, M).
        places: (B, K, 2), x and y as shares of the image.
        grid: rows and columns of the N cells.

    Returns:
        (B, K, M).

    >>> rows_at(torch.tensor([[[0.0], [1.0]]]), torch.tensor([[[0.5, 0.5], [0.75, 0.5]]]), (1, 2)).flatten().tolist()
    [0.5, 1.0]
    """
    maps = volume.transpose(1, 2).unflatten(2, grid)  # (B, M, h, w)
    where = (places * 2 - 1)[:, :, None]
    return F.grid_sample(maps, where, padding_mode="border", align_corners=False)[..., 0].transpose(1, 2)


def gaussian_targets(places: Tensor, grid: Grid, sigma: float) -> Tensor:
    """A Gaussian around each place, of sum 1 over the grid: (B, K, 2) shares of the image -> (B, K, N).

    >>> gaussian_targets(torch.tensor([[[0.5, 0.5]]]), (1, 3), 0.5)[0, 0].tolist()
    [0.106..., 0.786..., 0.106...]
    """
    rows = torch.arange(grid[0], device=places.device) + 0.5
    columns = torch.arange(grid[1], device=places.device) + 0.5
    down = (rows - places[..., 1:] * grid[0]).square()
    across = (columns - places[..., :1] * grid[1]).square()
    return (-(down[..., :, None] + across[..., None, :]).flatten(-2) / (2 * sigma**2)).softmax(-1)
