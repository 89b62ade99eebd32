"""Images of their own shape in the square frame, and points there and back."""

from __future__ import annotations

import datasets
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image

from sc_imagenet.data.pairs import PairDataset
from sc_imagenet.data.schema import pair_features
from sc_imagenet.geometry.resize import Frame, cut_out

SIZES = [(400, 200), (200, 400), (100, 100), (50, 20), (301, 299), (10_000, 1)]


@pytest.mark.parametrize("keep_aspect", [False, True])
@pytest.mark.parametrize("mirrored", [False, True])
@pytest.mark.parametrize("size", SIZES)
def test_points_come_back_to_where_they_were(size, mirrored, keep_aspect):
    frame = Frame(100, keep_aspect)
    points = np.array([[0.0, 0.0], [0.25, 0.5], [1.0, 1.0]]) * size
    inside = points * frame.scale(size)
    assert (inside <= 100).all()
    if mirrored:
        inside[:, 0] = frame.extent(size)[0] - inside[:, 0]
    np.testing.assert_allclose(frame.original(inside, size, mirrored), points, atol=1e-9)


def test_small_images_are_not_made_larger():
    assert Frame(100, keep_aspect=True).pixels((50, 20)) == [20, 50]
    assert Frame(100, keep_aspect=True).pixels((301, 200)) == [66, 100]
    assert Frame(100, keep_aspect=True).pixels((10_000, 1)) == [1, 100]


def test_an_image_is_cut_out_as_it_was_placed():
    image = torch.randn(3, 7, 4)
    framed = Frame(9).place(image)
    assert framed.shape == (3, 9, 9)
    assert torch.equal(cut_out(framed), image)


@pytest.mark.parametrize("mirrored", [False, True])
def test_pairs_keep_their_shape(tmp_path, mirrored):
    draw = np.random.default_rng(0)
    pixels = [draw.integers(0, 255, shape, dtype=np.uint8) for shape in ((40, 80, 3), (60, 30, 3))]
    row = dict.fromkeys(pair_features(["cat"]))
    for name, values in zip(("source", "target"), pixels):
        Image.fromarray(values).save(tmp_path / f"{name}.png")
        row[name] = str(tmp_path / f"{name}.png")
        row[f"{name}_size"] = [values.shape[1], values.shape[0]]
        row[f"{name}_points"] = [[20.0, 30.0]]
        row[f"{name}_bbox"] = [4.0, 8.0, 20.0, 40.0]
    row |= {"category": 0, "mirrored": mirrored}
    rows = datasets.Dataset.from_list([row], features=pair_features(["cat"]))
    item = PairDataset(rows, 50, (0.5,) * 3, (0.25,) * 3, keep_aspect=True)[0]
    for name, values, (height, width), points, box in (
        ("source", pixels[0], (25, 50), [12.5, 18.75], [2.5, 5.0, 12.5, 25.0]),
        ("target", pixels[1], (50, 25), [20 / 1.2, 25.0], [4 / 1.2, 8 / 1.2, 20 / 1.2, 40 / 1.2]),
    ):
        shown = torch.from_numpy(values).permute(2, 0, 1)[None].float() / 255
        expected = F.interpolate((shown - 0.5) / 0.25, (height, width), mode="bilinear", align_corners=False)[0]
        if mirrored:
            expected = expected.flip(-1)
            points[0] = width - points[0]
            box[0], box[2] = width - box[2], width - box[0]
        assert item[name].shape == (3, 50, 50)
        torch.testing.assert_close(cut_out(item[name]), expected)
        torch.testing.assert_close(item[f"{name}_points"], torch.tensor([points]))
        torch.testing.assert_close(item[f"{name}_bbox"], torch.tensor(box))
