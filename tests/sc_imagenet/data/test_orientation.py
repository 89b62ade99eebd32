"""Photographs that EXIF turns: whoever opens one finds every point on its mark."""

from __future__ import annotations

import io
import json
import shutil
from pathlib import Path

import datasets
import numpy as np
import pytest
import torch
from PIL import Image
from scipy import ndimage

from benchmark.commands.data import picture_of_pairs
from benchmark.report.pictures import PairImages
from sc_imagenet.core.errors import InputError
from sc_imagenet.data.drawing import PALETTE
from sc_imagenet.data.images import image_header, open_image
from sc_imagenet.data.load import load_dataset, manifest_sha256
from sc_imagenet.data.orientation import Stored
from sc_imagenet.data.pairs import PairDataset
from sc_imagenet.data.verify import verify
from tests.sc_imagenet import made_data

ORIENTATIONS = range(1, 9)
FORMATS = [name for name in ("JPEG", "PNG", "WEBP", "TIFF", "AVIF") if name in Image.registered_extensions().values()]
SIZE = (48, 32)  # as stored
MARKS = {(4, 4): (255, 0, 0), (36, 4): (0, 255, 0), (20, 20): (0, 0, 255)}  # corners of squares as stored, and colours
SIDE = 8
OPTIONS = {"JPEG": {"quality": 95, "subsampling": 0}, "WEBP": {"lossless": True}, "AVIF": {"quality": 95}}


def marked(path: Path, kind: str, orientation: int | None, **options: object) -> Path:
    """A photograph with three coloured squares, stored as a camera held so would store it."""
    image = Image.new("RGB", SIZE, (128, 128, 128))
    for (left, top), colour in MARKS.items():
        image.paste(colour, (left, top, left + SIDE, top + SIDE))
    if orientation is not None:
        exif = Image.Exif()
        exif[0x0112] = orientation
        options["exif"] = exif
    path.parent.mkdir(parents=True, exist_ok=True)
    image.save(path, kind, **OPTIONS.get(kind, {}), **options)
    return path


