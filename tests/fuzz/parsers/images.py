"""Images of every format that is read."""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Sequence
from pathlib import Path
from random import Random

import numpy as np
from PIL import Image

from sc_imagenet.data.images import open_image
from sc_imagenet.data.shard_writing import image_sizes
from tests.fuzz.mutations import WHOLE, spoilt_bytes
from tests.fuzz.parser import Parser


def _image(content: bytes, folder: Path) -> None:
    path = folder / "image"
    path.write_bytes(content)
    stored = image_sizes(folder, ["image"], 1)["image"]
    image = open_image(path)
    assert image.mode == "RGB"
    assert not isinstance(stored, str), f"decoded although its header says {stored}"
    assert stored.size == image.size
    np.asarray(image)


def _seeds(kind: str) -> list[bytes]:
    ramp = np.arange(24 * 16 * 3, dtype=np.uint8).reshape(16, 24, 3)
    pictures = [Image.fromarray(ramp)]
    if kind in ("PNG", "TIFF"):
        pictures += [
            Image.fromarray(ramp.astype(np.uint16)[:, :, 0] * 257),
            Image.fromarray(np.dstack([ramp, ramp[:, :, :1]])),
            pictures[0].convert("P"),
            pictures[0].convert("1"),
        ]
    if kind == "TIFF":
        pictures += [Image.fromarray(ramp[:, :, 0].astype(np.float32))]
    if kind == "JPEG":
        pictures += [pictures[0].convert("L"), pictures[0].convert("CMYK")]
    found = []
    for number, picture in enumerate(pictures):
        file = io.BytesIO()
        options = {"progressive": True} if kind == "JPEG" and number == 1 else {}
        exif = Image.Exif()
        exif[0x0112] = 6
        if kind in ("JPEG", "PNG", "WEBP", "TIFF"):
            options["exif"] = exif.tobytes()  # type: ignore[assignment]
        picture.save(file, kind, **options)
        found.append(file.getvalue())
    return found


def _spoilt_png(rng: Random, seeds: Sequence[bytes]) -> bytes:
    """Chunks with other content under checksums that are right, so that the decoder sees them."""
    if rng.random() < 0.3:
        return spoilt_bytes(rng, seeds)
    content, place, chunks = rng.choice(seeds), 8, []
    while place + 12 <= len(content):
        (size,) = struct.unpack(">I", content[place : place + 4])
        chunks.append((content[place + 4 : place + 8], content[place + 8 : place + 8 + size]))
        place += size + 12
    number = rng.randrange(len(chunks))
    name, data = chunks[number]
    if name == b"IDAT" and rng.random() < 0.5:
        data = zlib.compress(spoilt_bytes(rng, [zlib.decompress(data)]))
    elif name == b"IHDR" and rng.random() < 0.7:
        width, height = rng.choice(WHOLE) % 2**32, rng.choice((1, 16, 50_000, rng.choice(WHOLE) % 2**32))
        data = (
            struct.pack(">II", width, height) + bytes([rng.choice((1, 8, 16)), rng.choice((0, 2, 3, 4, 6))]) + b"\0" * 3
        )
    else:
        data = spoilt_bytes(rng, [data or b"\0"])
    chunks[number] = (rng.choice((name, name, name, b"tRNS", b"zTXt", b"iCCP", b"acTL")), data)
    packed = [struct.pack(">I", len(d)) + n + d + struct.pack(">I", zlib.crc32(n + d)) for n, d in chunks]
    return content[:8] + b"".join(packed)


Image.init()
PARSERS = [
    Parser("image-png", lambda: _seeds("PNG"), _image, _spoilt_png, 5),
    Parser("image-jpeg", lambda: _seeds("JPEG"), _image, share=4),
    *(
        Parser(f"image-{kind.lower()}", lambda kind=kind: _seeds(kind), _image, share=1.5)  # type: ignore[misc]
        for kind in ("WEBP", "BMP", "GIF", "TIFF", "PPM", "JPEG2000", "AVIF")
        if kind in Image.SAVE  # AVIF came with Pillow 11.3
    ),
]
