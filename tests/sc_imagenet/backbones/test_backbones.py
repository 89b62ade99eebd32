"""Backbones: which features, what is left uncomputed, where weights come from."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest
import timm
import torch

from sc_imagenet.backbones.backbone import build_backbone, with_positions_of
from sc_imagenet.backbones.dinov2 import published_positions
from sc_imagenet.backbones.pretrained import LITE0_PACKAGE, create_network, weights_at_hand
from sc_imagenet.core.errors import InputError
from sc_imagenet.data.tensor_files import read_state


@pytest.fixture
def image():
    return torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("name", ["resnet26", "resnet18"])
def test_hyperpixels_are_the_blocks_before_their_last_relu(name, image):
    backbone = build_backbone(name, pretrained=False).eval()
    count = len(backbone._blocks)
    every = build_backbone(name, range(count + 1), pretrained=False).eval()
    every.load_state_dict(backbone.state_dict())
    plain = timm.create_model(name).eval()
    plain.load_state_dict(backbone.net.state_dict())
    with torch.no_grad():
        maps = every(image)
        stem = plain.maxpool(plain.act1(plain.bn1(plain.conv1(image))))
        blocks = [*plain.layer1, *plain.layer2, *plain.layer3, *plain.layer4]
        expected = [stem]
        for block in blocks:
            expected.append(block(expected[-1]))
    assert torch.equal(maps[0], stem)
    assert any((features < 0).any() for features in maps[1:])
    for features, activated in zip(maps[1:], expected[1:]):
        torch.testing.assert_close(features.relu(), activated)


def test_blocks_after_the_last_read_are_kept_but_not_computed(image):
    backbone = build_backbone("resnet18", [0, 3], pretrained=False).eval()
    assert backbone.net.state_dict().keys() == timm.create_model("resnet18").state_dict().keys()
    before = backbone(image)
    with torch.no_grad():
        for part in (backbone.net.layer2[1], backbone.net.layer3, backbone.net.layer4, backbone.net.fc):
            for parameter in part.parameters():
                parameter.fill_(torch.nan)
    assert all(torch.equal(a, b) for a, b in zip(before, backbone(image)))
    sum(features.sum() for features in before).backward()
    for name, parameter in backbone.named_parameters():
        assert parameter.requires_grad == (parameter.grad is not None), name


@pytest.mark.parametrize(
    ("name", "layers", "channels", "strides"),
    [
        ("tf_efficientnet_lite0", (4, 5, 6, 7), (80, 112, 192, 320), (16, 16, 32, 32)),
        ("convnext_atto", (2, 3), (160, 320), (16, 32)),
        ("vit_tiny_patch16_224", (11,), (192,), (16,)),
        ("resnet10t", (3, 4), (256, 512), (16, 32)),
    ],
)
def test_coarse_layers_are_read_by_default(name, layers, channels, strides, image):
    backbone = build_backbone(name, size=64, pretrained=False).eval()
    assert (backbone.layers, backbone.channels, backbone.strides) == (layers, channels, strides)
    maps = backbone(image)
    assert [features.shape for features in maps] == [(2, c, 64 // s, 64 // s) for c, s in zip(channels, strides)]


def test_every_weight_of_a_pruned_backbone_is_used(image):
    backbone = build_backbone("tf_efficientnet_lite0", [1, 4], pretrained=False)
    sum(features.sum() for features in backbone(image)).backward()
    assert all(parameter.grad is not None for parameter in backbone.parameters())


def test_layers_count_from_the_end_and_are_sorted():
    assert build_backbone("resnet10t", [-1, 1, 1], pretrained=False).layers == (1, 4)


@pytest.mark.parametrize("layers", [[5], [-6], [], [1.5]])
def test_a_layer_that_is_not_there_is_named_with_the_valid_ones(layers):
    with pytest.raises(InputError, match="Valid: 0 to 4"):
        build_backbone("resnet10t", layers, pretrained=False)


def test_packaged_lite0_weights_are_all_loaded():
    assert weights_at_hand("tf_efficientnet_lite0")
    package = Path(str(importlib.util.find_spec(LITE0_PACKAGE).origin)).parent
    packaged = read_state(next((package / "models").glob("*.pth")))
    trained = create_network("tf_efficientnet_lite0", True, 224).state_dict()
    assert len(packaged) == len(trained)
    for theirs, ours in (
        ("_fc.weight", "classifier.weight"),
        ("_blocks.0._project_conv.weight", "blocks.0.0.conv_pw.weight"),
        ("_blocks.15._bn1.running_var", "blocks.6.0.bn2.running_var"),
    ):
        assert torch.equal(packaged[theirs], trained[ours])


@pytest.mark.parametrize("name", ["resnett18", "no_such_thing"])
def test_an_unknown_backbone_is_one_line(name):
    with pytest.raises(InputError, match=f"no backbone '{name}'"):
        build_backbone(name, pretrained=False)


def test_an_unknown_tag_is_one_line():
    with pytest.raises(InputError, match="nonsense"):
        build_backbone("resnet18.nonsense", pretrained=False)


def test_weights_that_cannot_be_fetched_name_the_ways_out(monkeypatch, tmp_path):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(InputError, match=r"sc-imagenet\[offline\].*tf_efficientnet_lite0"):
        build_backbone("resnet10t", pretrained=True)


def test_weights_from_a_file(tmp_path, image):
    source = timm.create_model("resnet10t").eval()
    torch.save({"state_dict": {f"module.{k}": v for k, v in source.state_dict().items()}}, tmp_path / "own.pth")
    backbone = build_backbone("resnet10t", pretrained=str(tmp_path / "own.pth"))
    assert torch.equal(backbone.net.conv1[0].weight, source.conv1[0].weight)
    with pytest.raises(InputError, match=r"own\.pth: .*It does not fit resnet18"):
        build_backbone("resnet18", pretrained=str(tmp_path / "own.pth"))
    with pytest.raises(InputError, match="no such file"):
        build_backbone("resnet18", pretrained=str(tmp_path / "none.pth"))


@pytest.mark.parametrize(
    ("name", "layers", "asked", "size"),
    [
        ("vit_small_patch14_dinov2", None, 320, 322),
        ("vit_small_patch14_dinov2", None, 518, 518),
        ("vit_tiny_patch16_224", None, 250, 256),
        ("twins_svt_small", None, 250, 256),  # refuses to be built for 250
        ("tf_efficientnet_lite0", None, 33, 64),
        ("tf_efficientnet_lite0", [5], 240, 240),
        ("convnext_atto", None, 250, 256),
        ("resnet10t", None, 240, 256),
        ("inception_v3", None, 250, 256),
    ],
)
def test_a_backbone_says_which_size_its_cells_fill(name, layers, asked, size):
    backbone = build_backbone(name, layers, asked, pretrained=False).eval()
    assert backbone.size == size
    assert (backbone.size_note is None) == (asked == size)
    with torch.no_grad():
        maps = backbone(torch.zeros(1, 3, size, size))
    assert [features.shape[-1] * stride for features, stride in zip(maps, backbone.strides)] == [size] * len(maps)


@pytest.mark.parametrize(
    ("name", "asked", "size"),
    [
        ("resnet10t", 240, 240),
        ("resnet10t", 80, 80),
        ("resnet10t", 250, 256),  # cells of 16 must fill it
        ("tf_efficientnet_lite0", 240, 240),
        ("convnext_atto", 240, 256),
    ],
)
def test_coarser_layers_may_reach_beyond_images_but_not_end_before_them(name, asked, size):
    """At 240 pixels a padded network has 8 cells of 32, one without padding 7."""
    assert build_backbone(name, size=asked, pretrained=False, overhang=True).size == size


@pytest.mark.parametrize(
    ("name", "layer", "size"),
    [("inception_v3", 2, 256), ("tf_efficientnet_lite0", 5, 250), ("convnext_atto", 2, 250), ("resnet10t", 3, 250)],
)
def test_cells_look_at_where_they_are_placed(name, layer, size):
    """Where the gradient of a cell of the middle row lies in the image is where (i + 1/2) * stride says."""
    torch.manual_seed(0)
    backbone = build_backbone(name, [layer], size, pretrained=weights_at_hand(name)).eval()
    (stride,) = backbone.strides
    image = torch.randn(1, 3, backbone.size, backbone.size, requires_grad=True)
    (features,) = backbone(image)
    count = features.shape[-1]
    assert count * stride == backbone.size
    columns = torch.arange(backbone.size) + 0.5
    for cell in range(count // 4, count - count // 4):  # nearer to the rim a cell sees less on one side
        (gradient,) = torch.autograd.grad(features[0, :, count // 2, cell].square().sum(), image, retain_graph=True)
        weight = gradient.square().sum((0, 1, 2))
        assert abs((weight * columns).sum() / weight.sum() - (cell + 0.5) * stride) <= stride / 2


def test_weights_saved_for_another_size_load_with_their_positions_interpolated(tmp_path):
    torch.manual_seed(0)
    saved = build_backbone("vit_tiny_patch16_224", [0], 160, pretrained=False).eval()
    other = build_backbone("vit_tiny_patch16_224", [0], 256, pretrained=False).eval()
    state = with_positions_of(other, saved.state_dict())
    other.load_state_dict(state)
    assert state["net.pos_embed"].shape == (1, 1 + 16 * 16, 192)
    assert torch.equal(state["net.pos_embed"][:, 0], saved.net.pos_embed[:, 0])
    corner = state["net.pos_embed"][0, 1] - saved.net.pos_embed[0, 1]
    assert corner.norm() < 0.5 * saved.net.pos_embed[0, 1].norm()
    assert all(torch.equal(state[key], value) for key, value in saved.state_dict().items() if key != "net.pos_embed")


def test_dinov2_of_another_size_has_its_authors_positions_built_or_loaded(tmp_path):
    """A tenth of a cell is in the scale factor: timm's own positions are others."""
    name = "vit_small_patch14_dinov2"
    torch.manual_seed(0)
    native = build_backbone(name, [0], 518, pretrained=False)
    path = tmp_path / "weights.pth"
    torch.save(timm.create_model(name, img_size=518).state_dict(), path)
    whole = read_state(path)
    built = build_backbone(name, [0], 168, pretrained=str(path))
    expected = published_positions(whole["pos_embed"], (12, 12))
    assert torch.equal(built.net.pos_embed, expected)
    timms = timm.create_model(name, pretrained=True, img_size=168, pretrained_cfg_overlay={"state_dict": whole})
    assert (timms.pos_embed - expected).abs().max() > 1e-3
    state = {f"net.{key}": value for key, value in native.net.state_dict().items()}
    fitted = with_positions_of(built, state)["net.pos_embed"]
    assert torch.equal(fitted, published_positions(state["net.pos_embed"], (12, 12)))


