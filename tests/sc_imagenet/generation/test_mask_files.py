"""Masks of every convention say the same, and what is no mask is told by its reason."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from sc_imagenet.core.errors import InputError
from sc_imagenet.data.orientation import Stored, turned
from sc_imagenet.generation.features import Features
from sc_imagenet.generation.mask_files import ALPHA, LABELS, LEVELS, TURNED, TWO, UNSURE, object_of, read_mask
from sc_imagenet.generation.photographs import Photograph, scan_photographs
from sc_imagenet.generation.saliency import open_saliency

SIZE = (48, 36)
OBJECT = np.zeros(SIZE[::-1], bool)
OBJECT[5:20, 10:24] = True
PHOTOGRAPH = Photograph("cat/a.jpg", "cat", "0", *SIZE)


def photograph_pixels(size: tuple[int, int] = SIZE) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (size[1], size[0], 3), np.uint8)


def of_levels(low, high, kind=np.uint8) -> Image.Image:
    return Image.fromarray(np.where(OBJECT, high, low).astype(kind))


def palette(indices: np.ndarray, colours: dict[int, tuple[int, int, int]]) -> Image.Image:
    image = Image.fromarray(indices.astype(np.uint8)).convert("P")
    image.putdata(indices.astype(np.uint8).ravel().tolist())
    flat = [0] * 768
    for index, colour in colours.items():
        flat[3 * index : 3 * index + 3] = colour
    image.putpalette(flat)
    return image


def cut_out(mode: str) -> Image.Image:
    rgba = np.dstack([np.where(OBJECT[..., None], 60, 0) + 0 * photograph_pixels(), np.where(OBJECT, 255, 0)])
    rgba[..., :3] += np.where(OBJECT[..., None], photograph_pixels() // 2, 0)
    return Image.fromarray(rgba.astype(np.uint8)).convert(mode)


def in_colours(background, thing, border=None) -> Image.Image:
    pixels = np.zeros((*OBJECT.shape, 3), np.uint8)
    pixels[:] = background
    pixels[OBJECT] = thing
    if border is not None:
        pixels[4, 9:25] = border
    return Image.fromarray(pixels)


INDICES = np.where(OBJECT, 15, 0)
VOC = np.where(OBJECT, 15, 0)
VOC[4, 9:25] = 255
CONVENTIONS = {
    "rembg": (cut_out("RGBA"), ALPHA),
    "grey cut-out": (cut_out("LA"), ALPHA),
    "black on transparent": (Image.merge("LA", [Image.new("L", SIZE), of_levels(0, 255)]), ALPHA),
    "black and white": (of_levels(0, 255), LEVELS),
    "bits": (Image.fromarray(OBJECT), LEVELS),
    "opaque with alpha": (of_levels(0, 255).convert("RGBA"), LEVELS),
    "in RGB": (of_levels(0, 255).convert("RGB"), LEVELS),
    "16 bits": (of_levels(0, 65535, np.uint16), LEVELS),
    "float": (of_levels(0, 1, np.float32), LEVELS),
    "0 and 1": (of_levels(0, 1), TWO),
    "0 and 1 in RGB": (of_levels(0, 1).convert("RGB"), TWO),
    "0 and 1 in 16 bits": (of_levels(0, 1, np.uint16), TWO),
    "0 and 1 in 32 bits": (of_levels(0, 1, np.int32), TWO),
    "0 and 128": (of_levels(0, 128), TWO),
    "grey palette": (of_levels(0, 1).convert("P"), TWO),
    "white first in the palette": (palette(~OBJECT, {0: (255, 255, 255), 1: (0, 0, 0)}), LEVELS),
    "labels": (Image.fromarray(np.where(OBJECT, np.arange(SIZE[0])[None] % 2 + 1, 0).astype(np.uint8)), LABELS),
    "palette": (palette(INDICES, {0: (0, 0, 0), 15: (192, 128, 128)}), LABELS),
    "VOC": (palette(VOC, {0: (0, 0, 0), 15: (192, 128, 128), 255: (224, 224, 192)}), LABELS),
    "0 and 255 of a palette": (palette(np.where(OBJECT, 255, 0), {0: (0, 0, 0), 255: (255, 0, 0)}), LABELS),
    "colours": (in_colours((0, 0, 0), (192, 128, 128), (224, 224, 192)), LABELS),
}


@pytest.mark.parametrize("name", CONVENTIONS)
def test_every_convention_gives_the_same_object(tmp_path, name):
    image, convention = CONVENTIONS[name]
    kind = "TIFF" if image.mode in ("F", "I") else "PNG"
    image.save(tmp_path / "mask", kind)
    mask = read_mask(tmp_path / "mask", PHOTOGRAPH, tmp_path)
    assert mask.notes == (convention,)
    assert np.array_equal(mask.values, OBJECT.astype(np.float32))


def test_a_soft_mask_keeps_its_levels():
    ramp = np.tile(np.linspace(0, 255, 40).astype(np.uint8), (36, 1))
    for image in (Image.fromarray(ramp), Image.fromarray(ramp).convert("RGB"), Image.fromarray(ramp // 4)):
        values, convention = object_of(image)
        assert convention == LEVELS
        assert values == pytest.approx(np.asarray(image.convert("L")) / 255)


def test_masks_of_nothing_are_empty():
    for image in (Image.new("RGBA", SIZE, (0, 0, 0, 0)), Image.new("L", SIZE), Image.new("1", SIZE)):
        assert object_of(image)[0].max() == 0


@pytest.mark.parametrize(
    ("image", "reason"),
    [
        (Image.fromarray(photograph_pixels()), r"is a picture of 1,7\d\d colours, not a mask"),
        (Image.fromarray(photograph_pixels()).quantize(200), r"is a picture of \d+ colours, not a mask"),
        (of_levels(2, 1), "none is the background"),
        (in_colours((0, 0, 255), (255, 0, 0)), "none is the background"),
        (of_levels(-1, 1, np.float32), "values below 0"),
        (Image.new("L", (36, 36)), "has 36 x 36 pixels, which are not the proportions of its photograph of 48 x 36"),
        (Image.new("L", (36, 48)), "has 36 x 48 pixels, which are not the proportions"),
    ],
)
def test_what_cannot_be_a_mask_is_told_by_its_reason(tmp_path, image, reason):
    image.save(tmp_path / "mask.tif")
    with pytest.raises(InputError, match=rf"mask\.tif: .*{reason}"):
        read_mask(tmp_path / "mask.tif", PHOTOGRAPH, tmp_path)


def test_a_smaller_mask_of_the_same_proportions_is_taken(tmp_path):
    Image.fromarray(OBJECT).resize((16, 12)).save(tmp_path / "mask.png")
    assert read_mask(tmp_path / "mask.png", PHOTOGRAPH, tmp_path).values.shape == (12, 16)


@pytest.fixture
def photographs(tmp_path):
    """A class of eight photographs, one of each orientation, upright alike in shape; the folder and its scan."""
    for orientation in range(1, 9):
        exif = Image.Exif()
        exif[0x0112] = orientation
        image = Image.fromarray(photograph_pixels(Stored(*SIZE, orientation).size))
        image.putpixel((0, 0), (orientation, 0, 0))
        (tmp_path / "photographs" / "cat").mkdir(parents=True, exist_ok=True)
        image.save(tmp_path / "photographs" / "cat" / f"{orientation}.png", exif=exif)
    return scan_photographs(tmp_path / "photographs", fewest=1)


def lying(orientation: int) -> Image.Image:
    """The mask as a program writes it that knows nothing of EXIF."""
    mask = Image.fromarray(OBJECT.astype(np.uint8) * 255)
    inverse = {6: 8, 8: 6}.get(orientation, orientation)
    return turned(mask, inverse)


@pytest.mark.parametrize("way", ["upright", "stored", "with EXIF of its own"])
def test_masks_of_turned_photographs_are_upright_however_they_lie(tmp_path, photographs, way):
    (tmp_path / "masks" / "cat").mkdir(parents=True)
    rows = photographs.classes["cat"]
    assert [(each.width, each.height) for each in rows] == [SIZE] * 8
    for row in rows:
        exif = Image.Exif()
        exif[0x0112] = row.orientation
        mask = lying(row.orientation if way != "upright" else 1)
        options = {"exif": exif} if way == "with EXIF of its own" else {}
        mask.save(tmp_path / "masks" / "cat" / f"{row.orientation}.png", **options)
    across = [row for row in rows if row.orientation >= 5]
    told = rows if way != "stored" else [rows[0], *across]  # a mask upside down has the same proportions
    saliency = open_saliency(str(tmp_path / "masks"))
    masks = saliency.masks(photographs.root, told, Features(torch.zeros(len(told), 4, 36, 48), torch.zeros(1, 4)))
    assert torch.equal(masks, torch.from_numpy(OBJECT).float().expand(len(told), -1, -1))
    notes = saliency.notes(photographs.root, told)
    assert (
        notes
        == {
            "upright": {LEVELS: 8, UNSURE: 3},
            "stored": {LEVELS: 5, TURNED: 4},
            "with EXIF of its own": {LEVELS: 8, UNSURE: 3},
        }[way]
    )


def test_the_folder_of_photographs_is_not_taken_for_masks(photographs):
    with pytest.raises(InputError, match=r"cat/1\.png: is the photograph itself, not a mask of it"):
        open_saliency(str(photographs.root)).masks(
            photographs.root, photographs.classes["cat"], Features(torch.zeros(8, 4, 3, 4), torch.zeros(8, 4))
        )


def test_a_mask_named_after_the_whole_name_of_its_image_is_preferred(tmp_path):
    (tmp_path / "cat").mkdir()
    Image.new("L", SIZE, 0).save(tmp_path / "cat" / "a.png")  # of a photograph a.png beside a.jpg
    Image.new("L", SIZE, 255).save(tmp_path / "cat" / "a.jpg.png")
    features = Features(torch.zeros(1, 4, 3, 4), torch.zeros(1, 4))
    assert open_saliency(str(tmp_path)).masks(Path(), [PHOTOGRAPH], features).min() == 1


def test_what_is_seen_in_a_photograph_is_known_by_its_bytes_and_whether_it_is_turned():
    digest = hashlib.sha256(b"").hexdigest()
    assert Photograph("a", "cat", digest, 1, 2).content == digest
    assert Photograph("a", "cat", digest, 2, 1, orientation=6).content != digest
