"""Histograms of oriented gradients as Felzenszwalb et al. (PAMI 2010) have them, and their whitening.

scikit-image's are Dalal and Triggs's: other blocks, no 31 features. Cells are of 8 x 8 pixels."""

from __future__ import annotations

import math
from collections.abc import Iterable

import torch
import torch.nn.functional as F
from torch import Tensor

CELL = 8  # pixels along a side
FEATURES = 31  # 18 signed orientations, 9 unsigned ones, 4 of texture
CLIP = 0.2
TEXTURE = 0.2357
SMALLEST = 1e-4  # added to the energy of a block


def histograms(images: Tensor) -> Tensor:
    """Images (N, 3, H, W) in [0, 1], of whole cells -> features (N, 31, H / 8 - 2, W / 8 - 2), border cells dropped.

    >>> histograms(torch.rand(1, 3, 80, 80)).shape
    torch.Size([1, 31, 8, 8])
    """
    signed = _orientations(images)
    unsigned = signed[:, :9] + signed[:, 9:]
    energy = unsigned.square().sum(1, keepdim=True)
    # The four blocks of 2 x 2 cells that a cell belongs to.
    blocks = F.avg_pool2d(energy, 2, 1) * 4
    scale = (blocks + SMALLEST).rsqrt()
    height, width = energy.shape[2] - 2, energy.shape[3] - 2
    corners = [scale[..., y : y + height, x : x + width] for y in (0, 1) for x in (0, 1)]
    inner = torch.cat((signed, unsigned), 1)[..., 1:-1, 1:-1]
    clipped = torch.stack([(inner * corner).clamp(max=CLIP) for corner in corners])  # (4, N, 27, h, w)
    texture = TEXTURE * clipped[:, :, :18].sum(2)
    return torch.cat((clipped.sum(0) / 2, texture.transpose(0, 1)), 1)


def _orientations(images: Tensor) -> Tensor:
    """How much gradient of 18 signed directions there is in every cell, (N, 18, H / 8, W / 8)."""
    across = F.pad(images[..., 1:-1, 2:] - images[..., 1:-1, :-2], (1, 1, 1, 1))
    down = F.pad(images[..., 2:, 1:-1] - images[..., :-2, 1:-1], (1, 1, 1, 1))
    square = across.square() + down.square()
    strongest = square.argmax(1, keepdim=True)
    size = square.gather(1, strongest).sqrt()
    angle = math.pi / 9 * torch.arange(9, device=images.device)
    cosine, sine = (values.view(-1, 1, 1) for values in (angle.cos(), angle.sin()))
    along = across.gather(1, strongest) * cosine + down.gather(1, strongest) * sine
    direction = torch.cat((along, -along), 1).argmax(1, keepdim=True)
    by_direction = torch.zeros_like(along).repeat(1, 2, 1, 1).scatter_(1, direction, size)
    rows, columns = (_shares(length, images) for length in images.shape[2:])
    return rows @ by_direction @ columns.T


def _shares(length: int, like: Tensor) -> Tensor:
    """How much of each pixel along a side goes to each cell, (length / 8, length): bilinear, to the two nearest."""
    centres = (torch.arange(length, device=like.device, dtype=like.dtype) + 0.5) / CELL - 0.5
    cells = torch.arange(length // CELL, device=like.device, dtype=like.dtype)
    return (1 - (cells[:, None] - centres).abs()).relu()


# Whitening (Hariharan et al., ECCV 2012): gradients that neighbours have in common say little.


def statistics(images: Iterable[Tensor], reach: int) -> tuple[Tensor, Tensor]:
    """Mean (31,) of a cell's features and covariances (reach, 2 * reach - 1, 31, 31) of two cells by their offset.

    Args:
        images: (3, H, W) each, in [0, 1], of any size.
        reach: cells of the windows that are to be whitened; offsets are 0 to reach - 1 down, 1 - reach to reach - 1
            across.
    """
    maps = [histograms(_whole_cells(image)[None])[0] for image in images]
    cells = sum(each[0].numel() for each in maps)
    mean = torch.stack([each.flatten(1).sum(1) for each in maps]).sum(0) / cells
    sums = torch.zeros(reach, 2 * reach - 1, FEATURES, FEATURES)
    counts = torch.zeros(reach, 2 * reach - 1)
    for each in maps:
        centred = each - mean[:, None, None]
        height, width = centred.shape[1:]
        for down in range(min(reach, height)):
            for across in range(max(1 - reach, 1 - width), min(reach, width)):
                first = centred[:, : height - down, max(0, -across) : width - max(0, across)]
                second = centred[:, down:, max(0, across) : width - max(0, -across)]
                sums[down, across + reach - 1] += first.flatten(1) @ second.flatten(1).T
                counts[down, across + reach - 1] += first[0].numel()
    return mean, sums / counts.clamp(min=1)[..., None, None]


def _whole_cells(image: Tensor) -> Tensor:
    height, width = (length // CELL * CELL for length in image.shape[1:])
    return image[:, :height, :width]


def whitening(covariances: Tensor, side: int, ridge: float = 0.01) -> Tensor:
    """The inverse Cholesky factor of the covariance of windows of side x side cells: (31 * side^2, 31 * side^2).

    Features are in the order of ``histograms(...).flatten(1)``. The ridge is raised by as much until the matrix has a
    factor.
    """
    reach = covariances.shape[0]
    number = torch.arange(side * side, device=covariances.device)
    down = number[None] // side - number[:, None] // side
    across = number[None] % side - number[:, None] % side
    turned = (down < 0) | ((down == 0) & (across < 0))
    ahead = covariances[down.abs(), torch.where(turned, -across, across) + reach - 1]
    blocks = torch.where(turned[..., None, None], ahead.mT, ahead).double()
    matrix = blocks.permute(2, 0, 3, 1).flatten(2).flatten(0, 1)
    matrix = (matrix + matrix.T) / 2
    added = torch.eye(len(matrix), dtype=matrix.dtype, device=matrix.device)
    steps = 1
    while True:
        factor, failed = torch.linalg.cholesky_ex(matrix + steps * ridge * added)
        if not failed:
            return torch.linalg.solve_triangular(factor, added, upper=False).float()
        steps += 1
