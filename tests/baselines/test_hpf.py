"""HPF: images in their own shape, any backbone, the search for layers; parity is in tests/parity."""

from __future__ import annotations

import pytest
import torch

from baselines.hpf import HPF, search_layers
from sc_imagenet.geometry.resize import Frame

SMALL = {"backbone": "resnet10t", "layers": [1, 3], "pretrained": False, "size": 96}


def small(**changes) -> HPF:
    torch.manual_seed(0)
    return HPF(**{**SMALL, **changes}).eval()


def image(height: int, width: int, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    coarse = torch.randn(1, 3, 12, 12, generator=generator)
    return torch.nn.functional.interpolate(coarse, (height, width), mode="bicubic")[0]


def test_a_pair_of_any_shapes_is_matched_as_if_it_were_alone():
    model, frame = small(), Frame(96, keep_aspect=True)
    source, target = image(96, 60), image(72, 96, 1)
    points = torch.tensor([[[10.0, 70.0], [50.0, 20.0]]])
    alone = model.transfer(model(source[None], target[None]), points)
    full = image(96, 96, 2)
    sources, targets = (torch.stack((frame.place(own), full)) for own in (source, target))
    together = model.transfer(model(sources, targets), points.expand(2, -1, -1))
    torch.testing.assert_close(together[:1], alone)


def test_cells_whose_boxes_reach_too_far_beyond_the_image_are_left_out():
    seen = small(backbone="resnet50", layers=[0]).see(image(60, 96))
    assert (seen.grid, seen.rows, seen.columns) == ((15, 24), range(1, 15), range(1, 24))
    model = small()
    assert model.reach == model.stride == 4
    assert model.see(image(60, 96)).kept == (15, 24)


def test_an_image_is_found_in_itself_and_in_a_shifted_one():
    model, wide = small(), image(96, 96)
    points = torch.tensor([[[40.0, 40.0], [60.0, 30.0]]])
    torch.testing.assert_close(model.transfer(model(wide[None], wide[None]), points), points)
    shifted = wide.roll((8, -16), (1, 2))
    moved = model.transfer(model(wide[None], shifted[None]), points) - points
    torch.testing.assert_close(moved, torch.tensor([-16.0, 8.0]).expand(1, 2, 2), atol=1.0, rtol=0)


def test_images_smaller_than_a_box_and_no_points():
    model = small()
    output = model(Frame(96).place(image(9, 7))[None], Frame(96).place(image(1, 96))[None])
    assert model.transfer(output, torch.zeros(1, 0, 2)).shape == (1, 0, 2)
    assert model.transfer(output, torch.full((1, 3, 2), 5.0)).isfinite().all()


@pytest.mark.parametrize(
    ("backbone", "layers"),
    [("resnet101.tv_in1k", (0, 8, 20, 21, 26, 28, 29, 30)), ("resnet50.a1_in1k", (0, 9, 10, 11, 12, 13))],
)
def test_published_hyperpixels_are_the_default_of_their_resnets(backbone, layers):
    model = HPF(backbone=backbone, pretrained=False)
    assert model.backbone.layers == layers
    assert (model.stride, model.reach) == (4, 5)


def test_layers_are_found_by_beam_search():
    scored = []

    def score(layers: tuple[int, ...]) -> float:
        scored.append(layers)
        return len({2, 5, 7} & set(layers)) - 0.5 * len(set(layers) - {2, 5, 7})

    assert search_layers(score, range(9), beam=2, depth=4) == ((2, 5, 7), 3)
    assert len(scored) == len(set(scored)) < 9 + 2 * 8 + 2 * 7 + 2 * 6 + 1


def test_layers_of_a_model_can_be_searched():
    wide, points = image(96, 96), torch.tensor([[[40.0, 40.0], [60.0, 30.0]]])
    shifted = wide.roll((8, -16), (1, 2))

    def score(layers: tuple[int, ...]) -> float:
        model = small(layers=list(layers))
        moved = model.transfer(model(wide[None], shifted[None]), points) - points
        return -(moved - torch.tensor([-16.0, 8.0])).norm(dim=-1).mean().item()

    layers, best = search_layers(score, range(5), beam=2, depth=2)
    assert best >= max(score((layer,)) for layer in range(5))
    assert score(layers) == best


@pytest.mark.parametrize(("backbone", "layer"), [("vit_tiny_patch16_224", 0), ("convnext_atto", 2)])
def test_backbones_that_see_whole_cells_alone_are_shown_images_to_their_end(backbone, layer):
    """A vision transformer is built for squares of one size; both cut off what fills no cell."""
    torch.manual_seed(0)
    model = HPF(backbone, [layer], 250, pretrained=False).eval()
    if backbone.startswith("vit"):
        torch.nn.init.zeros_(model.backbone.net.pos_embed)
    scene = torch.randn(3, 250, 282, generator=torch.Generator().manual_seed(0))
    source, target = scene[:, :170, :250], scene[:, 32:, 48:218]
    frame = Frame(250, keep_aspect=True)
    seen = model.see(frame.place(source))
    assert seen.grid == ((16, 16) if backbone.startswith("vit") else (11, 16))
    assert seen.kept == (11, 16)
    points = torch.tensor([[[120.0, 90.0], [190.0, 140.0], [100.0, 165.0]]])
    carried = model.transfer(model(*(frame.place(each)[None] for each in (source, target))), points)
    torch.testing.assert_close(carried, points - torch.tensor([48.0, 32.0]), atol=8, rtol=0)
