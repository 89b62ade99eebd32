"""Where an image lies in the square frame that a model is given, and points from one to the other and back."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sc_imagenet.core.errors import unknown_name
from sc_imagenet.geometry.letterbox import FITS, offset, resized, scale

Points = NDArray[Any]  # (K, 2), x and y
PADDINGS = ("black", "white")
RESAMPLES = ("bilinear", "bicubic", "lanczos")


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
    larger, and lie at the top left, the rest marked with NaN. With another ``fit`` of
    ``sc_imagenet/geometry/letterbox.py`` they are made smaller or larger until their longer side fits, and the rest is
    coloured.

    fit       of images that do not ``keep_aspect``
    padding   colour beside a letterboxed image: black or white
    resample  bilinear, bicubic or lanczos; with antialiasing, on 8-bit images

    >>> Frame(100).extent((400, 200)).tolist(), Frame(100, keep_aspect=True).extent((400, 200)).tolist()
    ([100.0, 100.0], [100.0, 50.0])
    """

    side: int
    keep_aspect: bool = False
    fit: str = "stretch"
    padding: str = "black"
    resample: str = "bilinear"

    def __post_init__(self) -> None:
        for name, valid in (("fit", FITS), ("padding", PADDINGS), ("resample", RESAMPLES)):
            if (given := getattr(self, name)) not in valid:
                raise unknown_name(name, given, valid)

    @property
    def letterboxed(self) -> bool:
        """Whether something coloured may lie beside the image."""
        return not self.keep_aspect and self.fit != "stretch"

    def extent(self, size: Sequence[int]) -> NDArray[np.float64]:
        """Width and height in the frame of an image of ``size`` (width, height)."""
        if self.keep_aspect:
            return np.asarray(size, np.float64) * min(1.0, self.side / max(size))
        return np.maximum(resized(self.fit, self.side, np.asarray([size], np.float64))[0], 1.0)

    def pixels(self, size: Sequence[int]) -> list[int]:
        """The same in whole pixels, and as (height, width)."""
        width, height = (max(int(length), 1) for length in self.extent(size))
        return [height, width]

    def scale(self, size: Sequence[int]) -> NDArray[np.float64]:
        """Pixels of the frame to one of the image, along x and y."""
        if self.fit == "letterbox" and not self.keep_aspect:
            return scale(self.fit, self.side, np.asarray([size], np.float64))[0]
        return self.extent(size) / np.asarray(size, np.float64)

    def offset(self, size: Sequence[int]) -> NDArray[np.float64]:
        """Where the image's top left corner lies in the frame."""
        return offset(self.fit if self.letterboxed else "stretch", self.side, np.asarray([size], np.float64))[0]

    def mirror(self, size: Sequence[int]) -> float:
        """What the x of a point and of its mirror image add up to: a letterboxed image is mirrored with its frame."""
        return float(self.side) if self.letterboxed else float(self.extent(size)[0])

    def original(self, points: Points, size: Sequence[int], mirrored: bool = False) -> Points:
        """Points of the frame -> original pixels of the image (K, 2), which was mirrored before.

        >>> Frame(100).original(np.array([[25.0, 50.0]]), (400, 200)).tolist()
        [[100.0, 100.0]]
        """
        extent = self.extent(size).astype(points.dtype)
        if mirrored:
            points = np.stack((points.dtype.type(self.mirror(size)) - points[:, 0], points[:, 1]), 1)
        if self.letterboxed:
            return ((points - self.offset(size)) / self.scale(size)).astype(points.dtype)
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
