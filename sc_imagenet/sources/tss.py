"""TSS (Taniai et al., CVPR 2016): dense flow between two objects, and their masks.

    {FG3DCar,JODS,PASCAL}/<pair>/image1.png image2.png flow1.flo flow2.flo mask1.png mask2.png

``flow2`` is defined on image2 and gives for each of its pixels the displacement to image1; ``flow1`` likewise. Each
pair is here twice: asked for is, for a pixel of the object in our *source*, its place in our *target*, where the error
is measured against the target's longer side. Of the object's pixels those on a grid of ``STEP`` pixels are points;
published numbers take every pixel.
"""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np
from PIL import Image

from sc_imagenet.core.errors import InputError, check_name
from sc_imagenet.core.locks import watched
from sc_imagenet.sources.source import Annotation, DataSet, Entry, Size, Source, lacking

PARTS = ("FG3DCar", "JODS", "PASCAL")
STEP = 8  # pixels between points
MARK = struct.pack("<f", 202021.25)  # at the beginning of a .flo file
LARGEST = 10_000  # pixels of a side
UNKNOWN = 1e9  # a displacement at least as long tells that there is none
WORDS = {"busd": "bus", "bike": "bicycle", "plane": "aeroplane", "suv": "car"}
CATEGORIES = (
    "aeroplane", "bicycle", "boat", "bus", "car", "cat", "cow", "dog", "horse", "motorbike", "sheep", "train",
)  # fmt: skip

DATA_SET = DataSet(
    name="tss",
    title="TSS",
    paper="Taniai et al., CVPR 2016",
    licence="none stated by its authors; offered for research",
    homepage="",
    splits=("test",),
    pairs={},
    images=None,
    classes=None,
    points="a grid over the object",
    threshold="img",
    manual=(
        "1. pip install gdown, then gdown 0B-VxeI7PlJE1U3FyTGVpbUFtcjg; unpack TSS_CVPR2016.zip as tss in your data "
        "root, so that tss/FG3DCar lies there."
    ),
    folders=("TSS", "TSS_CVPR2016"),
    layout=(
        "tss/{FG3DCar,JODS,PASCAL}/<pair>/image{1,2}.png\n"
        "tss/{FG3DCar,JODS,PASCAL}/<pair>/flow{1,2}.flo\n"
        "tss/{FG3DCar,JODS,PASCAL}/<pair>/mask{1,2}.png"
    ),
)


class Tss(Source):
    """TSS, each pair in both directions; a copy may hold one of its three parts alone."""

    name = "tss"
    outside = "keep"  # flow leads out of the image where the object does

    def missing(self, split: str) -> str | None:
        if any((self.root / part).is_dir() for part in PARTS):
            return None
        return lacking(self.root / PARTS[0])

    def categories(self) -> tuple[str, ...]:
        return tuple(sorted({*CATEGORIES, *(category for _, category in self._folders())}))

    def image_root(self) -> Path | None:
        return self.root

    def entries(self, split: str) -> list[Entry]:
        entries = []
        for folder, category in self._folders():
            for one, two in ((1, 2), (2, 1)):
                images = (f"{folder}/image{one}.png", f"{folder}/image{two}.png")
                pair_id = f"{folder.replace('/', '-')}-{one}-{two}"
                entries.append(Entry(pair_id, category, *images, (self.root / folder, one)))
        return entries

    def annotation(self, entry: Entry, source_size: Size | None, target_size: Size | None) -> Annotation:
        folder, number = entry.annotation
        where = folder / f"flow{number}.flo"
        flow = read_flow(where)
        mask = _mask(folder / f"mask{number}.png")
        height, width = mask.shape
        if flow.shape[:2] != mask.shape or (source_size is not None and source_size != (width, height)):
            sizes = f"the flow {flow.shape[1]} x {flow.shape[0]}, the mask {width} x {height}, its image {source_size}"
            raise InputError(f"pair {entry.pair_id}: {sizes}; they must be as large", where=where)
        rows, columns = np.nonzero(mask[STEP // 2 :: STEP, STEP // 2 :: STEP])
        points = np.stack([columns, rows], 1) * STEP + STEP // 2
        moved = flow[points[:, 1], points[:, 0]].astype(np.float64)
        known = np.isfinite(moved).all(1) & (np.abs(moved) < UNKNOWN).all(1)
        points, moved = points[known].astype(np.float64), moved[known]
        return Annotation(points.tolist(), (points + moved).tolist(), where)

    def fingerprint(self, split: str) -> tuple[list[Path], list[Path]]:
        return [], [self.root / part for part in PARTS if (self.root / part).is_dir()]

    def _folders(self) -> list[tuple[str, str]]:
        """The folder of each pair, below the root, and what it shows."""
        return [
            (f"{part}/{path.name}", category_of(part, path.name, path))
            for part in PARTS
            if (self.root / part).is_dir()
            for path in sorted((self.root / part).iterdir())
            if path.is_dir() and not path.name.startswith(".")
        ]


def category_of(part: str, folder: str, where: object = None) -> str:
    """What a pair shows: cars, or the first word of its folder.

    >>> category_of("JODS", "bike_01_02")
    'bicycle'
    """
    if part == "FG3DCar":
        return "car"
    word = "".join(letter if letter.isalpha() else " " for letter in folder).split()[:1]
    return check_name("class", WORDS.get(word[0].lower(), word[0].lower()) if word else folder, where)


def read_flow(path: Path) -> np.ndarray:
    """A .flo file: displacements (u, v) in pixels, float32 (height, width, 2).

    Raises:
        InputError: missing, cut, or of another kind.
    """
    try:
        with watched(path):
            content = path.read_bytes()
    except OSError as error:
        raise InputError(f"cannot be read ({error.strerror})", where=path) from error
    if content[:4] != MARK or len(content) < 12:
        raise InputError("is not a .flo file", where=path, fix="Get the file again.")
    width, height = struct.unpack_from("<2i", content, 4)
    if not (0 < width <= LARGEST and 0 < height <= LARGEST) or len(content) != 12 + 8 * width * height:
        raise InputError(
            f"has {len(content):,} bytes, not those of {width} x {height} pixels", where=path, fix="Get it again."
        )
    return np.frombuffer(content, "<f4", offset=12).reshape(height, width, 2)


def _mask(path: Path) -> np.ndarray:
    """Whether each pixel is the object's, (height, width)."""
    try:
        with watched(path), Image.open(path) as image:
            if max(image.size) > LARGEST:
                raise InputError("is too large to be a mask", where=path)
            return np.asarray(image.convert("L")) > 127
    except FileNotFoundError as error:
        raise InputError("no such file", where=path) from error
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise InputError(f"is not an image ({error})", where=path, fix="Get the file again.") from error
