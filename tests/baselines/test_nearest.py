"""Nearest neighbours of frozen features."""

from __future__ import annotations

import os

import pytest
import torch

from baselines.matcher import Features
from baselines.nearest import Nearest
from benchmark.running.check import texture
from sc_imagenet.data.pairs import PairDataset
from sc_imagenet.geometry.resize import normalised_image


@pytest.fixture(scope="module")
def nearest():
    torch.manual_seed(0)
    return Nearest(size=192).eval()


def points_inside(count: int, size: int) -> torch.Tensor:
    return (0.2 + 0.6 * torch.rand(1, count, 2, generator=torch.Generator().manual_seed(1))) * size


@pytest.mark.parametrize("shift", [(0, 0), (32, -32), (-64, 0)])
def test_a_shifted_image_is_found_where_it_was_shifted_to(nearest, shift):
    source = normalised_image(texture(1, 192, torch.Generator().manual_seed(0)), nearest.mean, nearest.std)
    target = source.roll(shift, dims=(3, 2))
    points = points_inside(20, 192)
    inside = ((points + torch.tensor(shift) - 96).abs() < 70).all(-1)
    carried = nearest.transfer(nearest(source, target), points)
    error = (carried - points - torch.tensor(shift)).norm(dim=-1)[inside]
    assert len(error) > 4
    assert error.median() < 8  # half a cell


def test_inner_products_are_mean_cosines(nearest):
    (described,) = nearest.encode(
        normalised_image(texture(2, 192, torch.Generator().manual_seed(3)), nearest.mean, nearest.std)
    )
    (plain,) = Nearest(size=192, layers=[5], standardise=False).eval().encode(torch.randn(1, 3, 192, 192))
    torch.testing.assert_close(plain.square().sum(1), torch.ones(1, 12, 12))
    torch.testing.assert_close(described.square().sum(1), torch.ones(2, 12, 12), atol=0.4, rtol=0)


def test_plain_argmax_gives_centres_of_upsampled_cells():
    model = Nearest(backbone="resnet10t", pretrained=False, size=64, window=0, upsample=2, grid=4).eval()
    carried = model.transfer(model(*torch.randn(2, 1, 3, 64, 64)), points_inside(9, 64))
    assert ((carried - 4) % 8 == 0).all()


def test_only_the_asked_rows_are_looked_at(nearest):
    features = nearest.match([torch.randn(1, 8, 5, 5)], [torch.randn(1, 8, 5, 5)])
    many = points_inside(30, 192)
    one = nearest.transfer(features, many[:, 7:8])
    torch.testing.assert_close(nearest.transfer(features, many)[:, 7:8], one, atol=1e-3, rtol=0)
    assert nearest.transfer(features, many[:, :0]).shape == (1, 0, 2)


def test_nothing_of_it_is_trained(nearest):
    assert not any(parameter.requires_grad for parameter in nearest.parameters())
    with pytest.raises(NotImplementedError):
        nearest.loss(None, {})


def test_saved_and_loaded_it_is_the_same_and_fetches_nothing(nearest, tmp_path):
    nearest.save_pretrained(tmp_path)
    again = Nearest.from_pretrained(tmp_path).eval()
    assert (again.size, again.backbone.layers) == (192, (4, 5, 6, 7))
    images = torch.randn(1, 3, 192, 192)
    assert torch.equal(nearest.encode(images)[0], again.encode(images)[0])


@pytest.mark.skipif("SC_DATA_ROOT" not in os.environ, reason="SC_DATA_ROOT is not set")
def test_real_photographs_give_the_measured_pck():
    """PF-WILLOW's six cluttered classes, PCK@.05/.10/.15 bbox-kp, image average."""
    from sc_imagenet.data.load import load_dataset

    model = Nearest().eval()
    rows = load_dataset("pf_willow", split="test")
    pairs = PairDataset(rows, model.size, model.mean, model.std)
    described: dict[str, Features] = {}
    shares = []
    for index in range(0, len(pairs), 4):
        item, row = pairs[index], pairs.rows[index]
        with torch.inference_mode():
            for side in ("source", "target"):
                key = row[side]["path"]
                if key not in described:
                    described[key] = model.encode(item[side][None])
            output = model.match(*(described[row[side]["path"]] for side in ("source", "target")))
            carried = model.transfer(output, item["source_points"][None])[0]
        scale = item["target_size"] / model.size
        true = item["target_points"] * scale
        longer = (true.amax(0) - true.amin(0)).max()
        error = (carried * scale - true).norm(dim=-1)
        shares.append([(error <= alpha * longer).float().mean().item() for alpha in (0.05, 0.1, 0.15)])
    pck = torch.tensor(shares).mean(0) * 100
    assert (pck >= torch.tensor([33.0, 56.0, 67.0])).all(), pck
