"""The one decoder: an image file of any kind as plain RGB, upright, or one line that says why it cannot be.

What it gives is the frame of all points (see ``schema``). Nothing else here decodes an image.
"""

from __future__ import annotations

import io
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from sc_imagenet.core.errors import InputError
from sc_imagenet.core.files import atomic_path
from sc_imagenet.core.locks import watched
from sc_imagenet.data.orientation import UPRIGHT, Stored, orientation_of, turned

if TYPE_CHECKING:
    from torch import Tensor

Picture: TypeAlias = "str | Path | Image.Image | NDArray[Any] | Tensor"

# More is refused before it is decoded: a telephone's 108 megapixels pass, and decoded and converted from any format
# they stay below 2 GB of memory.
MAX_PIXELS = 120_000_000
MOST_SCANS = 100  # of a progressive JPEG, each of which goes over all pixels; encoders write about ten

# Only formats whose decoders run no other program (EPS would start Ghostscript).
FORMATS = ("JPEG", "MPO", "PNG", "WEBP", "BMP", "GIF", "TIFF", "PPM", "JPEG2000", "AVIF")

WRITTEN = {".png": "PNG", ".jpg": "JPEG", ".jpeg": "JPEG", ".webp": "WEBP"}
TIFF_WIDTH, TIFF_HEIGHT = 256, 257  # tags
XMP = ("xmp", "XML:com.adobe.xmp")
SIXTEEN_BIT = ("I;16", "I;16L", "I;16B", "I;16N")


def open_image(source: str | Path | bytes, *, name: object = None, most_pixels: int = MAX_PIXELS) -> Image.Image:
    """Open an image and decode it whole, as RGB with 8 bits a channel, turned as its EXIF orientation says.

    Greyscale, palette, CMYK and 16-bit files are converted; what is transparent is laid over white; of an
    animation the first frame is taken. 16-bit values are divided by 257; 32-bit ones have no agreed range
    and are stretched from their least to their greatest.

    Args:
        source: a file, or the bytes of one.
        name: what to call the image in an error, where ``source`` is bytes.
        most_pixels: an image of more is refused before it is decoded.

    Raises:
        InputError: missing, empty, truncated, not an image, or of more than ``most_pixels`` pixels.
    """
    if not isinstance(source, bytes):
        with watched(Path(source)):
            return _decoded(_readable(Path(source)), source if name is None else name, most_pixels, _rgb)
    return _decoded(io.BytesIO(source), "image" if name is None else name, most_pixels, _rgb)


def to_rgb(picture: Picture) -> Image.Image:
    """Any picture as ``open_image`` gives it: a file by its path, an image of Pillow's of any mode, or an array.

    What is decoded already is not turned: points of it are in its own pixels. Arrays are (H, W) or (H, W, C), tensors
    (C, H, W), with 1 to 4 channels (grey, grey and alpha, RGB, RGBA): bool, 8 or 16 bits, or numbers in [0, 1].

    >>> to_rgb(np.full((2, 3), 65535, np.uint16)).getpixel((0, 0))
    (255, 255, 255)

    Raises:
        InputError: as ``open_image``; or an array of another form.
    """
    if isinstance(picture, (str, Path)):
        return open_image(picture)
    if isinstance(picture, Image.Image):
        picture.load()
        return _rgb(picture)
    if hasattr(picture, "detach"):  # a tensor, without importing torch
        tensor = picture.detach().cpu()
        picture = (tensor.permute(1, 2, 0) if tensor.ndim == 3 else tensor).numpy()
    return _rgb(_of_array(np.asarray(picture)))


def open_mask(path: Path) -> Image.Image:
    """Open an image as ``open_image`` does, upright, but in the mode it is stored in.

    Raises:
        InputError: as ``open_image``.
    """
    with watched(path):
        return _decoded(_readable(path), path, MAX_PIXELS, lambda image: image.copy())


