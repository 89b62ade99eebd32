"""Opening an image file of any kind as plain RGB, or saying in one line why it cannot be."""

from __future__ import annotations

import io
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

from sc_imagenet.errors import InputError
from sc_imagenet.files import atomic_path
from sc_imagenet.slow_files import watched

# More is refused before it is decoded: a telephone's 108 megapixels pass, and decoded and converted from any format
# they stay below 2 GB of memory.
MAX_PIXELS = 120_000_000
MOST_SCANS = 100  # of a progressive JPEG, each of which goes over all pixels; encoders write about ten

# Only formats whose decoders run no other program (EPS would start Ghostscript).
FORMATS = ("JPEG", "MPO", "PNG", "WEBP", "BMP", "GIF", "TIFF", "PPM", "JPEG2000", "AVIF")

WRITTEN = {".png": "PNG", ".jpg": "JPEG", ".jpeg": "JPEG", ".webp": "WEBP"}
ORIENTATION = 0x0112  # EXIF tag
SIXTEEN_BIT = ("I;16", "I;16L", "I;16B", "I;16N")


def open_image(
    source: str | Path | bytes, *, upright: bool = False, name: object = None, most_pixels: int = MAX_PIXELS
) -> Image.Image:
    """Open an image and decode it whole, as RGB with 8 bits a channel.

    Greyscale, palette, CMYK and 16-bit files are converted; what is transparent is laid over white; of an
    animation the first frame is taken. 16-bit values are divided by 257; 32-bit ones have no agreed range
    and are stretched from their least to their greatest.

    Args:
        source: a file, or the bytes of one.
        upright: turn the image as its EXIF orientation says. False for data sets, whose annotations are in
            pixels as stored; True for a person's own photographs.
        name: what to call the image in an error, where ``source`` is bytes.
        most_pixels: an image of more is refused before it is decoded.

    Raises:
        InputError: missing, empty, truncated, not an image, or of more than ``most_pixels`` pixels.
    """
    if not isinstance(source, bytes):
        with watched(Path(source)):
            return _decoded(_readable(Path(source)), upright, source if name is None else name, most_pixels)
    return _decoded(io.BytesIO(source), upright, "image" if name is None else name, most_pixels)


def _decoded(file: io.BytesIO | Path, upright: bool, where: object, most_pixels: int) -> Image.Image:
    try:
        with _quiet(), Image.open(file, formats=_known_formats()) as image:
            width, height = image.size
            if width * height > most_pixels:
                raise Image.DecompressionBombError
            if image.format in ("JPEG", "MPO") and _scans(file) > MOST_SCANS:
                raise ValueError(f"it has more than {MOST_SCANS} scans, which looks like a decompression bomb")
            image.load()
            turned = _upright(image) if upright else image
            return _rgb(turned)
    except Image.UnidentifiedImageError as error:
        raise InputError(
            "is not an image that can be read",
            where=where,
            fix=f"Give one of: {', '.join(_known_formats())}.",
        ) from error
    except Image.DecompressionBombError as error:
        raise InputError(
            f"has too many pixels to be decoded safely (the most is {most_pixels:,})",
            where=where,
            fix="Make it smaller first.",
        ) from error
    except InputError:
        raise
    except Exception as error:  # a decoder given malformed bytes may raise anything at all
        raise InputError(
            f"is damaged and cannot be decoded ({error or type(error).__name__})",
            where=where,
            fix="Get the file again.",
        ) from error


def picture_format(path: str | Path) -> str:
    """Pillow's name of the format that a picture's file name asks for.

    >>> picture_format("pairs.png")
    'PNG'

    Raises:
        InputError: a suffix that no picture here is written as.
    """
    try:
        return WRITTEN[Path(path).suffix.lower()]
    except KeyError as error:
        raise InputError(
            "does not end like a picture", where=path, fix=f"Let it end in one of: {', '.join(WRITTEN)}."
        ) from error


