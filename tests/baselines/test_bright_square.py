"""A bright square is found within half a cell, wherever it is and whatever size of images was asked for.

The square is as large as a cell, and all around it is noise: the cell that it fills most is most like it, and lies
within half a cell of it. Positions are taken out of the random vision transformers, since their tokens would otherwise
be told apart by where they lie; and one block is read, since a hundred random ones tell nothing apart.
"""

from __future__ import annotations

from itertools import product
from pathlib import Path

import numpy as np
import pytest
import timm
import torch
from PIL import Image

from baselines.cascade import Cascade
from baselines.nearest import Nearest
from benchmark.running.generate import generate_set
from sc_imagenet.backbones.backbone import Backbone
from sc_imagenet.data.load import load_dataset
from sc_imagenet.generation.options import GenerationOptions
from sc_imagenet.geometry.resize import normalised_image

PATCHES = {"vit_small_patch14_dinov2": 14, "vit_tiny_patch16_224": 16}
SIZES = (160, 256, 320, 518)


def without_positions(model):
    network = next(part for part in model.modules() if isinstance(part, Backbone)).net
    torch.nn.init.zeros_(network.pos_embed)
    return model.eval()


def squares(places, side: int, height: int, width: int) -> torch.Tensor:
    """Images (B, 3, height, width) in [0, 1] of noise, each with a white square around its place."""
    images = 0.5 * torch.rand(len(places), 3, height, width, generator=torch.Generator().manual_seed(0))
    for image, (x, y) in zip(images, places):
        left, top = round(x - side / 2), round(y - side / 2)
        image[:, top : top + side, left : left + side] = 1
    return images


def everywhere(width: float, height: float, side: int, count: int = 4) -> list[tuple[float, float]]:
    """Centres of squares all over an image, those that touch its corners first and last, at whole pixels."""
    lines = [[round(start) + side / 2 for start in np.linspace(0, length - side, count)] for length in (width, height)]
    return list(product(*lines))


def errors(model, places, cell: int, sources) -> torch.Tensor:
    """How far from the square of every image that of each source is found, in cells."""
    images = normalised_image(squares(places, cell, model.size, model.size), model.mean, model.std)
    points, found = torch.tensor(places), []
    with torch.no_grad():
        (seen,) = model.encode(images) if isinstance(model, Nearest) else (None,)
        for source, target in product(sources, range(len(places))):
            pair = [source], [target]
            output = (
                model(*(images[one] for one in pair)) if seen is None else model.match(*([seen[one]] for one in pair))
            )
            found.append((model.transfer(output, points[source][None, None])[0, 0] - points[target]).abs().max())
    return torch.stack(found) / cell


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("backbone", PATCHES)
def test_nearest_finds_it_with_patches_that_do_not_divide_the_asked_size(backbone, size):
    torch.manual_seed(0)
    cell = PATCHES[backbone]
    model = without_positions(Nearest(backbone, [0], size, pretrained=False))
    places = everywhere(model.size, model.size, cell, 3)
    assert errors(model, places, cell, (0, 8)).max() <= 0.5
    assert model.arguments["size"] == model.size >= size


@pytest.mark.parametrize("size", [33, 160, 250, 320])
@pytest.mark.parametrize("backbone", ["tf_efficientnet_lite0", "convnext_atto", "resnet10t"])
def test_nearest_finds_it_with_cnns_at_any_size(backbone, size):
    torch.manual_seed(0)
    model = Nearest(backbone, size=size, pretrained=backbone == "tf_efficientnet_lite0").eval()
    places = everywhere(model.size, model.size, 32, 3)  # a cell of the coarsest layer
    assert errors(model, places, 32, (0, 8)).max() <= 0.5


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("backbone", PATCHES)
def test_the_cascade_finds_it(backbone, size):
    torch.manual_seed(0)
    cell = PATCHES[backbone]
    network = {"stages": "image", "volume_blocks": 1, "volume_width": 16, "hough_scales": [1.0]}
    model = without_positions(Cascade(backbone, [0], size, network, pretrained=False))
    corners = everywhere(model.size, model.size, cell, 2)
    places = [corners[0], corners[3]] if size > 320 else corners
    assert errors(model, places, cell, (0,)).max() <= 0.5


def photographs_of_squares(folder, cells: int) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Photographs of one class in several shapes, and what is known of them: masks, counts, and where squares are.

    A square is one of ``cells`` along each side. Masks show it and what is next to it.
    """
    places = {}
    generator = np.random.default_rng(0)
    spots = [*product((0.0, 0.5, 1.0), (0.0, 0.4, 1.0)), (0.8, 0.9), (0.2, 0.7)]
    for part in ("photographs", "masks"):
        (folder / part / "square").mkdir(parents=True)
    for number, spot in enumerate(spots):
        size = np.array([(24, 24), (36, 24), (24, 48)][number % 3]) * 14
        side = np.round(size / cells).astype(int)
        left, top = start = np.round(np.round(np.array(spot) * (cells - 1)) * size / cells).astype(int)
        width, height = size
        image = generator.integers(0, 128, (height, width, 3), np.uint8)
        image[top : top + side[1], left : left + side[0]] = 255
        mask = np.zeros((height, width), np.uint8)
        mask[max(top - side[1], 0) : top + 2 * side[1], max(left - side[0], 0) : left + 2 * side[0]] = 255
        for part, pixels in (("photographs", image), ("masks", mask)):
            Image.fromarray(pixels).save(folder / part / "square" / f"{number}.png")
        places[f"{number}.png"] = (start + side / 2, side)
    counts = [f"square/{name},1" for name in places]
    (folder / "counts.csv").write_text("\n".join(["path,objects", *counts]))
    return places


@pytest.mark.parametrize(("size", "cells"), [(160, 12), (320, 23)])
def test_generated_labels_lie_on_it(size, cells, tmp_path):
    torch.manual_seed(0)
    places = photographs_of_squares(tmp_path, cells)
    network = timm.create_model("vit_small_patch14_dinov2", num_classes=0)
    torch.nn.init.zeros_(network.pos_embed)
    torch.save(network.state_dict(), tmp_path / "random.pth")
    options = GenerationOptions(
        backbone="vit_small_patch14_dinov2",
        pretrained=str(tmp_path / "random.pth"),
        size=size,
        pooling=1.0,
        saliency=str(tmp_path / "masks"),
        counts=str(tmp_path / "counts.csv"),
        share=1.0,
        points=4,
    )
    out = tmp_path / "labels"
    generate_set(("export",), str(tmp_path / "photographs"), out, options, "local", 1, quiet=True)
    offsets = []
    for pair in load_dataset("sc_imagenet", root=out, split="train"):
        known = [places[Path(pair[side].filename).name] for side in ("source", "target")]
        for points in zip(pair["source_points"], pair["target_points"]):
            ours, theirs = (np.abs((point - middle) / side).max() for point, (middle, side) in zip(points, known))
            if ours <= 0.3:  # a point on the square
                offsets.append(theirs)
    assert len(offsets) > 20
    assert max(offsets) <= 0.5