def test_a_vision_transformer_is_read_before_or_after_its_last_norm(image):
    plain = build_backbone("vit_tiny_patch16_224", None, 64, pretrained=False).eval()
    normed = build_backbone("vit_tiny_patch16_224", None, 64, pretrained=False, final_norm=True).eval()
    normed.load_state_dict(plain.state_dict(), strict=False)
    with torch.no_grad():
        before, after = plain(image)[0], normed(image)[0]
    expected = torch.nn.functional.layer_norm(before.permute(0, 2, 3, 1), (192,), eps=1e-6).permute(0, 3, 1, 2)
    torch.testing.assert_close(after, expected)


@pytest.mark.parametrize("layers", [[0, 3], [3, 4]])
def test_what_is_made_again_for_the_gradient_changes_nothing(layers, image):
    kept, remade = (build_backbone("resnet18.tv_in1k", layers, pretrained=False, remade=how) for how in (False, True))
    remade.load_state_dict(kept.state_dict())
    for backbone in (kept, remade):
        sum(maps.square().mean() for maps in backbone.train()(image)).backward()
    for (name, ours), theirs in zip(remade.named_parameters(), kept.parameters()):
        assert (ours.grad is None) == (theirs.grad is None), name
        if ours.grad is not None:
            torch.testing.assert_close(ours.grad, theirs.grad)
    for (name, ours), theirs in zip(remade.named_buffers(), kept.buffers()):
        assert torch.equal(ours, theirs), name
