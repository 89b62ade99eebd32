"""PMPS, the pseudo matching pair selection module: Hough scores, foreground, one-to-one selection, reading."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from sc_imagenet.generation.cascade.options import NetworkOptions
from sc_imagenet.generation.features import Features
from sc_imagenet.geometry.correlation import Grid, inner_product, mutual_nearest_neighbour, resize_source
from sc_imagenet.geometry.hough import HoughSpace, grid_scores
from sc_imagenet.geometry.soft_argmax import windowed_soft_argmax

# PMPS, the pseudo matching pair selection module: Hough scores, foreground, one-to-one greedy selection.
#
# Volumes are (B, N_source, N_target); cells are flat indices, row * columns + column.

NEVER = -torch.inf  # the score of a match that may not be selected
FOREGROUND = 0.5  # saliency from which a cell may be selected
BACKGROUND_VOTE = 0.2  # a background cell's vote, of a foreground cell's


@dataclass(frozen=True)
class Matches:
    """K pairs of cells for each of B image pairs, best first.

    source, target  (B, K) flat cells
    scores          (B, K)
    valid           (B, K) bool; a pair of images may have fewer than K; the other rows hold cell 0
    closed          (B, K) the target cells that the sources reach by way of a third image; None: that was not asked
    """

    source: Tensor
    target: Tensor
    scores: Tensor
    valid: Tensor
    closed: Tensor | None = None


@dataclass(frozen=True)
class PlaceMatches:
    """K pairs of places for each of B image pairs.

    source, target  (B, K, 2), x and y as shares of the images
    valid           (B, K) bool
    """

    source: Tensor
    target: Tensor
    valid: Tensor


def cell_places(cells: Tensor, grid: Grid) -> Tensor:
    """Centres of flat cells (...) as shares of the image, x and y: (..., 2).

    >>> cell_places(torch.tensor([3]), (1, 4)).tolist()
    [[0.875, 0.5]]
    """
    return torch.stack(((cells % grid[1] + 0.5) / grid[1], (cells // grid[1] + 0.5) / grid[0]), -1)


def match_votes(volume: Tensor, options: NetworkOptions) -> Tensor:
    """What every match votes with, non-negative, of the volume's shape; see ``NetworkOptions.votes``."""
    if options.votes == "softmax":
        return match_probability(volume, options.temperature)
    positive = volume.relu()
    if options.votes == "mutual":
        positive = mutual_nearest_neighbour(positive)
    return positive.square()


def match_probability(volume: Tensor, temperature: float) -> Tensor:
    """Softmax over the target's cells times softmax over the source's: 1 for a match sure in both directions.

    >>> match_probability(torch.eye(2)[None] * 100, 1.0).round().tolist()
    [[[1.0, 0.0], [0.0, 1.0]]]
    """
    logits = volume / temperature
    return logits.softmax(2) * logits.softmax(1)


def balanced(scores: Tensor) -> Tensor:
    """Scores (B, N_source, N_target), non-negative, over the roots of their rows' and of their columns' sums.

    >>> balanced(torch.tensor([[[4.0, 3.0], [4.0, 0.0]]])).argmax(2).tolist()  # the first target cell is taken
    [[1, 0]]
    """
    rows, columns = (scores.sum(axis, keepdim=True).clamp(min=torch.finfo(scores.dtype).tiny) for axis in (2, 1))
    return scores * rows.rsqrt() * columns.rsqrt()


