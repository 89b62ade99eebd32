"""From the scores of all matches to a place in the target for every source cell."""

from __future__ import annotations

from torch import Tensor

from sc_imagenet.geometry.soft_argmax import windowed_soft_argmax

REACH = 1  # cells around the best target cell whose soft-argmax is the match


def read_out(scores: Tensor, grid: tuple[int, int], sharpness: float) -> tuple[Tensor, Tensor]:
    """Where every source cell lies in the target, and how sure that is.

    Args:
        scores: of all matches, (B, N_source, N_target), non-negative.
        grid: (h, w) of the target, h w = N_target.
        sharpness: temperature of the soft-argmax, on scores whose maximum in a row is 1.

    Returns:
        target_xy (B, N_source, 2), cells of the target's grid, 0 being the centre of the first; confidence
        (B, N_source) in [0, 1]: how far a row's best score lies above the mean of the row, of that best score.

    >>> import torch
    >>> places, confidence = read_out(torch.tensor([[[0.0, 0.0, 0.0, 2.0]]]), (1, 4), 0.05)
    >>> places.round(decimals=3).tolist(), confidence.tolist()
    ([[[3.0, 0.0]]], [[0.75]])
    """
    rows = scores / scores.amax(2, keepdim=True).clamp(min=1e-30)
    return windowed_soft_argmax(rows.unflatten(2, grid), REACH, sharpness), 1 - rows.mean(2)
