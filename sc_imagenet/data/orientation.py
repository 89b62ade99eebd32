"""How an image lies in its file, and where its points are once it stands upright.

A camera stores its pixels as the sensor gave them and notes in EXIF how they are to be turned. Here an image is what
comes of turning it: so ``datasets``, browsers and viewers show it. Annotations made without heeding EXIF, those of the
published data sets, are in pixels as stored and are turned with the image.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from PIL import Image

TAG = 0x0112  # of EXIF, and of TIFF
UPRIGHT = 1

# What makes an image of each orientation upright.
_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}

# Pixel (x, y), stored -> upright, where the last stored pixel is (r, b).
_PLACES: dict[int, Callable[[float, float, int, int], list[float]]] = {
    2: lambda x, y, r, b: [r - x, y],
    3: lambda x, y, r, b: [r - x, b - y],
    4: lambda x, y, r, b: [x, b - y],
    5: lambda x, y, r, b: [y, x],
    6: lambda x, y, r, b: [b - y, x],
    7: lambda x, y, r, b: [b - y, r - x],
    8: lambda x, y, r, b: [y, r - x],
}
_INVERSE = {6: 8, 8: 6}  # all others are their own


@dataclass(frozen=True, slots=True)
class Stored:
    """An image as its file has it: width and height of the stored pixels, and EXIF's orientation, 1 to 8.

    >>> phone = Stored(4, 2, orientation=6)  # to be turned clockwise
    >>> phone.size, phone.upright([[0, 0], [3, 0]])
    ((2, 4), [[1, 0], [1, 3]])
    """

    width: int
    height: int
    orientation: int = UPRIGHT

    @property
    def stored_size(self) -> tuple[int, int]:
        """Width and height in the file."""
        return self.width, self.height

    @property
    def size(self) -> tuple[int, int]:
        """Width and height once upright."""
        return (self.height, self.width) if lies_across(self.orientation) else (self.width, self.height)

    def upright(self, points: Iterable[Sequence[float]]) -> list[list[float]]:
        """Points in pixels as stored -> in pixels of the upright image."""
        return _carried(points, self.orientation, self.stored_size)

    def as_stored(self, points: Iterable[Sequence[float]]) -> list[list[float]]:
        """The inverse of ``upright``.

        >>> Stored(4, 2, orientation=6).as_stored([[1, 3]])
        [[3, 0]]
        """
        return _carried(points, _INVERSE.get(self.orientation, self.orientation), self.size)

    def upright_box(self, box: Sequence[float] | None) -> list[float] | None:
        """As ``upright``, of a box (x_min, y_min, x_max, y_max)."""
        return None if box is None else _spanned(self.upright([box[:2], box[2:]]))

    def as_stored_box(self, box: Sequence[float] | None) -> list[float] | None:
        """The inverse of ``upright_box``."""
        return None if box is None else _spanned(self.as_stored([box[:2], box[2:]]))


def lies_across(orientation: int) -> bool:
    """Whether an image of that orientation has its width and height exchanged in its file."""
    return orientation in range(5, 9)


def orientation_of(image: Image.Image) -> int:
    """EXIF's orientation of an image that Pillow opened, 1 where it says none or nothing that makes sense."""
    try:
        given = image.getexif().get(TAG, UPRIGHT)
        return int(given) if given in _TURNS else UPRIGHT
    except Exception:  # damaged EXIF says nothing about the pixels, which are whole
        return UPRIGHT


def turned(image: Image.Image, orientation: int) -> Image.Image:
    """An image of that orientation, upright. Its EXIF and XMP are not looked at: neither can be damaged here."""
    return image.transpose(_TURNS[orientation]) if orientation in _TURNS else image


def _carried(points: Iterable[Sequence[float]], orientation: int, size: tuple[int, int]) -> list[list[float]]:
    if orientation not in _PLACES:
        return [list(point) for point in points]
    place, (width, height) = _PLACES[orientation], size
    return [place(x, y, width - 1, height - 1) for x, y in points]


def _spanned(corners: list[list[float]]) -> list[float]:
    return [*map(min, zip(*corners)), *map(max, zip(*corners))]