def hough_scores(
    votes: Tensor,
    source: Grid,
    target: Grid,
    options: NetworkOptions,
    source_foreground: Tensor | None = None,
    target_foreground: Tensor | None = None,
) -> Tensor:
    """How far the offset of every match agrees with the others': h / max(h), (B, N_source, N_target) in [0, 1].

    Args:
        votes: (B, N_source, N_target), see ``match_votes``.
        source, target: rows and columns of the two grids.
        options: length L, and the sizes that the source's grid is tried at.
        source_foreground, target_foreground: saliency (B, N) in [0, 1] that votes are weighted by; a background
            cell keeps a fifth of its vote. None: all count alike.
    """
    if source_foreground is not None and target_foreground is not None:
        ours, theirs = (cells.clamp(min=BACKGROUND_VOTE) for cells in (source_foreground, target_foreground))
        votes = votes * ours[:, :, None] * theirs[:, None]
    scores = torch.stack([_scaled_scores(votes, source, target, size, options) for size in options.hough_scales])
    scores = scores.mean(0)
    return scores / scores.amax((1, 2), keepdim=True).clamp(min=torch.finfo(scores.dtype).tiny)


def _scaled_scores(votes: Tensor, source: Grid, target: Grid, size: float, options: NetworkOptions) -> Tensor:
    """Scores of all matches, the source's grid taken ``size`` times as large."""
    resized = (max(1, round(source[0] * size)), max(1, round(source[1] * size)))
    space = HoughSpace(resized, target, window=options.hough_length)
    share = source[0] * source[1] / (resized[0] * resized[1])  # as many votes in all, whatever the size
    return resize_source(grid_scores(resize_source(votes, source, resized), space), resized, source) * share


def select_one_to_one(scores: Tensor, count: int, allowed: Tensor | None = None) -> Matches:
    """Take the best match, strike its row and its column, and again, ``count`` times.

    Args:
        scores: (B, N_source, N_target).
        count: most matches to take.
        allowed: (B, N_source, N_target) bool; None allows all.

    >>> scores = torch.tensor([[[0.9, 0.8, 0.1], [0.85, 0.2, 0.3]]])
    >>> taken = select_one_to_one(scores, 3)
    >>> taken.source.tolist(), taken.target.tolist(), taken.valid.tolist()
    ([[0, 1, 0]], [[0, 2, 0]], [[True, True, False]])
    """
    left = scores.detach().clone() if allowed is None else scores.detach().masked_fill(~allowed, NEVER)
    pairs = torch.arange(len(left), device=left.device)
    found = []
    for _ in range(count):  # nothing here waits for a GPU's answer
        score, place = left.flatten(1).max(1)
        source, target = place // left.shape[2], place % left.shape[2]
        found.append((source, target, score))
        left[pairs, source] = NEVER
        left[pairs, :, target] = NEVER
    source, target, score = (torch.stack(values, 1) for values in zip(*found))
    valid = score > NEVER
    return Matches(source * valid, target * valid, torch.where(valid, score, 0), valid)


def foreground_matches(source: Tensor, target: Tensor) -> Tensor:
    """Which matches join two foreground cells: saliency (B, N_source) and (B, N_target) -> bool volume."""
    return (source >= FOREGROUND)[:, :, None] & (target >= FOREGROUND)[:, None]