def save_picture(image: Image.Image, path: str | Path) -> None:
    """Write a picture, atomically, in the format its file name asks for.

    Raises:
        InputError: an unknown suffix, or the file cannot be written.
    """
    kind = picture_format(path)
    with atomic_path(path) as temporary:
        image.save(temporary, kind, **({} if kind == "PNG" else {"quality": 92}))


def image_size(path: Path) -> tuple[int, int]:
    """(width, height) of an image as its header says; nothing is decoded.

    Raises:
        InputError: missing, empty, not an image, or of more than ``MAX_PIXELS`` pixels.
    """
    try:
        with watched(path), _quiet(), Image.open(_readable(path), formats=_known_formats()) as image:
            width, height = image.size
    except InputError:
        raise
    except Image.UnidentifiedImageError as error:
        raise InputError("is not an image that can be read", where=path) from error
    except Exception as error:  # a decoder given malformed bytes may raise anything at all
        raise InputError(f"is damaged ({error or type(error).__name__})", where=path) from error
    if width * height > MAX_PIXELS:
        raise InputError(f"has too many pixels to be decoded safely (the most is {MAX_PIXELS:,})", where=path)
    return width, height


@contextmanager
def _quiet() -> Iterator[None]:
    """What Pillow finds odd about a file is said in one line by an error, or does not matter."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def _scans(file: io.BytesIO | Path) -> int:
    """How many scans a JPEG has; inside one, the byte 0xFF is always followed by others."""
    content = file.getvalue() if isinstance(file, io.BytesIO) else file.read_bytes()
    return content.count(b"\xff\xda")


def _readable(path: Path) -> io.BytesIO | Path:
    try:
        if not path.exists():
            raise InputError("no such image", where=path)
        if not path.is_file():
            raise InputError("is not a file, an image was expected", where=path)
        if path.stat().st_size == 0:
            raise InputError("is empty (0 bytes), an image was expected", where=path, fix="Get it again.")
    except (OSError, ValueError) as error:
        if isinstance(error, InputError):
            raise
        reason = getattr(error, "strerror", None) or error
        raise InputError(f"cannot be read ({reason})", where=repr(str(path))) from error
    return path


def _known_formats() -> tuple[str, ...]:
    """Those of ``FORMATS`` the installed Pillow was built with; asked for another, it raises KeyError."""
    Image.init()
    return tuple(name for name in FORMATS if name in Image.OPEN)


def _levels(values: np.ndarray, scaled: Callable[[np.ndarray], np.ndarray]) -> Image.Image:
    """Grey values (H, W) as RGB, scaled to 0..255 some rows at a time: as float64 the whole would be huge."""
    levels = np.empty(values.shape, np.uint8)
    for start in range(0, len(values), 256):
        levels[start : start + 256] = np.rint(scaled(values[start : start + 256].astype(np.float64)))
    return Image.fromarray(levels).convert("RGB")


def _upright(image: Image.Image) -> Image.Image:
    try:
        turned = image.getexif().get(ORIENTATION, 1) in range(2, 9)
    except Exception:  # damaged EXIF says nothing about the pixels, which are whole
        return image
    return (ImageOps.exif_transpose(image) or image) if turned else image


def _rgb(image: Image.Image) -> Image.Image:
    if image.mode in SIXTEEN_BIT or (image.mode == "I" and image.format == "PNG"):
        return _levels(np.asarray(image), lambda rows: np.clip(rows / 257, 0, 255))
    if image.mode in ("I", "F"):
        values = np.asarray(image)
        low, high = float(values.min()), float(values.max())
        if not np.isfinite([low, high]).all():
            raise ValueError("it holds values that are not finite")
        span = (high - low) or 1.0
        return _levels(values, lambda rows: (rows - low) / span * 255)
    if "transparency" in image.info or image.mode in ("RGBA", "LA", "PA", "RGBa", "La"):
        over = image if image.mode == "RGBA" else image.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", over.size, "white"), over).convert("RGB")
    # A copy even of RGB: the caller's image must not hold the file open.
    return image.convert("RGB") if image.mode != "RGB" else image.copy()