def _decoded(
    file: io.BytesIO | Path, where: object, most_pixels: int, convert: Callable[[Image.Image], Image.Image]
) -> Image.Image:
    try:
        with (  # By its path Pillow would map a plain TIFF into memory, and scramble one that it turns.
            open(file, "rb") if isinstance(file, Path) else file as stream,
            _quiet(),
            Image.open(stream, formats=_known_formats()) as image,
        ):
            width, height = image.size
            if width * height > most_pixels:
                raise Image.DecompressionBombError
            if image.format in ("JPEG", "MPO") and _scans(file) > MOST_SCANS:
                raise ValueError(f"it has more than {MOST_SCANS} scans, which looks like a decompression bomb")
            orientation_of(image)  # read before what may hold it too is dropped
            for name in XMP if image.format == "TIFF" else ():  # which Pillow turns by itself; some cannot read XMP
                image.info.pop(name, None)
            image.load()
            return turned(convert(image), orientation_of(image))
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


def image_header(path: Path) -> Stored:
    """How an image is stored, as its header says; nothing is decoded, but for a PNG that holds more than pixels.

    Raises:
        InputError: missing, empty, not an image, or of more than ``MAX_PIXELS`` pixels.
    """
    try:
        with watched(path), _quiet(), Image.open(_readable(path), formats=_known_formats()) as image:
            width, height = _stored_size(image)
            if width * height > MAX_PIXELS:
                raise InputError(f"has too many pixels to be decoded safely (the most is {MAX_PIXELS:,})", where=path)
            plain = image.format == "PNG" and not _has_notes(path)  # of which Pillow decodes all to look for EXIF
            return Stored(width, height, UPRIGHT if plain else orientation_of(image))
    except InputError:
        raise
    except Image.UnidentifiedImageError as error:
        raise InputError("is not an image that can be read", where=path) from error
    except Exception as error:  # a decoder given malformed bytes may raise anything at all
        raise InputError(f"is damaged ({error or type(error).__name__})", where=path) from error


def _stored_size(image: Image.Image) -> tuple[int, int]:
    tags = getattr(image, "tag_v2", {})  # of a TIFF, whose size newer versions of Pillow give as it will be turned
    return (tags[TIFF_WIDTH], tags[TIFF_HEIGHT]) if TIFF_WIDTH in tags and TIFF_HEIGHT in tags else image.size


def _has_notes(path: Path) -> bool:
    """Whether a PNG has a chunk that may hold an orientation: EXIF or text, before or after its pixels."""
    with open(path, "rb") as file:
        file.seek(8)
        while len(head := file.read(8)) == 8:
            if head[4:] in (b"eXIf", b"tEXt", b"zTXt", b"iTXt"):
                return True
            file.seek(int.from_bytes(head[:4], "big") + 4, io.SEEK_CUR)
    return False


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


def _of_array(values: NDArray[Any]) -> Image.Image:
    if values.ndim == 3 and values.shape[2] == 1:
        values = values[:, :, 0]
    if values.ndim not in (2, 3) or (values.ndim == 3 and values.shape[2] not in (2, 3, 4)) or not values.size:
        raise InputError(
            f"an array of shape {values.shape} is no image",
            fix="Give (H, W), or (H, W, C) of 1 to 4 channels; of a tensor (C, H, W).",
        )
    low, high = values.min(), values.max()
    if values.dtype == np.uint16:
        values = np.rint(values / 257)
    elif values.dtype.kind == "b" or (values.dtype.kind == "f" and low >= 0 and high <= 1):
        values = np.rint(values.astype(np.float64) * 255)
    elif not (values.dtype.kind in "iu" and low >= 0 and high <= 255):
        raise InputError(
            f"an array of {values.dtype} from {low} to {high} is no image",
            fix="Give 8 or 16 bits a channel, or numbers between 0 and 1.",
        )
    return Image.fromarray(values.astype(np.uint8))


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