def window_starts(cells: Tensor, grid: Grid, side: int) -> Tensor:
    """First row and column of the window of ``side`` cells around each cell, shifted inside the grid.

    (..., ) flat cells -> (..., 2).

    >>> window_starts(torch.tensor([0, 24, 99]), (10, 10), 5).tolist()
    [[0, 0], [0, 2], [5, 5]]
    """
    starts = torch.stack((cells // grid[1], cells % grid[1]), -1) - side // 2
    most = torch.tensor([grid[0] - side, grid[1] - side], device=cells.device)
    return torch.minimum(starts.clamp(min=0), most)


def window_cells(starts: Tensor, grid: Grid, side: int) -> Tensor:
    """Flat cells of each window, row by row: starts (..., 2) -> (..., side * side).

    >>> window_cells(torch.tensor([1, 2]), (4, 4), 2).tolist()
    [6, 7, 10, 11]
    """
    steps = torch.arange(side, device=starts.device)
    rows, columns = starts[..., :1] + steps, starts[..., 1:] + steps
    return (rows[..., :, None] * grid[1] + columns[..., None, :]).flatten(-2)


def suppress_near(matches: Matches, source: Grid, target: Grid, keep: int, radius: float) -> Matches:
    """Non-maximum suppression: of matches nearer than ``radius`` cells in BOTH images the best stays.

    Args:
        matches: K matches, in any order.
        keep: most matches to keep.
        radius: in cells.
    """
    order = matches.scores.masked_fill(~matches.valid, NEVER).argsort(dim=1, descending=True, stable=True)
    source_cells, target_cells, scores, valid = (
        values.gather(1, order) for values in (matches.source, matches.target, matches.scores, matches.valid)
    )
    near = _near(source_cells, source, radius) & _near(target_cells, target, radius)
    kept = valid.clone()
    for number in range(1, kept.shape[1]):
        kept[:, number] &= ~(near[:, number, :number] & kept[:, :number]).any(1)
    first = kept.int().argsort(dim=1, descending=True, stable=True)[:, :keep]
    valid = kept.gather(1, first)
    return Matches(
        source_cells.gather(1, first) * valid, target_cells.gather(1, first) * valid, scores.gather(1, first), valid
    )


def _near(cells: Tensor, grid: Grid, radius: float) -> Tensor:
    places = torch.stack((cells // grid[1], cells % grid[1]), -1).float()
    return torch.cdist(places, places) < radius


def cut_windows(tokens: Tensor, starts: Tensor, side: int) -> Tensor:
    """Windows of feature maps: tokens (B, C, h, w), starts (B, K, 2) -> (B, K, C, side, side)."""
    channels, height, width = tokens.shape[1:]
    cells = window_cells(starts, (height, width), side)  # (B, K, side^2)
    index = cells.flatten(1)[:, None].expand(-1, channels, -1)
    cut = tokens.flatten(2).gather(2, index).unflatten(2, cells.shape[1:])
    return cut.transpose(1, 2).unflatten(3, (side, side))


def pool_saliency(saliency: Tensor, grid: Grid) -> Tensor:
    """Saliency maps (B, H, W) -> mean over each cell (B, N)."""
    if saliency.shape[-2:] == grid:
        return saliency.flatten(1)
    return F.adaptive_avg_pool2d(saliency[:, None], grid).flatten(1)


# From the scores of all matches to a place in the target for every source cell.

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


# Matching without training: a backbone's own features, the mutual nearest-neighbour filter and Hough scores.
#
# What the generator labels with before its network is trained, and what the trained network is measured against.

HOUGH_LENGTH = 5  # cells; the paper's best (Table 4)
LEAST_VOTE = 0.2  # of a match between background cells, of that between foreground cells
SHARPNESS = 0.05  # temperature of the soft-argmax that reads the match


class RawMatcher:
    """Matches every source cell by the backbone's features alone."""

    name = "raw features"

    def match(
        self,
        source: Features,
        target: Features,
        source_mask: Tensor | None = None,
        target_mask: Tensor | None = None,
    ) -> tuple[Tensor, Tensor]:
        """Where every source cell lies in the target, and how sure that is.

        Args:
            source, target: features of B images each, grids (h, w).
            source_mask, target_mask: saliency (B, h, w) in [0, 1] that votes are weighted by; None: all alike.

        Returns:
            target_xy (B, N, 2), cells of the target's grid; confidence (B, N) in [0, 1]: see ``read_out``.
        """
        volume = inner_product(source.tokens, target.tokens).relu_()
        filtered = mutual_nearest_neighbour(volume)
        votes = filtered.square()
        if source_mask is not None and target_mask is not None:
            ours, theirs = (mask.flatten(1).clamp(min=LEAST_VOTE) for mask in (source_mask, target_mask))
            votes *= ours[:, :, None] * theirs[:, None]
        scores = grid_scores(votes, HoughSpace(source.grid, target.grid, window=HOUGH_LENGTH))
        scores *= volume
        return read_out(scores, target.grid, SHARPNESS)
