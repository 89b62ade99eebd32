"""Regularised Hough matching: matches whose offsets agree raise each other's scores (Cho et al., CVPR 2015).

A match of source cell s and target cell t votes with its similarity for its offset, the way from s to t. Votes are
counted in bins of similar offset, the histogram is smoothed with a Gaussian, and every match is scored by what its
bin then holds (Min et al., ICCV 2019).

``grid_scores`` is for cells on regular grids. The offset of a match then depends on its row and column difference
alone: all votes of a difference are summed first, along the diagonals of the volume, and a small table of
differences is binned, smoothed and read. ``box_scores`` takes cells anywhere; it is slower and gives the same.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from sc_imagenet.geometry.correlation import Grid, at_least_float32

BINS = 8192  # of the published codes: a bin's side is chosen so that about so many cover all offsets
FEW_KERNELS = 2**25  # elements of a volume up to which a GPU goes through it in few kernels, not row by row
WIDTH = 2.354  # full width of a Gaussian at half its height, in standard deviations


@dataclass(frozen=True)
class HoughSpace:
    """Bins for the offsets between two regular grids of cells, and how they are smoothed.

    With the defaults a bin is one cell wide: a grid's own differences. ``pixel_space`` gives the published bins.

    source, target   rows and columns
    step             from one cell to the next, the same for both grids and axes
    origin           offset (y, x) of a cell to the one in its own place; None: the source grid's sides
    bin_side         side of a bin, in the units of ``step``
    window           side of the Gaussian, in bins, odd
    sigma            of the Gaussian, in bins; None: half its window is its full width at half maximum
    """

    source: Grid
    target: Grid
    step: float = 1.0
    origin: tuple[float, float] | None = None
    bin_side: float = 1.0
    window: int = 7
    sigma: float | None = None

    def smoothing(self, axis: int, like: Tensor) -> Tensor:
        """What a vote at one difference adds to the score of another, along rows (0) or columns (1).

        Binning, smoothing and reading are linear and go axis by axis: together they are this symmetric matrix
        (D, D), D = source cells + target cells - 1, of ``like``'s device and type.
        """
        origin = self.source[axis] * self.step if self.origin is None else self.origin[axis]
        counts = self.source[axis], self.target[axis]
        sigma = half_maximum_sigma(self.window) if self.sigma is None else self.sigma
        return _smoothing(*counts, self.step, origin, self.bin_side, self.window, sigma, like.device, like.dtype)


def pixel_space(
    source: Grid, target: Grid, step: float, source_size: tuple[float, float], target_size: tuple[float, float]
) -> HoughSpace:
    """The published bins for cells ``step`` pixels apart in images of sizes (height, width).

    >>> round(pixel_space((60, 60), (60, 60), 4, (240, 240), (240, 240)).bin_side, 3)
    5.303
    """
    return HoughSpace(source, target, step, source_size, bin_side_of(source_size, target_size))


def bin_side_of(source_size: tuple[float, float], target_size: tuple[float, float]) -> float:
    """Side of a published bin, in pixels, for images of sizes (height, width)."""
    return math.sqrt((source_size[0] + target_size[0]) * (source_size[1] + target_size[1]) / BINS)


def half_maximum_sigma(window: int) -> float:
    """Sigma of a Gaussian whose full width at half maximum is half its window.

    >>> round(half_maximum_sigma(7), 4)
    1.4868
    """
    return window / 2 / WIDTH


def gaussian(window: int, sigma: float) -> Tensor:
    """A Gaussian of sum 1 at ``window`` whole places around 0; its outer product with itself smooths a plane.

    >>> gaussian(3, 1.0).tolist()
    [0.274..., 0.451..., 0.274...]
    """
    places = torch.arange(window, dtype=torch.float64) - window // 2
    heights = (-places.square() / (2 * sigma**2)).exp()
    return heights / heights.sum()


def bins_of(offsets: Tensor, bin_side: float) -> Tensor:
    """The bin of each non-negative offset, counted from 0; int64.

    >>> bins_of(torch.tensor([4.0, 8.0, 476.0]), 5.303).tolist()
    [0, 1, 89]
    """
    return (offsets.float() / torch.tensor(bin_side, dtype=torch.float32)).long()


def grid_scores(votes: Tensor, space: HoughSpace) -> Tensor:
    """The score of every match, (B, N_source, N_target), for votes of the same shape, in float32 at least.

    Scores are a linear function of the votes, and a symmetric one: the gradient of a vote is the score that the
    incoming gradients give it. Costs O(N_source * N_target) and keeps nothing for the backward pass.

    >>> votes = torch.eye(4)[None]  # all cells of 2 x 2 matched to themselves
    >>> scores = grid_scores(votes, HoughSpace((2, 2), (2, 2), window=1))
    >>> scores[0, 0].tolist()
    [4.0, 0.0, 0.0, 0.0]
    """
    return _GridScores.apply(at_least_float32(votes), space)


def difference_scores(votes: Tensor, space: HoughSpace) -> Tensor:
    """Votes (B, N_source, N_target) -> scores of all differences (B, rows, columns), without gradients.

    Place (i, j) is the difference of i - (source rows - 1) rows and j - (source columns - 1) columns.
    """
    with torch.autocast(votes.device.type, enabled=False):
        rows, columns = (space.smoothing(axis, votes) for axis in (0, 1))
        return rows @ difference_sums(votes, space.source, space.target) @ columns


def difference_sums(volume: Tensor, source: Grid, target: Grid) -> Tensor:
    """Sums of a volume (B, N_source, N_target) over all pairs of cells of the same difference.

    Returns:
        (B, source rows + target rows - 1, source columns + target columns - 1).

    >>> difference_sums(torch.ones(1, 4, 4), (2, 2), (2, 2))[0].tolist()
    [[1.0, 2.0, 1.0], [2.0, 4.0, 2.0], [1.0, 2.0, 1.0]]
    """
    by_cell = volume.unflatten(2, target).unflatten(1, source)
    return _sums_in_few_kernels(by_cell) if _launches_cost_most(volume) else _sums_row_by_row(by_cell)


def _launches_cost_most(volume: Tensor) -> bool:
    """Whether starting a kernel for every row takes longer than going through twice the memory in one."""
    return volume.is_cuda and volume.numel() <= FEW_KERNELS


def _sums_row_by_row(by_cell: Tensor) -> Tensor:
    """``difference_sums`` of (B, *source, *target), in little memory."""
    batch, rows, columns, target_rows, target_columns = by_cell.shape
    by_row = by_cell.new_zeros(batch, columns, rows + target_rows - 1, target_columns)
    for row in range(rows):
        start = rows - 1 - row
        by_row[:, :, start : start + target_rows] += by_cell[:, row]
    sums = by_cell.new_zeros(batch, by_row.shape[2], columns + target_columns - 1)
    for column in range(columns):
        start = columns - 1 - column
        sums[..., start : start + target_columns] += by_row[:, column]
    return sums


def _sums_in_few_kernels(by_cell: Tensor) -> Tensor:
    """The same."""
    by_row = _diagonal_sums(by_cell.transpose(2, 3)).permute(0, 2, 3, 1)  # (B, columns, target columns, differences)
    return _diagonal_sums(by_row).transpose(1, 2)


def _diagonal_sums(values: Tensor) -> Tensor:
    """Sums over i and j of the same difference j - i: (B, n, m, ...) -> (B, n + m - 1, ...)."""
    batch, n, m, *rest = values.shape
    shifted = values.new_zeros(batch, n, n + m - 1, *rest)
    each, row, place, *inner = shifted.stride()
    # Row i is written n - 1 - i places further on, so that equal differences stand below one another.
    diagonal = shifted.as_strided(values.shape, (each, row - place, place, *inner), (n - 1) * place)
    diagonal.copy_(values)
    return shifted.sum(1)


def spread_differences(table: Tensor, source: Grid, target: Grid) -> Tensor:
    """Give every pair of cells what a table holds for its difference: (B, N_source, N_target).

    The transpose of ``difference_sums``.
    """
    if table.is_cuda:
        windows = table.unfold(1, target[0], 1).unfold(2, target[1], 1)  # (B, *source, *target), the last cell first
        return windows.flip(1, 2).flatten(3).flatten(1, 2)
    volume = table.new_empty(len(table), *source, *target)
    for row, scores in enumerate(rows_of_differences(table, source, target)):
        volume[:, row] = scores
    return volume.flatten(3).flatten(1, 2)


def rows_of_differences(table: Tensor, source: Grid, target: Grid) -> Iterator[Tensor]:
    """The same for one row of the source's grid after the other: views (B, columns, *target)."""
    (rows, _), (target_rows, target_columns) = source, target
    by_column = table.unfold(2, target_columns, 1).flip(2).transpose(1, 2)  # (B, columns, differences, target columns)
    for row in reversed(range(target_rows - 1, target_rows - 1 + rows)):
        yield by_column[:, :, row - target_rows + 1 : row + 1]


