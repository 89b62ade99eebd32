"""Where an image lies in the square frame that a model is given, and points from one to the other and back."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

Points = NDArray[Any]  # (K, 2), x and y


def normalised_image(pixels: Tensor, mean: Sequence[float], std: Sequence[float]) -> Tensor:
    """Images (..., 3, H, W) in [0, 1] as a model takes them: (pixels - mean) / std of each channel.

    >>> normalised_image(torch.ones(3, 1, 1), (0.5, 0.5, 0), (0.5, 0.25, 1)).flatten().tolist()
    [1.0, 2.0, 1.0]
    """
    return (pixels - pixels.new_tensor(mean).view(3, 1, 1)) / pixels.new_tensor(std).view(3, 1, 1)


@dataclass(frozen=True)
class Frame:
    """A square of side S = ``side`` pixels.

    Images are stretched to fill it; with ``keep_aspect`` they are made smaller until their longer side fits, never
    larger, and lie at the top left, the rest marked with NaN.

    >>> Frame(100).extent((400, 200)).tolist(), Frame(100, keep_aspect=True).extent((400, 200)).tolist()
    ([100.0, 100.0], [100.0, 50.0])
    """

    side: int
    keep_aspect: bool = False

    def extent(self, size: Sequence[int]) -> NDArray[np.float64]:
        """Width and height in the frame of an image of ``size`` (width, height)."""
        if self.keep_aspect:
            return np.asarray(size, np.float64) * min(1.0, self.side / max(size))
        return np.full(2, float(self.side))

    def pixels(self, size: Sequence[int]) -> list[int]:
        """The same in whole pixels, and as (height, width)."""
        width, height = (max(int(length), 1) for length in self.extent(size))
        return [height, width]

    def scale(self, size: Sequence[int]) -> NDArray[np.float64]:
        """Pixels of the frame to one of the image, along x and y."""
        return self.extent(size) / np.asarray(size, np.float64)

    def original(self, points: Points, size: Sequence[int], mirrored: bool = False) -> Points:
        """Points of the frame -> original pixels of the image (K, 2), which was mirrored before.

        >>> Frame(100).original(np.array([[25.0, 50.0]]), (400, 200)).tolist()
        [[100.0, 100.0]]
        """
        extent = self.extent(size).astype(points.dtype)
        if mirrored:
            points = np.stack((extent[0] - points[:, 0], points[:, 1]), 1)
        return points * np.asarray(size, points.dtype) / extent

    def place(self, image: Tensor) -> Tensor:
        """An image (C, h, w) in the frame (C, S, S)."""
        height, width = image.shape[-2:]
        if (height, width) == (self.side, self.side):
            return image
        return torch.nn.functional.pad(image, (0, self.side - width, 0, self.side - height), value=torch.nan)


def cut_out(framed: Tensor) -> Tensor:
    """The image (C, h, w) that lies in a frame (C, S, S).

    >>> cut_out(Frame(4, keep_aspect=True).place(torch.ones(3, 2, 4))).shape
    torch.Size([3, 2, 4])
    """
    there = ~framed[0].isnan()
    return framed[:, : int(there[:, 0].sum()), : int(there[0].sum())]
