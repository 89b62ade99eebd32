"""A data set generated from photographs that EXIF turns: every point lies where it was put, whoever reads it.

All photographs show the same once upright, and each pixel's colour says where it lies: red grows to the right, green
downwards. So what was put together is known (the same place), and so is where any pixel of any image belongs.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import benchmark.commands.data
from baselines.matcher import Matcher
from benchmark.commands.data import picture_of_pairs
from benchmark.report.pictures import PairImages
from benchmark.running.generate import export_release, generate_set
from benchmark.running.match import match
from sc_imagenet.data.images import open_image
from sc_imagenet.data.load import load_dataset
from sc_imagenet.data.orientation import turned
from sc_imagenet.data.pairs import PairDataset
from sc_imagenet.generation.options import GenerationOptions

SIZE = (96, 64)  # upright
OBJECT = (16, 8, 56, 40)  # which is neither in the middle nor square
FORMATS = [name for name in ("JPEG", "PNG", "WEBP", "TIFF", "AVIF") if name in Image.registered_extensions().values()]
OPTIONS = {"JPEG": {"quality": 95, "subsampling": 0}, "WEBP": {"quality": 95}, "AVIF": {"quality": 95}}


def scene(number: int) -> Image.Image:
    x, y = np.meshgrid(np.arange(SIZE[0]), np.arange(SIZE[1]))
    texture = np.random.default_rng(3).integers(0, 2, (8, 12)).repeat(8, 0).repeat(8, 1) * 200
    pixels = np.dstack([x * 255 / (SIZE[0] - 1), y * 255 / (SIZE[1] - 1), texture]).astype(np.uint8)
    pixels[0, 0, 2] = number  # no two files are the same
    return Image.fromarray(pixels)


def places(image: Image.Image, points: object) -> np.ndarray:
    """Where the pixels at points of an image belong in the upright scene, by their colours (K, 2)."""
    found = []
    for x, y in np.asarray(points, float).tolist():
        pixel = image.convert("RGB").getpixel((min(int(x), image.width - 1), min(int(y), image.height - 1)))
        found.append([pixel[0] * (SIZE[0] - 1) / 255, pixel[1] * (SIZE[1] - 1) / 255])
    return np.array(found)


def check(source: Image.Image, source_points: object, target: Image.Image, target_points: object) -> None:
    """The points of a pair lie on the same place of the scene, on the object, and their pixels say so."""
    first, second = np.asarray(source_points, float), np.asarray(target_points, float)
    assert np.abs(places(source, first) - first).max() < 3
    assert np.abs(places(target, second) - second).max() < 3
    assert np.abs(first - second).max() < 6
    left, top, right, bottom = OBJECT
    assert ((first >= (left - 6, top - 6)) & (first <= (right + 6, bottom + 6))).all()


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """The set, from a photograph of every orientation in every format."""
    import timm

    root = tmp_path_factory.mktemp("phone")
    (root / "photographs" / "scene").mkdir(parents=True)
    (root / "masks" / "scene").mkdir(parents=True)
    mask = Image.new("L", SIZE)
    mask.paste(255, OBJECT)
    for number, kind in enumerate(FORMATS):
        for orientation in range(1, 9):
            exif = Image.Exif()
            exif[0x0112] = orientation
            stored = turned(scene(8 * number + orientation), {6: 8, 8: 6}.get(orientation, orientation))
            name = f"{kind}-{orientation}"
            stored.save(root / "photographs" / "scene" / f"{name}.jpg", kind, exif=exif, **OPTIONS.get(kind, {}))
            mask.save(root / "masks" / "scene" / f"{name}.png")
    torch.manual_seed(0)
    torch.save(timm.create_model("resnet10t").state_dict(), root / "resnet10t.pth")
    options = GenerationOptions(
        backbone="resnet10t",
        pretrained=str(root / "resnet10t.pth"),
        size=128,
        pooling=1.0,
        saliency=str(root / "masks"),
        share=1.0,
        points=8,
    )
    out = root / "set"
    generated = generate_set(("export",), str(root / "photographs"), out, options, "local", 1, quiet=True)
    return out, generated


def rows_of(out: Path, **options):
    return [
        row
        for split in ("train", "validation")
        for row in load_dataset("sc_imagenet", root=out, split=split, **options)
    ]


def test_photographs_of_every_orientation_and_format_are_joined(made):
    out, generated = made
    rows = rows_of(out)
    joined = {Path(row[side].filename).stem for row in rows for side in ("source", "target")}
    assert {name.split("-")[1] for name in joined} == set("12345678")
    assert {name.split("-")[0] for name in joined} == set(FORMATS)
    assert generated.exported.statistics.as_dict()["masks"]["black to white"] == 8 * len(FORMATS)


@pytest.mark.parametrize("streaming", [False, True])
def test_points_lie_where_they_were_put_through_load_dataset(made, streaming):
    rows = rows_of(made[0], streaming=streaming)
    assert len(rows) > 100
    for row in rows:
        assert row["source_size"] == list(SIZE)
        check(row["source"], row["source_points"], row["target"], row["target_points"])


def test_models_and_reports_find_them_there(made):
    out, _ = made
    train = load_dataset("sc_imagenet", root=out, split="train")
    pairs = PairDataset(train, SIZE[0], (0.0,) * 3, (1.0,) * 3)
    images = PairImages("sc-imagenet", "train", out)
    scale = np.array([1, SIZE[1] / SIZE[0]])
    for index in range(0, len(train), 5):
        item, ends = pairs[index], images.of(train[index]["pair_id"])
        shown = [Image.fromarray((item[side] * 255).byte().permute(1, 2, 0).numpy()) for side in ("source", "target")]
        points = [np.asarray(item[f"{side}_points"]) * scale for side in ("source", "target")]
        check(shown[0].resize(SIZE), points[0], shown[1].resize(SIZE), points[1])
        check(ends[0], points[0], ends[1], points[1])


class SameColour(Matcher):
    """Carries a point to the pixel whose red and green are nearest to its own."""

    size = 96

    def forward(self, source, target):
        return source, target

    def transfer(self, output, points):
        source, target = (image[0, :2].flatten(1) for image in output)
        x, y = points[0].floor().long().clamp(0, self.size - 1).unbind(1)
        nearest = (source[:, y * self.size + x].T[:, :, None] - target[None]).square().sum(1).argmin(1)
        return torch.stack((nearest % self.size, nearest // self.size), 1).float()[None]


def test_match_finds_them_there_in_rows_and_in_files(made):
    for row in rows_of(made[0])[::25]:
        paths = row["source"].filename, row["target"].filename
        for ends in ((row["source"], row["target"]), paths, [np.asarray(row[side]) for side in ("source", "target")]):
            found = match(SameColour(), *ends, row["source_points"])
            assert np.abs(found.target_points - row["target_points"]).max() < 6


def test_data_show_is_given_images_and_points_that_agree(made, monkeypatch):
    drawn = []
    draw = benchmark.commands.data.draw_pair

    def drawing(source, target, *points, **options):
        drawn.append((source, points[0], target, points[1]))
        return draw(source, target, *points, **options)

    monkeypatch.setattr(benchmark.commands.data, "draw_pair", drawing)
    assert picture_of_pairs(str(made[0]), 24)[1] == 24
    for pair in drawn:
        check(*pair)


def test_the_release_layout_is_in_pixels_as_stored_and_reads_back_the_same(made, capsys):
    out, _ = made
    export_release(out)
    rows = load_dataset("sc_imagenet", root=out, split="train")
    back = {row["pair_id"].split(":")[0]: row for row in load_dataset("sc_imagenet", root=out / "spair", split="train")}
    assert len(back) == len(rows)
    for row in rows:
        again = back[row["pair_id"].split(":")[0]]
        check(again["source"], again["source_points"], again["target"], again["target_points"])
        for name in ("source_points", "target_points", "source_bbox"):
            assert np.array(again[name]) == pytest.approx(np.array(row[name]), abs=1e-4)
        file = next((out / "spair" / "PairAnnotation" / "trn").glob(f"{row['pair_id'].split(':')[0]}:*.json"))
        points = json.loads(file.read_text())["src_kps"]
        with Image.open(again["source"].filename) as image:
            if image.format == "TIFF":  # which Pillow turns unasked
                continue
            inside = [[min(max(x, 0), image.width - 1), min(max(y, 0), image.height - 1)] for x, y in points]
            assert np.abs(places(image, inside) - row["source_points"]).max() < 3


def test_photographs_were_read_upright(made):
    out, _ = made
    for path in sorted((out / "JPEGImages" / "scene").iterdir()):
        image = open_image(path)
        assert image.size == SIZE
        assert np.abs(places(image, [[3, 60], [90, 5]]) - [[3, 60], [90, 5]]).max() < 3
