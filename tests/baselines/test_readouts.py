"""Published geometries of the input and read-outs as options of a matcher of frozen features."""

from __future__ import annotations

import datasets
import numpy as np
import pytest
import torch
from PIL import Image

from baselines.nearest import Nearest
from benchmark.running.match import match
from benchmark.scoring.frames import ProtocolFrame
from benchmark.scoring.protocols import ALL
from sc_imagenet.core.errors import InputError
from sc_imagenet.data.pairs import PairDataset, in_frame
from sc_imagenet.data.schema import pair_features
from sc_imagenet.geometry.letterbox import FITS
from sc_imagenet.geometry.map_points import Readout, check_readout, read_points
from sc_imagenet.geometry.resize import Frame

SIZES = [(100, 60), (60, 100), (37, 91), (200, 200)]
READOUTS = {
    "nearest": 8.0,
    "nearest place=centre-0.5": 8.5,
    "nearest place=corner": 16.0,
    "bilinear query=aligned place=aligned": 8.0,
    "window-soft-argmax window=2 temperature=0.02": 8.0,
    "inner-soft-argmax window=2 temperature=0.02": 8.0,
    "gauss-soft-argmax sigma=2 temperature=0.02": 8.0,
    "kernel-softmax sigma=7 temperature=0.04 place=aligned query=aligned": 8.0,
    "kernel-softmax sigma=7 temperature=0.04 place=aligned query=displaced": 16.0,
    "softmax temperature=0.001": 8.0,
}


@pytest.mark.parametrize("fit", FITS)
def test_a_model_s_frame_is_the_protocols_one(fit):
    points = np.random.default_rng(0).uniform(0, 30, (5, 2))
    for size in SIZES:
        frame, known = Frame(84, fit=fit), ProtocolFrame(fit, 84)
        sizes = np.array([size] * len(points))
        placed = points * frame.scale(size) + frame.offset(size)
        np.testing.assert_allclose(placed, known.carry(points, sizes), atol=1e-9)
        np.testing.assert_allclose(frame.original(placed, size), points, atol=1e-9)
        np.testing.assert_allclose(frame.extent(size), known.resized(sizes)[0])


@pytest.mark.parametrize("fit", FITS)
def test_an_image_of_one_line_is_in_the_frame_too(fit):
    frame, points = Frame(84, fit=fit), np.array([[300.0, 1.0]])
    assert in_frame(Image.new("RGB", (301, 1)), frame).size == (84, 84)
    placed = points * frame.scale((301, 1)) + frame.offset((301, 1))
    np.testing.assert_allclose(frame.original(placed, (301, 1)), points)


@pytest.mark.parametrize("padding", ["black", "white"])
@pytest.mark.parametrize("fit", ["letterbox", "corner-letterbox"])
def test_beside_a_letterboxed_image_lies_its_colour(fit, padding):
    frame = Frame(84, fit=fit, padding=padding, resample="lanczos")
    shown = np.asarray(in_frame(Image.new("RGB", (100, 50), (90, 100, 110)), frame))
    assert shown.shape == (84, 84, 3)
    start = int(frame.offset((100, 50))[1])
    assert start == (21 if fit == "letterbox" else 0)
    inside = np.zeros((84, 84), bool)
    inside[start : start + 42] = True
    assert (shown[inside] == (90, 100, 110)).all()
    assert (shown[~inside] == (255 if padding == "white" else 0)).all()


@pytest.mark.parametrize("mirrored", [False, True])
@pytest.mark.parametrize("fit", FITS)
def test_points_of_a_pair_lie_where_the_image_shows_them(fit, mirrored, tmp_path):
    picture = Image.new("RGB", (90, 61))
    picture.paste((255, 255, 255), (60, 20, 66, 26))
    picture.save(tmp_path / "square.png")
    features = pair_features(["thing"])
    cell = {"path": str(tmp_path / "square.png"), "bytes": None}
    row = {"pair_id": "0", "dataset": "d", "category": 0, "source": cell, "target": cell, "mirrored": mirrored}
    row |= {"source_points": [[63.0, 23.0]], "target_points": [[63.0, 23.0]]}
    row |= dict.fromkeys(("viewpoint_variation", "scale_variation", "truncation", "occlusion"), -1)
    rows = datasets.Dataset.from_list([dict.fromkeys(features) | row], features=features)
    frame = Frame(120, fit=fit)
    item = PairDataset(rows, 120, (0, 0, 0), (1, 1, 1), frame=frame)[0]
    weight = item["source"].mean(0)
    grid = torch.arange(120) + 0.5
    centre = torch.stack(((weight.sum(0) * grid).sum(), (weight.sum(1) * grid).sum())) / weight.sum()
    torch.testing.assert_close(item["source_points"][0], centre, atol=0.6, rtol=0)
    back = frame.original(item["source_points"].numpy(), (90, 61), mirrored)
    np.testing.assert_allclose(back, [[63.0, 23.0]], atol=1e-3)


@pytest.mark.parametrize("readout", READOUTS)
def test_each_read_out_finds_a_point_in_the_image_itself(readout):
    """Up to half a cell of 16 pixels, and what its authors' place or query is off by, by design."""
    torch.manual_seed(0)
    model = Nearest(size=160, layers=[5], readout=readout, standardise=False).eval()
    texture = torch.randn(1, 3, 160, 160).cumsum(-1).cumsum(-2)
    texture = texture / texture.std()
    points = 8 + 144 * torch.rand(1, 40, 2)
    off = (model.transfer(model(texture, texture), points) - points).abs().amax(-1)
    assert off.median() <= READOUTS[readout]


def test_a_read_out_is_what_protocols_state():
    stated = [protocol.readout for protocol in ALL if protocol.readout.query in ("cell", "aligned", "displaced")]
    assert len(stated) > 5
    for readout in stated:
        check_readout(readout)
    eye = np.eye(16, dtype=np.float32).reshape(16, 4, 4)
    shifted = np.roll(eye, (1, 1), (1, 2))
    found = read_points(Readout("nearest", place="centre", query="cell"), eye, shifted, np.array([[10.0, 30.0]]), 64)
    np.testing.assert_array_equal(found, [[24, 40]])


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ({"readout": "neerest"}, "nearest"),
        ({"readout": "window-soft-argmax window=3"}, "temperature None"),
        ({"readout": "nearest width=3"}, "'width'"),
        ({"readout": "softmax temperature=warm"}, "no number"),
        ({"readout": "bilinear"}, "no query 'cell'"),
        ({"readout": ""}, "kind of a read-out"),
        ({"fit": "letter-box"}, "letterbox"),
        ({"padding": "grey"}, "black, white"),
        ({"resample": "nearest"}, "bicubic, bilinear, lanczos"),
    ],
)
def test_what_cannot_be_is_one_line(arguments, told):
    with pytest.raises(InputError, match=told):
        Nearest("resnet10t", size=64, pretrained=False, **arguments)


def test_two_pictures_are_matched_in_a_letterbox_as_stretched():
    draw = np.random.default_rng(1)
    noise = Image.fromarray(draw.integers(0, 255, (15, 10, 3), dtype=np.uint8)).resize((200, 300))
    model = Nearest(size=160, fit="letterbox", padding="white").eval()
    points = draw.uniform(40, 160, (20, 2))
    found = match(model, noise, noise, points).target_points
    assert np.median(np.abs(found - points).max(1)) < 8
