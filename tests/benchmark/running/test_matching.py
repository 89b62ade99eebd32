"""Any two images are matched, in their own pixels, by models of either direction."""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
import pytest
import torch
from accelerate import Accelerator
from PIL import Image

from baselines.checkpoints import load_model
from baselines.matcher import Matcher
from benchmark.running.evaluate import evaluate
from benchmark.running.match import KEPT, grid_points, match, parse_points
from benchmark.scoring.predictions import PredictionInfo
from sc_imagenet.core.errors import InputError
from sc_imagenet.data.images import open_image, to_rgb
from sc_imagenet.data.load import load_dataset


class Brightest(Matcher):
    """Carries a point by the offset between the brightest pixels of its two images; either direction.

    The images here are black with one white patch, so that the right answer is known exactly.
    """

    size = 64

    def __init__(self, direction: str) -> None:
        super().__init__()
        self.direction = direction
        self.seen: list[torch.Tensor] = []

    def forward(self, source, target):
        self.seen.append(source)
        places = []
        for image in (source, target):
            index = int(image.sum(1).flatten().argmax())
            places.append(torch.tensor([index % self.size, index // self.size], dtype=torch.float32))
        return places

    def transfer(self, output, points):
        first, second = output
        return points + (second - first if self.direction == "forward" else first - second)


def patch(width: int, height: int, left: int, top: int) -> Image.Image:
    """Black, with a white patch of an eighth of each side whose corner is at (left, top)."""
    image = Image.new("RGB", (width, height))
    image.paste((255, 255, 255), (left, top, left + width // 8, top + height // 8))
    return image


@pytest.mark.parametrize("direction", ["forward", "backward"])
def test_points_go_from_a_to_b_in_original_pixels(direction):
    a, b = patch(640, 320, 80, 40), patch(128, 256, 64, 128)
    matches = match(Brightest(direction), a, b, np.array([[80.0, 40.0], [160.0, 80.0]]))
    assert matches.target_points == pytest.approx(np.array([[64, 128], [80, 160]]), abs=1e-4)
    assert matches.loop == pytest.approx([0, 0], abs=1e-4)


@pytest.mark.parametrize("direction", ["forward", "backward"])
def test_grid_keeps_every_point_and_its_order(direction):
    a, b = patch(64, 64, 0, 0), patch(64, 64, 8, 16)
    matches = match(Brightest(direction), a, b, grid=3)
    assert np.array_equal(matches.source_points, grid_points((64, 64), 3))
    assert matches.target_points - matches.source_points == pytest.approx(np.array([[8, 16]] * 9))


def test_by_default_consistent_points_are_spread_over_the_image():
    matches = match(Brightest("forward"), patch(100, 50, 0, 0), patch(100, 50, 0, 0))
    assert 3 <= len(matches.source_points) <= KEPT
    gaps = np.linalg.norm(matches.source_points[:, None] - matches.source_points[None], axis=-1)
    assert gaps[~np.eye(len(gaps), dtype=bool)].min() >= 0.12 * np.hypot(100, 50)


def test_images_reach_the_model_normalised_by_its_own_mean():
    matcher = Brightest("forward")
    matcher.mean, matcher.std = (0.5, 0.25, 0.0), (0.5, 0.5, 2.0)
    match(matcher, Image.new("RGB", (9, 9), (255, 255, 255)), Image.new("RGB", (9, 9)), np.ones((1, 2)))
    assert matcher.seen[0].shape == (1, 3, 64, 64)
    assert matcher.seen[0][0, :, 5, 5].tolist() == pytest.approx([1.0, 1.5, 0.5])


def test_point_outside_the_first_image():
    with pytest.raises(InputError, match=r"point 2 at \(11, 5\) lies outside the first image of 10 x 10"):
        match(Brightest("forward"), patch(10, 10, 0, 0), patch(9, 9, 0, 0), np.array([[1.0, 1], [11, 5]]))


@pytest.mark.parametrize("text", ["1,2 3,4", " 1, 2  3 ,4 ", "1.0,2.;3,4"])
def test_points_are_read_from_text(text):
    assert parse_points(text).tolist() == [[1, 2], [3, 4]]


@pytest.mark.parametrize("text", ["", "1", "1,2 3", "1,2,3", "a,b", "nan,1", "1e999,1", "1,2 3;"])
def test_text_that_is_no_points(text):
    with pytest.raises(InputError, match="--points"):
        parse_points(text)


def test_trained_model_without_weights_and_two_backbones():
    with pytest.raises(InputError, match=r"cats is a trained model and no weights were given"):
        load_model("cats")
    with pytest.raises(InputError, match="both given"):
        load_model("cats", backbone="resnet18", checkpoint="x.pth")
    with pytest.raises(InputError, match=r"unknown model 'nearst'\. Did you mean 'nearest'"):
        load_model("nearst")


@pytest.fixture
def photographs(tmp_path: Path) -> tuple[Path, Path, np.ndarray, np.ndarray, float]:
    """Two images, points of both, and how far off (pixels) half of the matches may be.

    Two motorbikes of PF-WILLOW where they are at hand; else textured noise and the same moved by (30, 18).
    """
    root = os.environ.get("SC_DATA_ROOT")
    folder = Path(root or "/nonexistent") / "pf-willow" / "PF-dataset-WILLOW" / "motorbike(G)"
    if folder.is_dir():
        from scipy.io import loadmat

        a, b = sorted(folder.glob("*.png"))[2:4]
        points = [loadmat(path.with_suffix(".mat"))["pts_coord"].T for path in (a, b)]
        return a, b, points[0], points[1], 45.0
    noise = np.random.default_rng(0).integers(0, 255, (24, 32, 3), dtype=np.uint8)
    whole = Image.fromarray(noise).resize((330, 258), Image.Resampling.BICUBIC)
    a, b = tmp_path / "a.png", tmp_path / "b.png"
    whole.crop((0, 0, 300, 240)).save(a)
    whole.crop((30, 18, 330, 258)).save(b)
    points = grid_points((240, 190), 3) + 45
    return a, b, points, points - [30, 18], 20.0


def test_match_end_to_end_on_two_images(scbench, photographs, tmp_path):
    a, b, points, truth, tolerance = photographs
    text = " ".join(f"{x:.2f},{y:.2f}" for x, y in points)
    out = tmp_path / "matches.png"
    code, printed, _ = scbench("match", a, b, "--points", text, "--out", out, "--json")
    assert code == 0
    found = np.array([row["target"] for row in json.loads(printed)["matches"]])
    assert np.median(np.linalg.norm(found - truth, axis=1)) < tolerance
    with Image.open(out) as picture:
        assert picture.height > 400

    code, printed, _ = scbench("match", a, b)
    assert code == 0
    assert "comes back within" in printed


class Lost(Brightest):
    """Finds the first point nowhere."""

    def transfer(self, output, points):
        carried = super().transfer(output, points).clone()
        carried[:, :1] = torch.nan
        return carried


def test_a_match_that_is_no_number_is_an_error():
    image = patch(64, 64, 8, 8)
    with pytest.raises(
        InputError, match=r"^Lost predicts no finite place for 1 of 4 points \(its weights are finite\)"
    ):
        match(Lost("forward"), image, image, grid=2)
    model = Lost("forward")
    model.gain = torch.nn.Parameter(torch.tensor(torch.inf))
    with pytest.raises(InputError, match=r"1 of 4 points \(its weights hold NaN or infinity: gain\)\. Give other"):
        match(model, image, image, grid=2)


def test_predictions_that_are_no_numbers_end_an_evaluation_and_are_counted(tmp_path):
    rows = load_dataset("toy", split="test").select(range(3))
    points = sum(len(row) for row in rows["source_points"])
    info = PredictionInfo("toy", "test", "lost", 64, "r", "m", "forward")
    with pytest.raises(InputError, match=rf"^toy:test, pairs 1 to 3: Lost predicts no .* for 3 of {points} points"):
        evaluate(Lost("forward"), rows, tmp_path / "p.parquet", info, Accelerator(cpu=True))
    assert not list(tmp_path.rglob("*.parquet"))


def odd_image(kind: str, folder: Path) -> Path:
    path = folder / f"{kind}.{'tif' if kind == 'sixteen' else 'jpg' if kind == 'cmyk' else 'png'}"
    image = {
        "grey": Image.new("L", (30, 50), 90),
        "alpha": Image.new("RGBA", (30, 50), (10, 20, 30, 40)),
        "palette": Image.new("RGB", (30, 50), "red").quantize(2),
        "sixteen": Image.fromarray(np.full((50, 30), 40_000, np.uint16)),
        "cmyk": Image.new("CMYK", (30, 50), (9, 99, 9, 9)),
        "line": Image.new("RGB", (200, 1), "blue"),
        "dot": Image.new("RGB", (1, 1), "blue"),
    }[kind]
    image.save(path)
    return path


@pytest.mark.parametrize("kind", ["grey", "alpha", "palette", "sixteen", "cmyk", "line", "dot"])
def test_every_kind_of_image_is_matched(kind, tmp_path):
    odd = open_image(odd_image(kind, tmp_path))
    matches = match(Brightest("backward"), odd, patch(64, 64, 8, 8), grid=2)
    assert matches.target_points.shape == (4, 2)
    assert np.isfinite(matches.target_points).all()


def in_mode(mode: str) -> Image.Image:
    image = Image.fromarray(np.random.default_rng(1).integers(0, 256, (50, 30, 3), np.uint8))
    if mode == "I;16":
        return Image.fromarray(np.random.default_rng(1).integers(0, 65536, (50, 30)).astype(np.uint16))
    if mode == "RGBA":
        image.putalpha(image.getchannel(0))
    return image.convert(mode)


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "L", "LA", "CMYK", "P", "1", "I;16"])
def test_an_image_of_any_mode_is_matched_as_its_file_is(mode, tmp_path):
    image, path = in_mode(mode), tmp_path / "image"
    image.save(path, "TIFF" if mode == "CMYK" else "PNG")
    given = [open_image(path), image, path, str(path), Image.open(path)]
    if mode not in ("P", "CMYK"):
        given.append(np.asarray(image))
    if mode in ("RGB", "RGBA"):
        given.append(torch.from_numpy(np.array(image)).permute(2, 0, 1))
    matcher = Brightest("forward")
    for picture in given:
        found = match(matcher, picture, patch(64, 64, 8, 8), np.array([[29.0, 49.0]]))
        assert np.isfinite(found.target_points).all()
    seen = matcher.seen[::2]
    assert len(seen) == len(given)
    assert all(torch.equal(each, seen[0]) for each in seen)


@pytest.mark.parametrize(
    ("array", "words"),
    [
        (np.zeros((3, 40, 40), np.uint8), r"an array of shape \(3, 40, 40\) is no image"),
        (np.zeros((0, 4), np.uint8), r"an array of shape \(0, 4\) is no image"),
        (np.full((4, 4), 300), "an array of int64 from 300 to 300 is no image"),
        (np.full((4, 4), 1.5), "an array of float64 from 1.5 to 1.5 is no image"),
        (np.full((4, 4), np.nan), "an array of float64 from nan to nan is no image"),
    ],
)
def test_an_array_that_is_no_image_is_said(array, words):
    with pytest.raises(InputError, match=words):
        match(Brightest("forward"), array, patch(9, 9, 0, 0))


def test_numbers_between_0_and_1_are_grey_levels():
    assert to_rgb(np.full((2, 3), 0.5)).getpixel((0, 0)) == (128, 128, 128)
    assert to_rgb(np.ones((2, 3), bool)).getpixel((2, 1)) == (255, 255, 255)


def test_photograph_on_its_side_is_turned_first(scbench, tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6  # turn right: what is stored as 64 x 32 is shown as 32 x 64
    Image.new("RGB", (64, 32), "red").save(tmp_path / "side.jpg", exif=exif)
    Image.new("RGB", (64, 32), "red").save(tmp_path / "plain.jpg")
    points = ["--points", "10,60"]
    assert scbench("match", tmp_path / "side.jpg", tmp_path / "plain.jpg", *points)[0] == 0
    code, _, err = scbench("match", tmp_path / "plain.jpg", tmp_path / "side.jpg", *points)
    assert code == 2
    assert "lies outside the first image of 64 x 32 pixels" in err


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["none.png", "b.png"], "none.png: no such image"),
        (["empty.png", "b.png"], "is empty (0 bytes)"),
        (["b.png", "text.png"], "is not an image that can be read"),
        (["b.png", "b.png", "--points", "1,2", "--grid", "3"], "--points and --grid were both given"),
        (["b.png", "b.png", "--points", "1;2"], "'1' is not a point"),
        (["b.png", "b.png", "--out", "m.gif"], "does not end like a picture"),
        (["b.png", "b.png", "--model", "nearst"], "unknown model 'nearst'"),
        (["b.png", "b.png", "--backbone", "resnet1"], "resnet1"),
        (["b.png", "b.png", "--model", "cats", "--checkpoint", "text.png"], "text.png"),
    ],
)
def test_bad_input_is_one_line(scbench, tmp_path, monkeypatch, arguments, words):
    monkeypatch.chdir(tmp_path)
    patch(64, 64, 8, 8).save("b.png")
    Path("empty.png").write_bytes(b"")
    Path("text.png").write_text("no image")
    code, _, err = scbench("match", *arguments)
    assert code == 2
    assert err.startswith("error: ")
    assert err.count("\n") == 1
    assert words in err
