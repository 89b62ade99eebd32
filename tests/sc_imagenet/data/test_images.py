"""Any image file becomes RGB, or one line says why not."""

from __future__ import annotations

import io
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from sc_imagenet.core.errors import InputError
from sc_imagenet.data.images import open_image


def saved(folder: Path, image: Image.Image, name: str, **options) -> Path:
    path = folder / name
    image.save(path, **options)
    return path


def huge_png(path: Path, side: int) -> Path:
    """A valid header of side x side pixels and no pixels: opening must be refused before decoding."""

    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    header = struct.pack(">IIBBBBB", side, side, 8, 0, 0, 0, 0)
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", b"") + chunk(b"IEND", b""))
    return path


@pytest.mark.parametrize(
    ("image", "name", "expected"),
    [
        (Image.new("L", (4, 3), 77), "grey.png", (77, 77, 77)),
        (Image.new("1", (4, 3), 1), "bit.png", (255, 255, 255)),
        (Image.new("RGB", (4, 3), (10, 20, 30)), "colour.png", (10, 20, 30)),
        (Image.new("RGBA", (4, 3), (10, 20, 30, 0)), "clear.png", (255, 255, 255)),
        (Image.new("RGBA", (4, 3), (0, 0, 0, 255)), "solid.png", (0, 0, 0)),
        (Image.new("LA", (4, 3), (0, 0)), "grey_clear.png", (255, 255, 255)),
        (Image.new("RGB", (4, 3), (200, 0, 0)).quantize(4), "palette.png", (200, 0, 0)),
        (Image.fromarray(np.full((3, 4), 257 * 100, np.uint16)), "sixteen.png", (100, 100, 100)),
        (Image.fromarray(np.full((3, 4), 65535, np.uint16)), "sixteen.tif", (255, 255, 255)),
    ],
)
def test_every_mode_becomes_rgb_of_the_same_colour(tmp_path, image, name, expected):
    opened = open_image(saved(tmp_path, image, name))
    assert opened.mode == "RGB"
    assert opened.size == (4, 3)
    assert opened.getpixel((2, 1)) == expected


def test_palette_transparency_is_laid_over_white(tmp_path):
    image = Image.new("P", (4, 3), 0)
    image.putpalette([0, 0, 0, 9, 9, 9])
    image.putpixel((0, 0), 1)
    opened = open_image(saved(tmp_path, image, "p.png", transparency=0))
    assert opened.getpixel((2, 2)) == (255, 255, 255)
    assert opened.getpixel((0, 0)) == (9, 9, 9)


def test_cmyk_becomes_rgb(tmp_path):
    opened = open_image(saved(tmp_path, Image.new("CMYK", (8, 8), (0, 255, 255, 0)), "c.jpg"))
    red, green, blue = opened.getpixel((4, 4))
    assert opened.mode == "RGB"
    assert red > 200
    assert max(green, blue) < 50


def test_float_image_is_stretched(tmp_path):
    values = np.linspace(-2, 3, 12, dtype=np.float32).reshape(3, 4)
    opened = np.asarray(open_image(saved(tmp_path, Image.fromarray(values), "f.tif")))
    assert opened.min() == 0
    assert opened.max() == 255


def test_float_image_with_nan_is_refused(tmp_path):
    path = saved(tmp_path, Image.fromarray(np.full((3, 4), np.nan, np.float32)), "nan.tif")
    with pytest.raises(InputError, match=r"nan\.tif: is damaged.*not finite"):
        open_image(path)


def test_bytes_are_opened_and_named(tmp_path):
    content = saved(tmp_path, Image.new("RGB", (5, 1)), "line.png").read_bytes()
    assert open_image(content).size == (5, 1)
    with pytest.raises(InputError, match=r"^row 3: "):
        open_image(content[:20], name="row 3")


def test_opened_image_outlives_its_file(tmp_path):
    path = saved(tmp_path, Image.new("RGB", (5, 4), "blue"), "gone.png")
    opened = open_image(path)
    path.unlink()
    assert opened.getpixel((0, 0)) == (0, 0, 255)


def noise_jpeg() -> bytes:
    buffer = io.BytesIO()
    pixels = np.random.default_rng(0).integers(0, 255, (64, 64, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(buffer, "JPEG")
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", r"is empty \(0 bytes\)"),
        (b"not an image at all", "is not an image"),
        (noise_jpeg()[:900], "is damaged|is not an image"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\n", "is not an image"),
    ],
)
def test_bad_files_give_one_line(tmp_path, content, message):
    path = tmp_path / "bad.jpg"
    path.write_bytes(content)
    with pytest.raises(InputError, match=message) as caught:
        open_image(path)
    assert str(caught.value).startswith(str(path))
    assert "\n" not in str(caught.value)


def test_missing_file_folder_and_impossible_name(tmp_path):
    with pytest.raises(InputError, match="no such image"):
        open_image(tmp_path / "nothing.png")
    with pytest.raises(InputError, match="is not a file"):
        open_image(tmp_path)
    with pytest.raises(InputError):
        open_image("zero\0byte.png")
    with pytest.raises(InputError):
        open_image("x" * 5000)


@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
@pytest.mark.parametrize("side", [14_000, 50_000])
def test_huge_image_is_refused_before_decoding(tmp_path, side):
    with pytest.raises(InputError, match="too many pixels"):
        open_image(huge_png(tmp_path / "huge.png", side))
