"""Views of photographs for training: the whole image, and crops of it, some mirrored.

View ``number`` of image ``index`` is a function of (seed, index, number) alone, so that features of the first few
views can be kept in a file. Two views of one image are a known warp: where a cell of one lies in the other is exact.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torchvision.transforms.v2 import functional as F

from sc_imagenet.data.images import open_image
from sc_imagenet.geometry.resize import normalised_image

SMALLEST = 0.4  # side of a crop, of the image's side
SQUARE = 0.7  # how far a crop's two sides are alike
CHANGE = 0.4  # most change of a channel's brightness, and of contrast
GREY = 0.1  # share of the crops without colour
VIEWS_VERSION = 2  # changes whenever a view of a number does


@dataclass(frozen=True)
class View:
    """A part of an image: left, top, right, bottom as shares of its width and height; mirrored after the cut.

    gains     red, green and blue are multiplied by these
    contrast  distances from the mean of each channel are multiplied by this
    grey      without colour
    """

    left: float = 0.0
    top: float = 0.0
    right: float = 1.0
    bottom: float = 1.0
    mirrored: bool = False
    gains: tuple[float, float, float] = (1.0, 1.0, 1.0)
    contrast: float = 1.0
    grey: bool = False

    def apply(self, image: Image.Image, size: int) -> Image.Image:
        """The view as a square image of side ``size``."""
        width, height = image.size
        box = (self.left * width, self.top * height, self.right * width, self.bottom * height)
        square = image.resize((size, size), Image.Resampling.BILINEAR, box=box)
        return square.transpose(Image.Transpose.FLIP_LEFT_RIGHT) if self.mirrored else square

    def recolour(self, pixels: Tensor) -> Tensor:
        """The view's colours: (3, S, S) in [0, 1] -> the same."""
        if self.contrast != 1:
            mean = pixels.mean((1, 2), keepdim=True)
            pixels = (pixels - mean) * self.contrast + mean
        pixels = (pixels * torch.tensor(self.gains).view(3, 1, 1)).clamp(0, 1)
        return pixels.mean(0, keepdim=True).expand(3, -1, -1) if self.grey else pixels

    def placement(self) -> tuple[float, float, float, float]:
        """(scale x, scale y, shift x, shift y): a place u of the image is at scale * u + shift of the view.

        >>> View(0.0, 0.0, 0.5, 1.0, mirrored=True).placement()
        (-2.0, 1.0, 1.0, 0.0)
        """
        across, down = 1 / (self.right - self.left), 1 / (self.bottom - self.top)
        x, y = -self.left * across, 0.0 - self.top * down
        return (-across, down, 1 - x, y) if self.mirrored else (across, down, x, y)


def draw_view(seed: int, index: int, number: int) -> View:
    """View ``number`` of image ``index``: 0 is the whole image, odd ones are mirrored."""
    if number == 0:
        return View()
    draw = np.random.default_rng([seed, index, number])
    both, *own = draw.uniform(SMALLEST, 1.0, 3).tolist()
    width, height = (SQUARE * both + (1 - SQUARE) * side for side in own)
    left, top = draw.uniform(0, 1 - width), draw.uniform(0, 1 - height)
    red, green, blue, contrast = draw.uniform(1 - CHANGE, 1 + CHANGE, 4).tolist()
    grey = bool(draw.random() < GREY)
    return View(left, top, left + width, top + height, number % 2 == 1, (red, green, blue), contrast, grey)


def view_pixels(path: Path, view: View, size: int, mean: Sequence[float], std: Sequence[float]) -> Tensor:
    """A view of an image file as model input (3, S, S), normalised.

    Raises:
        InputError: the file cannot be read.
    """
    pixels = view.recolour(F.pil_to_tensor(view.apply(open_image(path), size)).float().div_(255))
    return normalised_image(pixels, mean, std)


class ViewDataset(torch.utils.data.Dataset):
    """Views of photographs as model input, by (index, number).

    Each item: ``image`` (3, S, S), normalised; ``placement`` (4,), see ``View.placement``.
    """

    def __init__(
        self,
        paths: Sequence[Path],
        size: int,
        mean: Sequence[float],
        std: Sequence[float],
        seed: int,
    ) -> None:
        self.paths, self.size, self.seed = paths, size, seed
        self.mean, self.std = mean, std

    def __getitem__(self, wanted: tuple[int, int]) -> dict[str, Tensor]:
        """View ``number`` of image ``index``.

        Raises:
            InputError: the file cannot be read.
        """
        index, number = wanted
        view = draw_view(self.seed, index, number)
        image = view_pixels(self.paths[index], view, self.size, self.mean, self.std)
        return {"image": image, "placement": torch.tensor(view.placement())}


def carry_cells(cells: Tensor, source: Tensor, target: Tensor) -> Tensor:
    """Where places of one view of an image lie in another view of it.

    Args:
        cells: (B, K, 2), x and y as shares of the source view.
        source, target: placements (B, 4) of the two views.

    Returns:
        (B, K, 2), shares of the target view; outside [0, 1] where it does not show the place.

    >>> whole, left_half = (torch.tensor([view.placement()]) for view in (View(), View(right=0.5)))
    >>> carry_cells(torch.tensor([[[0.25, 0.5]]]), whole, left_half).tolist()
    [[[0.5, 0.5]]]
    """
    image = (cells - source[:, None, 2:]) / source[:, None, :2]
    return image * target[:, None, :2] + target[:, None, 2:]