def differences_at(table: Tensor, cells: Tensor, source: Grid, target: Grid) -> Tensor:
    """The same for some cells of the source: (B, K, N_target) for cell numbers (K,)."""
    windows = table.unfold(1, target[0], 1).unfold(2, target[1], 1)  # (B, *source, *target), the last cell first
    rows, columns = cells // source[1], cells % source[1]
    return windows[:, source[0] - 1 - rows, source[1] - 1 - columns].flatten(2)


def box_scores(
    votes: Tensor,
    source: Tensor,
    target: Tensor,
    source_size: tuple[float, float],
    target_size: tuple[float, float],
    window: int = 7,
    bin_side: float | None = None,
) -> Tensor:
    """Scores of matches between cells anywhere in two images; differentiable.

    Args:
        votes: (B, N_source, N_target).
        source, target: centres (N, 2), x and y in pixels of each image; see ``centres_of``.
        source_size, target_size: (height, width) of the images.
        window: side of the Gaussian, in bins, odd.
        bin_side: in pixels; None: ``bin_side_of`` the images.

    Returns:
        (B, N_source, N_target).
    """
    side = bin_side_of(source_size, target_size) if bin_side is None else bin_side
    bins, count = box_bins(source, target, source_size, target_size, side)
    flat = bins.flatten()
    histogram = votes.new_zeros(len(votes), count[0] * count[1]).index_add(1, flat, votes.flatten(1))
    line = gaussian(window, half_maximum_sigma(window)).to(votes)
    smooth = F.conv2d(histogram.view(-1, 1, *count), torch.outer(line, line)[None, None], padding=window // 2)
    return smooth.flatten(1)[:, flat].view_as(votes)


def box_bins(
    source: Tensor,
    target: Tensor,
    source_size: tuple[float, float],
    target_size: tuple[float, float],
    bin_side: float,
) -> tuple[Tensor, tuple[int, int]]:
    """The bin of each match, row * columns + column (N_source, N_target), and the rows and columns of bins."""
    start = source.new_tensor([source_size[1], source_size[0]])
    places = bins_of(start - source[:, None] + target, bin_side)  # (N_source, N_target, 2)
    rows, columns = (
        int((source_side + target_side) / bin_side) + 1 for source_side, target_side in zip(source_size, target_size)
    )
    return places[..., 1] * columns + places[..., 0], (rows, columns)


def centres_of(boxes: Tensor) -> Tensor:
    """Centres (N, 2) of boxes (N, 4), x_min y_min x_max y_max; rounded down to whole pixels from the corner.

    >>> centres_of(torch.tensor([[-5.0, -5.0, 5.0, 6.0]])).tolist()
    [[0.0, 0.0]]
    """
    return boxes[:, :2] + ((boxes[:, 2:] - boxes[:, :2]) / 2).floor()


class _GridScores(torch.autograd.Function):
    """Its backward is its forward: the map from votes to scores is symmetric."""

    @staticmethod
    def forward(ctx: Any, votes: Tensor, space: HoughSpace) -> Tensor:
        ctx.space = space
        return spread_differences(difference_scores(votes, space), space.source, space.target)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        return _GridScores.apply(gradients[0], ctx.space), None


@lru_cache(maxsize=64)
def _smoothing(
    source: int,
    target: int,
    step: float,
    origin: float,
    bin_side: float,
    window: int,
    sigma: float,
    device: torch.device,
    dtype: torch.dtype,
) -> Tensor:
    differences = torch.arange(1 - source, target)
    bins = bins_of(origin + differences * step, bin_side)
    apart = bins[:, None] - bins + window // 2
    heights = gaussian(window, sigma)[apart.clamp(0, window - 1)]
    return torch.where((apart >= 0) & (apart < window), heights, 0.0).to(device, dtype)
