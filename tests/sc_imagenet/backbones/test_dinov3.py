"""DINOv3 (Simeoni et al., 2025) as timm builds it: small, with random weights, against what its authors state."""

from __future__ import annotations

import math

import pytest
import timm
import torch

from sc_imagenet.backbones.backbone import build_backbone

NAME = "vit_tiny_patch16_dinov3_qkvb"
pytestmark = pytest.mark.skipif(not timm.is_model(NAME), reason=f"this timm ({timm.__version__}) has no DINOv3")


def built(size: int, final_norm: bool = False, name: str = NAME):
    torch.manual_seed(0)
    return build_backbone(name, None, size, False, final_norm=final_norm).eval()


@pytest.mark.parametrize("name", [NAME, "vit_small_patch16_dinov3", "vit_small_patch16_dinov3_qkvb"])
def test_the_last_block_is_read_without_class_and_register_tokens(name):
    images = torch.randn(1, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    before, after = built(64, name=name), built(64, True, name)
    whole = timm.create_model(name, num_classes=0, img_size=64).eval()
    after.net.load_state_dict(whole.state_dict())
    before.net.load_state_dict(whole.state_dict(), strict=False)
    with torch.no_grad():
        tokens = whole.forward_features(images)
        (normed,), (plain,) = after(images), before(images)
    assert (before.strides, before.has_class_token, tokens.shape[1]) == ((16,), True, 5 + 16)
    torch.testing.assert_close(normed.flatten(2).mT, tokens[:, 5:])
    expected = torch.nn.functional.layer_norm(plain.flatten(2).mT, plain.shape[1:2], eps=1e-5)
    torch.testing.assert_close(normed.flatten(2).mT, expected, rtol=1e-4, atol=1e-5)


def test_images_of_other_sizes_need_no_other_weights():
    small, large = built(64), built(240)
    assert (small.size, built(250).size) == (64, 256)
    assert small.state_dict().keys() == large.state_dict().keys()
    large.load_state_dict(small.state_dict())
    images = torch.randn(1, 3, 240, 240, generator=torch.Generator().manual_seed(0))
    assert large(images)[0].shape == (1, 192, 15, 15)


def test_places_are_angles_of_coordinates_from_minus_one_to_one():
    """Base 100, cells' centres over each side by itself, heads of 64: 16 periods of rows, then of columns, twice."""
    rows, columns = 15, 10
    embedding = built(64).net.rope.get_embed((rows, columns))
    periods = 100 ** (torch.arange(16) / 16)
    across = ((torch.arange(count) + 0.5) / count * 2 - 1 for count in (rows, columns))
    down, along = torch.meshgrid(*across, indexing="ij")
    angles = torch.cat([2 * math.pi * each.flatten()[:, None] / periods for each in (down, along)], 1).repeat(1, 2)
    torch.testing.assert_close(embedding, torch.cat((angles.sin(), angles.cos()), 1), rtol=1e-4, atol=1e-5)


def test_keys_have_no_bias():
    attention = built(64).net.blocks[0].attn
    assert not attention.k_bias.any()
    assert "k_bias" not in dict(attention.named_parameters())
