"""The frames that protocols take distances in: where a point of an image lies in each, and back again.

Points are (x, y), 0-based; sizes (width, height). What a protocol does to the TRUE points on their way (dtype,
truncation, clamping) is ``Frame.place``; predictions go the same way unrounded, ``Frame.carry``, and come back by
``Frame.original``.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from sc_imagenet.core.errors import InputError
from sc_imagenet.geometry import letterbox
from sc_imagenet.geometry.letterbox import longer_sides

FRAME_KINDS = {
    "original": "pixels of the image file",
    "letterbox": "longer side scaled to S, centred on an S x S canvas, integer offset; small images are enlarged",
    "corner-letterbox": "sides scaled and rounded so that the longer is S, at the top left of an S x S canvas",
    "stretch": "S x S, x * S / W and y * S / H, aspect not kept",
    "corner-aligned": "S x S, x * (S - 1) / (W - 1) and y * (S - 1) / (H - 1)",
    "unit": "padded to a square at the bottom or right, its side 1; true points truncated before and after S",
    "centred-unit": "padded to a square on both sides, its side 1; true points not truncated",
}


@dataclass(frozen=True)
class ProtocolFrame:
    """A frame of side S; ``dtype`` is what true points are held in, ``margin`` how far inside they are clamped.

    >>> import numpy as np
    >>> ProtocolFrame("letterbox", 840).carry(np.array([[10.0, 20.0]]), np.array([[420, 300]]))
    array([[ 20., 160.]])
    """

    kind: str = "original"
    side: int = 1
    dtype: str = "float64"
    margin: float | None = None  # true points are clamped to [margin, side - 1 - margin] (corner-letterbox: unpadded)

    def __post_init__(self) -> None:
        if self.kind not in FRAME_KINDS:
            raise InputError(f"{self.kind!r} is no frame", fix=f"Frames: {', '.join(FRAME_KINDS)}")

    def __str__(self) -> str:
        return self.kind if self.kind == "original" else f"{self.kind}-{self.side}"

    @classmethod
    def square(cls, side: int | None) -> ProtocolFrame:
        """The image stretched to ``side`` x ``side``; None: original pixels."""
        return cls("stretch", side) if side else cls()

    @classmethod
    def parse(cls, name: str) -> ProtocolFrame:
        """The frame of a name such as ``original`` or ``letterbox-840``.

        >>> str(ProtocolFrame.parse("corner-aligned-840"))
        'corner-aligned-840'

        Raises:
            InputError: no frame is called so.
        """
        kind, _, side = name.strip().lower().rpartition("-")
        if name.strip().lower() == "original":
            return cls()
        if kind not in FRAME_KINDS or kind == "original" or not side.isdigit() or not 0 < int(side) < 1 << 20:
            kinds = ", ".join(each for each in FRAME_KINDS if each != "original")
            raise InputError(
                f"{name!r} is no frame",
                fix=f"Write original, or KIND-SIDE with a kind of {kinds}: letterbox-840, stretch-768",
            )
        return cls(kind, int(side))

    def same_place(self, other: ProtocolFrame) -> bool:
        """Whether predictions in the one have the same numbers in the other."""
        if self.kind in ("original", "unit", "centred-unit"):
            return self.kind == other.kind
        return (self.kind, self.side) == (other.kind, other.side)

    def scale(self, sizes: np.ndarray) -> np.ndarray:
        """Factors (N, 2) by which x and y of points are multiplied."""
        sizes = np.asarray(sizes, float)
        longer = longer_sides(sizes)[:, None]
        if self.kind in letterbox.FITS:
            return letterbox.scale(self.kind, self.side, sizes)
        if self.kind == "corner-aligned":
            return (self.side - 1) / np.maximum(sizes - 1, 1)
        if self.kind in ("unit", "centred-unit"):
            return np.repeat(1 / longer, 2, axis=1)
        return np.ones_like(sizes)

    def resized(self, sizes: np.ndarray) -> np.ndarray:
        """Width and height (N, 2) that the image itself occupies in the frame; rounding is half to even."""
        sizes = np.asarray(sizes, float)
        if self.kind in letterbox.FITS:
            return letterbox.resized(self.kind, self.side, sizes)
        if self.kind in ("unit", "centred-unit"):
            return sizes / longer_sides(sizes)[:, None]
        return sizes if self.kind == "original" else np.full_like(sizes, self.side)

    def offset(self, sizes: np.ndarray) -> np.ndarray:
        """Where the image's corner lies in the frame, (N, 2)."""
        if self.kind in letterbox.FITS:
            return letterbox.offset(self.kind, self.side, np.asarray(sizes, float))
        if self.kind == "centred-unit":
            return (1 - self.resized(sizes)) / 2
        return np.zeros((len(sizes), 2))

    def place(self, points: np.ndarray, sizes: np.ndarray) -> np.ndarray:
        """True points (P, 2) of images of ``sizes`` (P, 2), in the frame, as the protocol holds them."""
        points = np.asarray(points, float)
        if self.kind == "unit":
            longer = longer_sides(np.asarray(sizes, float))[:, None]
            whole = np.trunc(np.trunc(points) * self.side / longer)
            return (whole.astype(self.dtype) / np.array(self.side, self.dtype)).astype(self.dtype)
        placed = self._rounded(points, sizes)
        if self.margin is None:
            return placed
        extent = self.resized(sizes) - 1
        low = np.array(self.margin, self.dtype)
        high = (extent - self.margin).astype(self.dtype)
        return np.where(placed <= 0, low, np.where(placed >= extent, high, placed)).astype(self.dtype)

    def box(self, boxes: np.ndarray, sizes: np.ndarray) -> np.ndarray:
        """Width and height (N, 2) of boxes (N, 4) whose corners are placed as true points are, but not clamped."""
        return self._rounded(boxes[:, 2:], sizes) - self._rounded(boxes[:, :2], sizes)

    def _rounded(self, points: np.ndarray, sizes: np.ndarray) -> np.ndarray:
        """Points in the frame; they and what they are multiplied with are rounded to the dtype before, not after."""
        points = np.asarray(points, float).astype(self.dtype)
        if self.kind == "corner-aligned":
            last = np.maximum(np.asarray(sizes, float) - 1, 1).astype(self.dtype)
            return points / last * np.array(self.side - 1, self.dtype)
        return points * self.scale(sizes).astype(self.dtype) + self.offset(sizes).astype(self.dtype)

    def carry(self, points: np.ndarray, sizes: np.ndarray) -> np.ndarray:
        """Predictions (P, 2) in original pixels, in the frame, float64."""
        return np.asarray(points, float) * self.scale(sizes) + self.offset(sizes)

    def original(self, points: np.ndarray, sizes: np.ndarray) -> np.ndarray:
        """The inverse of ``carry``."""
        return (np.asarray(points, float) - self.offset(sizes)) / self.scale(sizes)
