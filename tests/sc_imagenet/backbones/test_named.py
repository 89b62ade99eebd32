"""Backbones by what a person types: one network or several, each with its options."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from baselines.nearest import Nearest
from sc_imagenet.backbones.backbone import build_backbone
from sc_imagenet.backbones.named import FusedBackbone, build_named, parse_backbone
from sc_imagenet.core.errors import InputError


@pytest.fixture
def images():
    return torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))


def test_a_name_alone_is_timm_s_backbone(images):
    torch.manual_seed(0)
    named = build_named("resnet10t", [2, 3], 64, False).eval()
    torch.manual_seed(0)
    plain = build_backbone("resnet10t", [2, 3], 64, False).eval()
    assert all(torch.equal(one, other) for one, other in zip(named(images), plain(images)))


def test_options_stand_before_what_is_given_to_all():
    named = build_named("vit_tiny_patch16_224 layers=-1,3 size=96 final_norm=true", [5], 64, False)
    assert (named.layers, named.size, named._norm) == ((3, 11), 96, True)


def test_the_similarity_is_the_weighted_mean_of_the_networks_cosines(images):
    """Of two networks of their own sizes and normalisations; the layers of one side by side, as they are."""
    text = "resnet10t layers=2,3 size=64 weight=3 + vit_tiny_patch16_224 size=48 layers=2"
    torch.manual_seed(0)
    matcher = Nearest(text, pretrained=False, standardise=False).eval()
    assert isinstance(matcher.backbone, FusedBackbone)
    assert (matcher.size, matcher.mean, matcher.std) == (64, (0, 0, 0), (1, 1, 1))
    cnn, vit = matcher.backbone.net
    with torch.no_grad():
        (found,) = matcher.encode(images)
        mean, std = (torch.tensor(each).view(3, 1, 1) for each in (cnn.mean, cnn.std))
        fine, coarse = cnn((images - mean) / std)
        one = torch.cat((fine, F.interpolate(coarse, fine.shape[-2:], mode="bilinear")), 1)
        smaller = F.interpolate(images, (48, 48), mode="bilinear", antialias=True)
        mean, std = (torch.tensor(each).view(3, 1, 1) for each in (vit.mean, vit.std))
        (two,) = vit((smaller - mean) / std)
        two = F.interpolate(two, one.shape[-2:], mode="bilinear")
        cosines = [F.normalize(each, dim=1).flatten(2) for each in (one, two)]
    expected = sum(share * each[0].T @ each[1] for share, each in zip((0.75, 0.25), cosines))
    torch.testing.assert_close(found[0].flatten(1).T @ found[1].flatten(1), expected)
    assert found.shape == (2, sum(cnn.channels) + 192, *fine.shape[-2:])


def test_a_network_of_weight_nothing_says_nothing(images):
    torch.manual_seed(0)
    both = Nearest("resnet10t layers=3 size=64 + resnet18 size=64 weight=0", pretrained=False).eval()
    alone = Nearest("resnet10t", [3], 64, pretrained=False).eval()
    alone.backbone.load_state_dict(both.backbone.net[0].state_dict())
    alone.mean, alone.std = both.mean, both.std
    with torch.no_grad():
        normalised = (images - torch.tensor(alone.backbone.mean).view(3, 1, 1)) / torch.tensor(alone.backbone.std).view(
            3, 1, 1
        )
        one, two = both.encode(images)[0], alone.encode(normalised)[0]
    torch.testing.assert_close(one[:, : two.shape[1]], two)
    assert not one[:, two.shape[1] :].any()


def test_saved_and_loaded_several_networks_are_the_same(images, tmp_path):
    matcher = Nearest("resnet10t size=64 + vit_tiny_patch16_224 size=48", pretrained=False).eval()
    matcher.save_pretrained(tmp_path)
    assert torch.equal(matcher.encode(images)[0], Nearest.from_pretrained(tmp_path).encode(images)[0])


def test_weights_of_one_network_come_from_a_file(tmp_path, images):
    import timm

    source = timm.create_model("resnet10t").eval()
    torch.save(source.state_dict(), tmp_path / "own weights.pth")
    text = f"resnet10t size=64 weights='{tmp_path / 'own weights.pth'}'"
    assert parse_backbone(text)[0].files == [tmp_path / "own weights.pth"]
    assert torch.equal(build_named(text).net.conv1[0].weight, source.conv1[0].weight)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "lacks a name"),
        ("resnet18 +", "lacks a name"),
        ("size=64", "lacks a name"),
        ("resnet18 colour=red", "unknown option of backbone resnet18 'colour'"),
        ("resnet18 ensemble=3", "unknown option of backbone resnet18 'ensemble'"),
        ("resnet18 layers=two", "numbers, such as 8,11"),
        ("resnet18 size=big", "a whole number"),
        ("resnet18 weight=-1", "from 0 on"),
        ("resnet18 weight=nan", "from 0 on"),
        ("resnet18 final_norm=perhaps", "true or false"),
        ("resnet18 'size=64", "in pairs"),
        ("resnet18 weight=0 + resnet10t weight=0", "no network a weight"),
        ("resnet18 + no_such_network", "no backbone 'no_such_network'"),
    ],
)
def test_what_is_no_backbone_is_one_line(text, said):
    with pytest.raises(InputError, match=said) as raised:
        build_named(text, size=64, pretrained=False)
    assert "\n" not in str(raised.value)


def test_layers_and_weights_of_several_networks_stand_in_the_text():
    with pytest.raises(InputError, match="Write layers="):
        build_named("resnet10t + resnet18", [1], 64, False)
    with pytest.raises(InputError, match="Write weights="):
        build_named("resnet10t + resnet18", None, 64, "file.pth")
