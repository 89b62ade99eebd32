"""Convolution over a volume of matches: the neighbourhood of a match is 4-D, 2-D in the source times 2-D in the target.

The convolution theorem is used in the source's two dimensions, where a kernel of 5 x 5 taps becomes one complex
factor a frequency; in the target's two dimensions taps are summed as in any 2-D convolution. With 16 channels and
5^4 taps on 15^4 cells that is a seventh of the products of the plain sum, on 25^4 cells a tenth.

A volume is (B, h, w, C, h', w'), channels between the images: so each of the source's dimensions is transformed by one
product of matrices and nothing is ever permuted. Frequencies are convolved a row at a time, while their planes are in a
processor's cache; none are kept, the gradient transforms again.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Iterator
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from sc_imagenet.geometry.correlation import at_least_float32, at_once

ITEMS = 4  # of a batch that are transformed at once on a processor


def conv4d(volume: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """4-D convolution (cross-correlation, as ``torch`` has it), zero padded to keep the size.

    Args:
        volume: (B, h, w, C, h', w').
        weight: (O, C, k, k, k, k), k odd.
        bias: (O,).

    Returns:
        (B, h, w, O, h', w').

    >>> ones = torch.ones(1, 3, 3, 1, 3, 3)
    >>> conv4d(ones, torch.ones(1, 1, 3, 3, 3, 3))[0, 1, 1].round().tolist()
    [[[36.0, 54.0, 36.0], [54.0, 81.0, 54.0], [36.0, 54.0, 36.0]]]
    """
    with torch.autocast(volume.device.type, enabled=False):
        result = _Conv4d.apply(at_least_float32(volume), at_least_float32(weight))
        return result if bias is None else result.add_(bias[:, None, None])


class _Conv4d(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, volume: Tensor, weight: Tensor) -> Tensor:
        ctx.save_for_backward(volume, weight)
        return _convolved(volume, weight)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, Tensor | None]:
        volume, weight = ctx.saved_tensors
        for_volume, for_weight = ctx.needs_input_grad
        turned = weight.transpose(0, 1).flip(2, 3, 4, 5)
        return (
            _convolved(gradient, turned) if for_volume else None,
            _weight_gradient(gradient, volume, weight) if for_weight else None,
        )


class Bases(NamedTuple):
    """Discrete Fourier transforms as real matrices, for a frame padded by half a kernel: Q x R frequencies.

    Real parts come before imaginary ones. Of conjugate rows of frequencies one is kept.
    """

    down: Tensor  # cells along h to frequencies (2Q, h)
    across: Tensor  # complex rows to frequencies (2R, 2w)
    taps: Tensor  # taps to complex factors as matrices: (Q, 4R, k k)
    weights: list[float]  # of each row of frequencies in the inverse, which is otherwise the transpose

    @property
    def up(self) -> Tensor:
        """The inverse of ``down``: (h, 2Q)."""
        return self.down.T * self.down.new_tensor(self.weights).repeat_interleave(2)

    def kernel(self, weight: Tensor, row: int) -> Tensor:
        """The 2-D kernels of a row of frequencies: (O, C, k, k, k, k) -> (R, 2O, 2C, k, k)."""
        outputs, inputs, size = weight.shape[:3]
        factors = self.taps[row] @ weight.permute(2, 3, 0, 1, 4, 5).flatten(2).flatten(0, 1)
        parts = factors.view(-1, 2, 2, outputs, inputs, size, size).transpose(2, 3)
        return parts.reshape(-1, 2 * outputs, 2 * inputs, size, size)

    def spectrum(self, volume: Tensor) -> Iterator[Tensor]:
        """The planes of each row of frequencies: (B, h, w, C, h', w') -> Q times (B, R, 2C, h', w')."""
        rows = (self.down @ volume.flatten(2)).view(len(volume), len(self.taps), self.across.shape[1], -1)
        for row in rows.unbind(1):
            yield (self.across @ row).view(len(volume), -1, 2 * volume.shape[3], *volume.shape[4:])


def _convolved(volume: Tensor, weight: Tensor) -> Tensor:
    """``conv4d`` without bias."""
    bases = _bases(*volume.shape[1:3], weight.shape[2], volume.device, volume.dtype)
    result = volume.new_empty(*volume.shape[:3], len(weight), *volume.shape[4:])
    count = at_once(ITEMS, volume.device)
    for items, out in zip(volume.split(count), result.split(count)):
        rows = out.new_empty(len(out), len(bases.taps), bases.across.shape[1], out[0, 0, 0].numel())
        for number, planes in enumerate(bases.spectrum(items)):
            convolved = _convolve_planes(planes, bases.kernel(weight, number)).view(len(out), len(bases.across), -1)
            torch.matmul(bases.across.T, convolved, out=rows[:, number])
        torch.matmul(bases.up, rows.view(len(out), len(bases.down), -1), out=out.flatten(2))
    return result


def _weight_gradient(gradient: Tensor, volume: Tensor, weight: Tensor) -> Tensor:
    """The gradient (O, C, k, k, k, k) of the weight from that of the result."""
    outputs, inputs, size = weight.shape[:3]
    bases = _bases(*volume.shape[1:3], size, volume.device, volume.dtype)
    total = volume.new_zeros(size**2, outputs * inputs * size**2)
    count = at_once(ITEMS, volume.device)
    for items, back in zip(volume.split(count), gradient.split(count)):
        for number, both in enumerate(zip(bases.spectrum(back), bases.spectrum(items))):
            parts = _kernel_gradient(*both, size).unflatten(2, (2, inputs)).unflatten(1, (2, outputs))
            factors = parts.transpose(2, 3).flatten(3).flatten(0, 2)
            total.addmm_(bases.taps[number].T, factors.flatten(1), alpha=bases.weights[number])
    return total.view(size, size, outputs, inputs, size, size).permute(2, 3, 0, 1, 4, 5)


def _convolve_planes(planes: Tensor, kernel: Tensor) -> Tensor:
    """2-D convolutions, one a frequency: (B, R, C, h, w), (R, O, C, k, k) -> (B, R, O, h, w)."""
    frequencies, outputs, inputs, size, _ = kernel.shape
    height, width = planes.shape[-2:]
    if outputs < inputs:  # grouped convolutions with few outputs are slow: multiply all taps, then shift and add
        flipped = kernel.flip(3, 4).permute(0, 1, 3, 4, 2).flatten(1, 3)  # (R, O k k, C)
        products = (flipped @ planes.flatten(3)).flatten(0, 1)
        shifted = F.fold(products, (height, width), size, padding=size // 2)
        return shifted.unflatten(0, (-1, frequencies))
    grouped = F.conv2d(planes.flatten(1, 2), kernel.flatten(0, 1), padding=size // 2, groups=frequencies)
    return grouped.unflatten(1, (frequencies, outputs))


def _kernel_gradient(gradient: Tensor, planes: Tensor, size: int) -> Tensor:
    """The kernel's gradient: (B, R, O, h, w), (B, R, C, h, w) -> (R, O, C, k, k)."""
    frequencies, outputs, inputs = *gradient.shape[1:3], planes.shape[2]
    if outputs < inputs:  # the same sums with exchanged roles are much faster
        return _kernel_gradient(planes, gradient, size).transpose(1, 2).flip(3, 4)
    like = planes.new_empty(frequencies * outputs, inputs, size, size)
    half, wanted = size // 2, [False, True, False]
    _, kernel, _ = torch.ops.aten.convolution_backward(
        gradient.flatten(1, 2), planes.flatten(1, 2), like, None, [1] * 2, [half] * 2, [1] * 2, False, [0] * 2,
        frequencies, wanted,
    )  # fmt: skip
    return kernel.unflatten(0, (frequencies, outputs))


