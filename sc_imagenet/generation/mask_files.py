"""Masks that any program made: which pixels of a photograph its file says are the object.

Programs write masks in several ways. Which one a file follows is seen in its pixels and told in the data set's report:

    alpha of a cut-out     the object's own colours, all else transparent (what rembg writes)
    black to white         white is the object; grey in between where the program was not sure
    0 and 1                or any two values of which one is 0: the other is the object, however dark it looks
    labels                 numbers or colours of objects on a background of 0 or black (PASCAL VOC, DAVIS); the border
                           that VOC leaves open is not of the object
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from sc_imagenet.core.errors import InputError
from sc_imagenet.data.images import SIXTEEN_BIT, open_mask
from sc_imagenet.data.orientation import UPRIGHT, lies_across, turned
from sc_imagenet.generation.photographs import Photograph

ALPHA, LEVELS, TWO, LABELS = "alpha of a cut-out", "black to white", "0 and 1", "labels"
TURNED = "turned with the photographs, as which they are stored"
UNSURE = "taken as upright, since proportions do not tell"

MOST_LABELS = 32  # a picture has more colours
HIGHEST_LABEL = 32  # of a grey image without a palette, and
FEW_LEVELS = 8  # values in all: a dark mask of soft edges has more
VOID, VOID_COLOUR = 255, (224, 224, 192)  # what PASCAL VOC leaves open around objects
NEARLY_GREY = 8  # levels by which a grey image's channels may differ once it was a JPEG
OPAQUE = 255


@dataclass(frozen=True)
class Mask:
    """A mask (H, W) in [0, 1], upright, and in words how its file was read."""

    values: NDArray[np.float32]
    notes: tuple[str, ...]


def read_mask(path: Path, photograph: Photograph, root: Path) -> Mask:
    """The mask of a photograph, which lies below ``root``.

    A mask of a photograph that EXIF turns is upright as it is shown, or lies as the photograph is stored: what fits
    its proportions.

    Raises:
        InputError: the file cannot be read, is no mask, the photograph itself, or of other proportions.
    """
    image = open_mask(path)
    if hashlib.sha256(path.read_bytes()).hexdigest() == photograph.sha256:
        raise InputError(
            "is the photograph itself, not a mask of it", where=path, fix="Give --saliency the folder of the masks."
        )
    notes = []
    fits = _fits(image.size, photograph)
    if not fits and lies_across(photograph.orientation) and _fits(image.size[::-1], photograph):
        image = turned(image, photograph.orientation)
        notes.append(TURNED)
    elif not fits:
        raise InputError(
            f"has {image.width} x {image.height} pixels, which are not the proportions of its photograph of "
            f"{photograph.width} x {photograph.height}",
            where=path,
            fix="A mask shows the whole photograph, made smaller or not.",
        )
    elif photograph.orientation != UPRIGHT and (
        not lies_across(photograph.orientation) or _fits(image.size[::-1], photograph)
    ):
        notes.append(UNSURE)
    try:
        values, convention = object_of(image)
    except InputError as error:
        raise InputError(f"{error}", where=path, fix="Masks are white where the object is, or cut-outs.") from error
    return Mask(values, (convention, *notes))


def object_of(image: Image.Image) -> tuple[NDArray[np.float32], str]:
    """What of a mask is the object, (H, W) in [0, 1], and the convention that it follows.

    >>> cut_out = Image.new("LA", (2, 1), (0, 255))
    >>> cut_out.putpixel((1, 0), (0, 0))
    >>> object_of(cut_out)
    (array([[1., 0.]], dtype=float32), 'alpha of a cut-out')

    Raises:
        InputError: it follows none.
    """
    if image.mode in ("RGBA", "LA", "PA", "RGBa", "La") or "transparency" in image.info:
        alpha = np.asarray(image.convert("RGBA"))[:, :, 3]
        if alpha.min() < alpha.max() or alpha.max() == 0:
            return (alpha / np.float32(OPAQUE)).astype(np.float32), ALPHA
        image = image.copy() if image.mode == "P" else image.convert("RGBA").convert("RGB")
        image.info.pop("transparency", None)
    if image.mode == "1":
        return np.asarray(image, np.float32), LEVELS
    if image.mode == "P":
        return _of_palette(image)
    if image.mode == "L":
        return _of_levels(np.asarray(image), OPAQUE)
    if image.mode in SIXTEEN_BIT or image.mode in ("I", "F"):
        values = np.asarray(image, np.float64)
        if not np.isfinite(values).all() or values.min() < 0:
            raise InputError("holds values below 0 or that are not finite, so is no mask")
        brightest = max(values.max(), 1.0)
        full = next((full for full in (1 if image.mode == "F" else OPAQUE, OPAQUE, 65535) if brightest <= full), None)
        return _of_levels(values, full or brightest)
    return _of_colours(np.asarray(image.convert("RGB")))


def _of_palette(image: Image.Image) -> tuple[NDArray[np.float32], str]:
    indices, shown = np.asarray(image), np.asarray(image.convert("RGB"))
    used = np.unique(indices).tolist()
    if (np.ptp(shown, axis=2) == 0).all() and len(np.unique(shown[:, :, 0])) == len(used):
        return _of_levels(shown[:, :, 0], OPAQUE)
    if len(used) > MOST_LABELS:
        raise InputError(f"is a picture of {len(used)} colours, not a mask")
    void = VOID if set(used) - {0, VOID} else None
    return _of_labels(indices, 0 in used or len(used) == 1, lambda labels: (labels != 0) & (labels != void))


def _of_levels(values: NDArray[Any], full: float) -> tuple[NDArray[np.float32], str]:
    """Of grey levels, the brightest of which is ``full``."""
    used = np.unique(values)
    highest = float(used[-1])
    if len(used) <= 2 and used[0] in (0, highest) and 0 < highest < full:
        return (values > 0).astype(np.float32), TWO
    if len(used) <= FEW_LEVELS and 1 < highest <= HIGHEST_LABEL < full and (used == np.rint(used)).all():
        return _of_labels(values, used[0] == 0, lambda labels: labels != 0)
    return (values / np.float64(full)).astype(np.float32), LEVELS


def _of_colours(pixels: NDArray[np.uint8]) -> tuple[NDArray[np.float32], str]:
    if (np.ptp(pixels.astype(np.int16), axis=2) <= NEARLY_GREY).all():
        return _of_levels(pixels[:, :, 1], OPAQUE)
    codes = pixels.astype(np.uint32) @ np.array([1 << 16, 1 << 8, 1], np.uint32)
    used = np.unique(codes)
    if len(used) > MOST_LABELS:
        raise InputError(f"is a picture of {len(used):,} colours, not a mask")
    red, green, blue = VOID_COLOUR
    void = (red << 16) + (green << 8) + blue
    return _of_labels(codes, used[0] == 0, lambda labels: (labels != 0) & (labels != void))


def _of_labels(
    labels: NDArray[Any], background: bool, is_object: Callable[[NDArray[Any]], NDArray[np.bool_]]
) -> tuple[NDArray[np.float32], str]:
    if not background:
        raise InputError("holds labels or colours of which none is the background, 0 or black")
    return is_object(labels).astype(np.float32), LABELS


def _fits(size: tuple[int, int], photograph: Photograph) -> bool:
    """Whether a mask has a photograph's proportions, each of its sides rounded by up to a pixel."""
    across, down = size[0] * photograph.height, size[1] * photograph.width
    return abs(across - down) <= photograph.width + photograph.height
