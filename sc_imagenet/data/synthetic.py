"""A photograph and a random transformation of itself: pairs whose correspondence is known without any label.

As the authors of CNNGeo and Weakalign make them (Rocco et al., CVPR 2017, section 4.1): the photograph is stretched to
640 x 480 pixels, the source is the middle nine sixteenths of it along each side, and the target is what the
transformation shows of it, continued beyond its border by its mirror image."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import datasets
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sc_imagenet.data.augmentation import changed
from sc_imagenet.data.pairs import PairDataset
from sc_imagenet.geometry.resize import normalised_image
from sc_imagenet.geometry.transformations import AFFINE, IDENTITY, SPLINE, lattice, transform, transformed_grid

HEIGHT, WIDTH = 480, 640  # of the stretched photograph
MIDDLE = 9 / 16  # of each side that the source shows
POINTS = 20  # along each side of the lattice that is known of a pair

Draws = NDArray[np.float64]  # uniform in [0, 1)


class SyntheticPairs(PairDataset):
    """Photographs as pairs; what an item holds, and its arguments, are those of ``PairDataset``.

    The photographs are the sources of ``rows``. Half of them are warped affinely, half by splines, drawn anew every
    epoch. Points are those of a lattice on the target that the source shows, at most ``points`` of them, drawn; boxes
    are NaN. Of the augmentation its photometric changes, its views and the width of its warps count. An item also has

        warp              (400, 2), where a lattice of 20 x 20 points of the target lies in the source, unit
                          coordinates (see ``sc_imagenet/geometry/transformations.py``), also outside of it
        warp_parameters   6 of an affine transformation, 18 of a spline
    """

    def __init__(
        self, rows: datasets.Dataset, size: int, mean: Sequence[float], std: Sequence[float], **options: Any
    ) -> None:
        super().__init__(rows, size, mean, std, **options)
        self.shrinks_first = False

    def __getitem__(self, index: int | tuple[int, int]) -> dict[str, Any]:
        """Item ``index``, or item (epoch, index)."""
        epoch, index = index if isinstance(index, tuple) else (0, index)
        row = self.rows[index]
        draw = np.random.default_rng([self.seed, epoch, index])
        affine = AFFINES[self.augment.warps if self.augment is not None else "wide"]
        theta = affine(draw) if draw.random() < 0.5 else spline_of(draw.random(SPLINE))
        image, (width, height) = self._image(row["source"])
        points, arrived = self._drawn_points(theta, draw)
        item: dict[str, Any] = {"index": index, "category": row["category"]}
        for name, view in self._views(image, draw).items():
            stretched = stretch(normalised_image(view.float().div_(255), self.mean, self.std))
            item[name] = shown(stretched, None if name == "source" else theta, self.frame.side)
        for name, where in (("source", arrived), ("target", points)):
            item[f"{name}_points"] = self._pixels(where)
            item[f"{name}_bbox"] = torch.full((4,), torch.nan)
            item[f"{name}_size"] = torch.tensor([width, height])
        every = lattice(POINTS, theta)
        return {**item, "warp": transform(theta[None], every[None])[0], "warp_parameters": len(theta)}

    def _views(self, image: Tensor, draw: np.random.Generator) -> Mapping[str, Tensor]:
        """The photograph, uint8 (3, H, W), as source and target see it, and further views of the target."""
        if self.augment is None:
            return {"source": image, "target": image}
        views = {f"target_{name}": changes for name, changes in self.augment.views.items()}
        named = {"source": self.augment.changes, "target": self.augment.changes, **views}
        return {name: changed(draw, image, changes) for name, changes in named.items()}

    def _drawn_points(self, theta: Tensor, draw: np.random.Generator) -> tuple[Tensor, Tensor]:
        """Points (K, 2) of the target that the source shows, and where; unit coordinates."""
        points = lattice(POINTS, theta)
        arrived = transform(theta[None], points[None])[0]
        inside = (arrived.abs() <= 1).all(1).nonzero()[:, 0].numpy()
        kept = np.sort(draw.permutation(inside)[: self.points])
        return points[kept], arrived[kept]

    def _pixels(self, points: Tensor) -> Tensor:
        """Unit coordinates, from centre to centre of the outer pixels -> pixels of the frame."""
        return (points + 1) / 2 * (self.frame.side - 1) + 0.5


def stretch(image: Tensor) -> Tensor:
    """An image (3, H, W) of floats at 480 x 640 pixels, corners on corners, without antialiasing."""
    return torch.nn.functional.interpolate(image[None], (HEIGHT, WIDTH), mode="bilinear", align_corners=True)[0]


def shown(image: Tensor, theta: Tensor | None, side: int) -> Tensor:
    """What a pair shows of an image (3, H, W): (3, side, side).

    ``theta`` (6,) or (18,) takes the points of what is shown to the middle of the image, which is shown itself with
    None. The border's pixel is the first of the mirror image.
    """
    plain = torch.tensor(IDENTITY[AFFINE]) if theta is None else theta
    grid = transformed_grid(plain[None].to(image), side)
    # Of an image continued to twice its size the unit coordinates are counted between the centres of outer pixels.
    height, width = image.shape[1:]
    sides = grid.new_tensor([width, height])
    index = grid * (MIDDLE / 2) * (2 * sides - 1) / 2 + (sides - 1) / 2
    # Reflection is about the outer edge of the outer pixels where corners are not aligned.
    where = (2 * index + 1) / sides - 1
    return torch.nn.functional.grid_sample(image[None], where, padding_mode="reflection", align_corners=False)[0]


# Random transformations, each a function of uniform draws.


def wide_affine(draws: Draws) -> Tensor:
    """Parameters (6,) of 7 draws as in 2017: turned by up to 30 degrees, each entry scaled on its own by 0.5 to 1.5."""
    angle = (draws[0] - 0.5) * np.pi / 3
    scales = draws[1:] + 0.5
    cosine, sine = np.cos(angle), np.sin(angle)
    shift = draws[[3, 6]] - 0.5
    entries = (scales[0] * cosine, -scales[1] * sine, shift[0], scales[3] * sine, scales[4] * cosine, shift[1])
    return torch.tensor(entries, dtype=torch.float32)


def narrow_affine(draws: Draws) -> Tensor:
    """Parameters (6,) of 6 draws as in 2018: turned by up to 15 degrees, two axes scaled by 0.75 to 1.25."""
    turned, axes = turn_matrix((draws[0] - 0.5) * np.pi / 6), turn_matrix((draws[1] - 0.5) * np.pi / 3)
    matrix = turned @ axes.T @ np.diag(0.75 + draws[2:4] / 2) @ axes
    shift = (draws[4:6] - 0.5) / 2
    return torch.from_numpy(np.column_stack((matrix, shift)).astype(np.float32).ravel())


def turn_matrix(angle: float) -> NDArray[np.float64]:
    """The matrix (2, 2) that turns by an angle in radians.

    >>> turn_matrix(np.pi / 2).round().tolist()
    [[0.0, -1.0], [1.0, 0.0]]
    """
    cosine, sine = np.cos(angle), np.sin(angle)
    return np.array([[cosine, -sine], [sine, cosine]])


def spline_of(draws: Draws) -> Tensor:
    """Parameters (18,) of 18 draws: every coordinate of the control points moved by up to 0.4."""
    moved = np.array(IDENTITY[SPLINE]) + (draws - 0.5) * 0.8
    return torch.from_numpy(moved.astype(np.float32))


AFFINES: Mapping[str, Callable[[np.random.Generator], Tensor]] = {
    "wide": lambda draw: wide_affine(draw.random(7)),
    "narrow": lambda draw: narrow_affine(draw.random(6)),
}