@functools.lru_cache(maxsize=16)
@torch.inference_mode(False)
def _bases(rows: int, columns: int, size: int, device: torch.device, dtype: torch.dtype) -> Bases:
    """The transforms for kernels of ``size`` taps along each dimension."""
    half = size // 2
    periods = rows + half, columns + half
    kept = torch.arange(periods[0] // 2 + 1), torch.arange(periods[1])

    def waves(dimension: int, positions: Tensor) -> Tensor:
        """Complex exponentials (frequencies, positions)."""
        angles = (2 * math.pi / periods[dimension]) * torch.outer(kept[dimension].double(), positions.double())
        return torch.polar(torch.ones_like(angles), -angles)

    def as_matrices(values: Tensor) -> Tensor:
        """Complex (...) -> real (..., 2, 2) that multiply a real and an imaginary part."""
        return torch.stack((values.real, -values.imag, values.imag, values.real), -1).unflatten(-1, (2, 2))

    down = torch.view_as_real(waves(0, torch.arange(rows))).transpose(1, 2).flatten(0, 1)
    across = as_matrices(waves(1, torch.arange(columns))).permute(0, 2, 3, 1).flatten(2).flatten(0, 1)
    by_row, by_column = (waves(dimension, torch.arange(size) - half).conj() for dimension in (0, 1))
    taps = as_matrices(by_row[:, None, :, None] * by_column[:, None]).flatten(2, 3).permute(0, 1, 3, 4, 2)
    alone = (kept[0] == 0) | (2 * kept[0] == periods[0])
    weights = torch.where(alone, 1.0, 2.0).double() / (periods[0] * periods[1])
    real = (basis.to(dtype).contiguous().to(device) for basis in (down, across, taps.flatten(1, 3)))
    down, across, taps = real
    return Bases(down, across, taps, weights.tolist())