def middles() -> list[list[int]]:
    return [[left + SIDE // 2, top + SIDE // 2] for left, top in MARKS]


def colours_at(image: Image.Image, points: object) -> list[str]:
    """The brightest channel of the pixels at points: which mark each is on."""
    found = []
    for x, y in np.asarray(points).round().astype(int).tolist():
        pixel = image.convert("RGB").getpixel((x, y))
        assert max(pixel) - sorted(pixel)[1] > 100, f"no mark at {x}, {y}"
        found.append("RGB"[int(np.argmax(pixel))])
    return found


@pytest.mark.parametrize("kind", FORMATS)
@pytest.mark.parametrize("orientation", ORIENTATIONS)
def test_the_decoder_the_header_the_points_and_datasets_agree_on_every_orientation(tmp_path, kind, orientation):
    path = marked(tmp_path / "a", kind, orientation)
    stored, image = image_header(path), open_image(path)
    assert (stored.stored_size, stored.orientation) == (SIZE, orientation)
    assert stored.size == image.size == (SIZE if orientation < 5 else SIZE[::-1])
    points = stored.upright(middles())
    assert colours_at(image, points) == ["R", "G", "B"]
    assert stored.as_stored(points) == middles()
    assert stored.as_stored_box(stored.upright_box([1, 2, 30, 20])) == [1, 2, 30, 20]
    theirs = datasets.Image().decode_example({"path": str(path), "bytes": None})
    assert np.array_equal(np.asarray(theirs.convert("RGB")), np.asarray(image))


def test_a_corner_pixel_of_every_orientation_goes_to_a_corner_pixel():
    for orientation in ORIENTATIONS:
        stored = Stored(5, 3, orientation)
        width, height = stored.size
        corners = stored.upright([[0, 0], [4, 0], [0, 2], [4, 2]])
        assert sorted(corners) == [[0, 0], [0, height - 1], [width - 1, 0], [width - 1, height - 1]]


@pytest.mark.parametrize("kind", [kind for kind in FORMATS if kind != "AVIF"])
def test_xmp_that_is_not_unicode_says_nothing_about_the_pixels(tmp_path, kind):
    if kind == "PNG":
        path = marked(tmp_path / "a", kind, 6)
    elif kind == "TIFF":
        path = marked(tmp_path / "a", kind, 6, tiffinfo={700: b"<x:xmpmeta \xff\xfe\x80>"})
    else:
        path = marked(tmp_path / "a", kind, 6, xmp=b"<x:xmpmeta \xff\xfe\x80>")
    assert colours_at(open_image(path), image_header(path).upright(middles())) == ["R", "G", "B"]


@pytest.mark.parametrize("mode", ["L", "P", "I;16", "RGBA", "CMYK", "RGB", "1", "F"])
def test_a_plain_tiff_of_any_mode_is_turned(tmp_path, mode):
    image = Image.new("L", SIZE)
    image.paste(255, (4, 4, 12, 12))
    exif = Image.Exif()
    exif[0x0112] = 6
    image = Image.fromarray(np.asarray(image).astype(np.uint16) * 257) if mode == "I;16" else image.convert(mode)
    image.save(tmp_path / "a.tif", exif=exif)
    expected = Image.new("L", SIZE[::-1])
    expected.paste(255, (SIZE[1] - 12, 4, SIZE[1] - 4, 12))
    assert np.array_equal(np.asarray(open_image(tmp_path / "a.tif").convert("L")), np.asarray(expected))


def test_a_png_whose_orientation_comes_after_its_pixels_is_turned(tmp_path):
    content = marked(tmp_path / "a", "PNG", 6).read_bytes()
    start = content.index(b"eXIf") - 4
    end = start + int.from_bytes(content[start : start + 4], "big") + 12
    tail = content.index(b"IEND") - 4
    (tmp_path / "b").write_bytes(content[:start] + content[end:tail] + content[start:end] + content[tail:])
    assert image_header(tmp_path / "b") == Stored(*SIZE, 6)
    assert open_image(tmp_path / "b").size == SIZE[::-1]


@pytest.fixture
def spair(tmp_path, own_caches):
    """SPair-71k's layout with eight pairs, each from an image of another orientation to one that is not turned."""
    root = tmp_path / "spair-71k"
    lines = [f"{number:06d}-2008_{number:06d}-2008_000009:cat" for number in ORIENTATIONS]
    for folder in ("trn", "val", "test"):
        lists = root / "Layout" / "large" / f"{folder}.txt"
        lists.parent.mkdir(parents=True, exist_ok=True)
        lists.write_text("\n".join(lines))
        for line in lines:
            path = root / "PairAnnotation" / folder / f"{line}.json"
            path.parent.mkdir(parents=True, exist_ok=True)
            boxes = {"src_bndbox": [4, 4, 43, 27], "trg_bndbox": [4, 4, 43, 27]}
            path.write_text(json.dumps(made_data.annotation("cat", src_kps=middles(), trg_kps=middles(), **boxes)))
    for number in (*ORIENTATIONS, 9):
        kind = FORMATS[number % len(FORMATS)]
        marked(root / "JPEGImages" / "cat" / f"2008_{number:06d}.jpg", kind, number if number < 9 else None)
    return root


def as_images(rows):
    return [(row["source"], row["source_points"], row["target"], row["target_points"]) for row in rows]


def as_tensors(rows):
    return [
        (
            Image.fromarray(row["source"].permute(1, 2, 0).numpy()),
            row["source_points"],
            Image.fromarray(row["target"].permute(1, 2, 0).numpy()),
            row["target_points"],
        )
        for row in rows.with_format("torch")
    ]


def as_arrays(rows):
    return [
        (Image.fromarray(row["source"]), row["source_points"], Image.fromarray(row["target"]), row["target_points"])
        for row in rows.with_format("numpy")
    ]


def saved(rows, folder):
    rows.save_to_disk(folder / "saved")
    return as_images(datasets.load_from_disk(folder / "saved"))


def in_parquet(rows, folder):
    rows.to_parquet(folder / "rows.parquet")
    files = str(folder / "rows.parquet")
    return as_images(datasets.load_dataset("parquet", data_files=files, split="train", cache_dir=folder / "hf"))


def embedded(rows):
    """As ``push_to_hub`` uploads them: with the files' bytes."""
    whole = rows.with_format("arrow").map(datasets.table.embed_table_storage, batched=True).with_format(None)
    images = whole.cast_column("source", datasets.Image(decode=False))
    assert all(row["source"]["bytes"] for row in images)
    return as_images(whole.cast_column("source", datasets.Image()).cast_column("target", datasets.Image()))


@pytest.mark.parametrize(
    "way",
    [
        "rows",
        "again",
        "streamed",
        "torch",
        "numpy",
        "mapped",
        "decoded",
        "processes",
        "cast",
        "saved",
        "parquet",
        "embedded",
    ],
)
def test_points_lie_on_their_marks_however_rows_are_read(spair, tmp_path, way):
    rows = load_dataset("spair-71k", split="test", root=spair, streaming=way == "streamed")
    read = {
        "rows": lambda: as_images(rows),
        "again": lambda: as_images(load_dataset("spair-71k", split="test", root=spair)),
        "streamed": lambda: as_images(rows),
        "torch": lambda: as_tensors(rows),
        "numpy": lambda: as_arrays(rows),
        "mapped": lambda: as_images(rows.map(lambda row: {"wide": row["source"].width})),
        "decoded": lambda: as_images(rows.map(lambda row: {"source": row["source"], "target": row["target"].copy()})),
        "processes": lambda: as_images(rows.map(lambda row: {"wide": row["source"].width}, num_proc=2)),
        "cast": lambda: as_images(rows.cast_column("source", datasets.Image()).cast_column("target", datasets.Image())),
        "saved": lambda: saved(rows, tmp_path),
        "parquet": lambda: in_parquet(rows, tmp_path),
        "embedded": lambda: embedded(rows),
    }[way]()
    assert len(read) == 8
    for source, source_points, target, target_points in read:
        assert colours_at(source, source_points) == colours_at(target, target_points) == ["R", "G", "B"]


def test_sizes_and_boxes_are_those_of_the_upright_image(spair):
    for row in load_dataset("spair-71k", split="test", root=spair):
        assert row["source_size"] == list(row["source"].size)
        left, top, right, bottom = row["source_bbox"]
        points = np.array(row["source_points"])
        assert [points[:, 0].min() - left, points[:, 1].min() - top] == pytest.approx([4, 4], abs=1)
        assert [right - points[:, 0].max(), bottom - points[:, 1].max()] == pytest.approx([4, 4], abs=1)


def test_models_are_given_images_and_points_that_agree(spair):
    rows = load_dataset("spair-71k", split="test", root=spair)
    pairs = PairDataset(rows, 192, (0.0,) * 3, (1.0,) * 3)
    for item in (pairs[index] for index in range(8)):
        for side in ("source", "target"):
            image = Image.fromarray((item[side] * 255).byte().permute(1, 2, 0).numpy())
            assert colours_at(image, item[f"{side}_points"]) == ["R", "G", "B"]


def test_verify_finds_no_point_outside_and_pictures_show_points_on_their_marks(spair):
    report = verify("spair-71k", "test", spair)
    assert not report.damaged
    images = PairImages("spair-71k", "test", spair)
    for row in load_dataset("spair-71k", split="test", root=spair):
        source, target = images.of(row["pair_id"])
        assert colours_at(source, row["source_points"]) == colours_at(target, row["target_points"]) == ["R", "G", "B"]


def test_data_show_draws_points_on_their_marks(spair):
    picture, drawn = picture_of_pairs("spair-71k", 8, root=str(spair))
    assert drawn == 8
    pixels = np.asarray(picture.convert("RGB"), int)
    ring = [(round(24 * np.cos(angle)), round(24 * np.sin(angle))) for angle in np.arange(16) * np.pi / 8]
    for channel, colour in enumerate(PALETTE[:3]):
        near = ndimage.binary_fill_holes(np.abs(pixels - colour).max(2) < 20)
        discs, count = ndimage.label(ndimage.binary_erosion(near, iterations=3))
        assert count == 16  # lines are too thin to be left
        for y, x in ndimage.center_of_mass(discs, discs, range(1, count + 1)):
            around = [pixels[round(y) + down, round(x) + right] for right, down in ring]
            assert np.median(around, 0)[channel] > 200  # a disc lies in the middle of its mark, which is wider


def test_the_manifest_is_that_of_the_annotations_whether_images_are_turned_or_not(spair, tmp_path):
    plain = shutil.copytree(spair, tmp_path / "plain")
    for number in ORIENTATIONS:
        marked(plain / "JPEGImages" / "cat" / f"2008_{number:06d}.jpg", "PNG", None)
    (plain / "JPEGImages").touch()  # by whose date a change of the images is noticed
    assert manifest_sha256("spair-71k", "test", plain) == manifest_sha256("spair-71k", "test", spair)
    first, turned = (load_dataset("spair-71k", split="test", root=root)[5] for root in (plain, spair))
    assert first["source_points"] != turned["source_points"]


def test_a_size_that_was_recorded_of_another_image_is_said(spair):
    rows = load_dataset("spair-71k", split="test", root=spair)
    Image.new("RGB", SIZE).save(spair / "JPEGImages" / "cat" / "2008_000006.jpg")  # no longer turned
    with pytest.raises(InputError, match=r"2008_000006\.jpg: is 48 x 32 pixels, the points of pair .* are for 32 x 48"):
        PairDataset(rows, 64, (0.0,) * 3, (1.0,) * 3)[5]


@pytest.mark.parametrize("mode", ["RGBA", "LA", "CMYK", "P", "1", "I;16"])
def test_rows_of_every_mode_are_rgb(spair, mode):
    path = spair / "JPEGImages" / "cat" / "2008_000001.jpg"
    whole = open_image(path)
    image = Image.fromarray(np.asarray(whole.convert("L"), np.uint16) * 257) if mode == "I;16" else whole.convert(mode)
    image.save(path, "TIFF" if mode == "CMYK" else "PNG")
    row = load_dataset("spair-71k", split="test", root=spair)[0]
    assert (row["source"].mode, row["source"].size) == ("RGB", SIZE)
    assert np.array_equal(np.asarray(row["source"]), np.asarray(open_image(path)))


def test_bytes_and_paths_are_one_image(tmp_path):
    path = marked(tmp_path / "a.jpg", "JPEG", 6)
    assert np.array_equal(np.asarray(open_image(path)), np.asarray(open_image(path.read_bytes())))
    buffer = io.BytesIO()
    open_image(path).save(buffer, "PNG")  # what was turned once is not turned again
    assert open_image(buffer.getvalue()).size == SIZE[::-1]
    assert torch.from_numpy(np.array(open_image(path))).shape == (SIZE[0], SIZE[1], 3)
