"""Convolution over a volume of matches: the neighbourhood of a match is 4-D, 2-D in the source times 2-D in the target.

The convolution theorem is used in the source's two dimensions, where a kernel of 5 x 5 taps becomes one complex
factor a frequency; in the target's two dimensions taps are summed as in any 2-D convolution. With 16 channels and
5^4 taps on 15^4 cells that is a seventh of the products of the plain sum, on 25^4 cells a tenth.
"""

from __future__ import annotations

import functools
import math

import torch
import torch.nn.functional as F
from torch import Tensor


def conv4d(volume: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """4-D convolution (cross-correlation, as ``torch`` has it), zero padded to keep the size.

    Args:
        volume: (B, C, h, w, h', w').
        weight: (O, C, k, k, k, k), k odd.
        bias: (O,).

    Returns:
        (B, O, h, w, h', w').

    >>> ones = torch.ones(1, 1, 3, 3, 3, 3)
    >>> conv4d(ones, ones)[0, 0, 1, 1].round().tolist()
    [[36.0, 54.0, 36.0], [54.0, 81.0, 54.0], [36.0, 54.0, 36.0]]
    """
    rows, columns = volume.shape[2:4]
    cells, inverse, taps = _bases(rows, columns, weight.shape[2], volume.device, volume.dtype)
    spectrum = cells @ volume.flatten(4).flatten(2, 3)  # (B, C, 2F, h' w')
    planes = spectrum.unflatten(2, (2, -1)).permute(0, 3, 2, 1, 4).flatten(2, 3)  # real and imaginary: (B, F, 2C, ...)
    factors = torch.einsum("zft,octuv->zfocuv", taps.to(weight.dtype), weight.flatten(2, 3))
    real, imaginary = factors
    product = torch.cat((torch.cat((real, -imaginary), 2), torch.cat((imaginary, real), 2)), 1)  # (F, 2O, 2C, k, k)
    convolved = _convolve_planes(planes.unflatten(3, volume.shape[4:]), product)
    convolved = convolved.flatten(3).unflatten(2, (2, -1)).permute(0, 3, 2, 1, 4).flatten(2, 3)  # (B, O, 2F, h' w')
    result = (inverse @ convolved).unflatten(2, (rows, columns)).unflatten(4, volume.shape[4:])
    return result if bias is None else result + bias.view(-1, 1, 1, 1, 1)


def _convolve_planes(planes: Tensor, weight: Tensor) -> Tensor:
    """2-D convolutions, one a frequency: (B, F, C, h, w), (F, O, C, k, k) -> (B, F, O, h, w)."""
    frequencies, outputs, inputs, size, _ = weight.shape
    height, width = planes.shape[-2:]
    if outputs < inputs:  # grouped convolutions with few outputs are slow: multiply all taps, then shift and add
        flipped = weight.flip(3, 4).permute(0, 1, 3, 4, 2).flatten(1, 3)  # (F, O k k, C)
        products = (flipped @ planes.flatten(3)).flatten(0, 1)
        shifted = F.fold(products, (height, width), size, padding=size // 2)
        return shifted.unflatten(0, (-1, frequencies))
    grouped = F.conv2d(planes.flatten(1, 2), weight.flatten(0, 1), padding=size // 2, groups=frequencies)
    return grouped.unflatten(1, (frequencies, outputs))


@functools.lru_cache(maxsize=16)
def _bases(
    rows: int, columns: int, size: int, device: torch.device, dtype: torch.dtype
) -> tuple[Tensor, Tensor, Tensor]:
    """Discrete Fourier transforms as real matrices, for F frequencies of a frame padded by half a kernel.

    Returns the transform of cells (2F, h w), its inverse (h w, 2F), and the transform of taps (2, F, k k); real
    parts come first. Of conjugate frequencies one is kept; the inverse counts it twice.
    """
    half = size // 2
    periods = rows + half, columns + half
    kept = torch.arange(periods[0]), torch.arange(periods[1] // 2 + 1)

    def transform(positions: tuple[Tensor, Tensor]) -> Tensor:
        by_row, by_column = (
            (2 * math.pi / period) * torch.outer(frequency.double(), at.double())
            for period, frequency, at in zip(periods, kept, positions)
        )
        angles = by_row[:, None, :, None] + by_column[None, :, None, :]
        return torch.polar(torch.ones_like(angles), -angles).flatten(2).flatten(0, 1)

    cells = transform((torch.arange(rows), torch.arange(columns)))
    taps = transform((torch.arange(size) - half, torch.arange(size) - half)).conj()
    alone = (kept[1] == 0) | (2 * kept[1] == periods[1])
    counted = torch.where(alone, 1.0, 2.0).double().repeat(periods[0])[:, None] / (periods[0] * periods[1])
    inverse = torch.cat((cells.real * counted, cells.imag * counted)).T
    real = torch.cat((cells.real, cells.imag)), inverse, torch.stack((taps.real, taps.imag))
    forward, backward, factors = (basis.to(dtype).contiguous().to(device) for basis in real)
    return forward, backward, factors
