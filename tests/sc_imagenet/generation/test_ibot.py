"""iBOT's released teachers: key names, interpolated positions, and what does not fit."""

from __future__ import annotations

import pytest
import torch

from sc_imagenet.backbones.pretrained import create_network
from sc_imagenet.core.errors import InputError
from sc_imagenet.generation.features import FeatureReader

NAME = "vit_tiny_patch16_224"


@pytest.fixture
def teacher():
    """A teacher's state under iBOT's names, of a small vision transformer at 224 px."""
    net = create_network(NAME, False, 224)
    state = {f"backbone.{key}": value for key, value in net.state_dict().items() if not key.startswith("head.")}
    return {**state, "backbone.masked_embed": torch.zeros(1, 192), "head.mlp.0.weight": torch.zeros(8, 192)}


@pytest.mark.parametrize("wrapper", ["state_dict", "teacher"])
def test_a_teacher_gives_the_tokens_of_the_network_it_was(teacher, wrapper, tmp_path):
    torch.save({wrapper: teacher}, tmp_path / "teacher.pth")
    reader = FeatureReader(NAME, size=224, pretrained=str(tmp_path / "teacher.pth"), pooling=1.0, standardise=False)
    net = create_network(NAME, False, 224)
    net.load_state_dict(
        {key.removeprefix("backbone."): value for key, value in teacher.items() if "masked" not in key}, strict=False
    )
    image = torch.randn(1, 3, 224, 224)
    with torch.no_grad():
        whole = net.eval().forward_features(image)
    read = reader(image)
    tokens = torch.nn.functional.normalize(whole[:, 1:], dim=-1).transpose(1, 2).unflatten(2, (14, 14))
    torch.testing.assert_close(read.tokens, tokens, atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(read.global_token, torch.nn.functional.normalize(whole[:, 0], dim=-1))


def test_positions_are_interpolated_to_the_input(teacher, tmp_path):
    torch.save({"state_dict": teacher}, tmp_path / "teacher.pth")
    reader = FeatureReader(NAME, size=256, pretrained=str(tmp_path / "teacher.pth"), pooling=1.0)
    assert reader(torch.randn(1, 3, 256, 256)).tokens.shape == (1, 192, 16, 16)


def test_what_does_not_fit_is_named(teacher, tmp_path):
    torch.save({"state_dict": teacher}, tmp_path / "teacher.pth")
    with pytest.raises(InputError, match=r"has another shape of .*vit_base_patch16_224"):
        FeatureReader(
            "vit_small_patch16_224", size=224, pretrained=str(tmp_path / "teacher.pth"), pooling=1.0, standardise=False
        )
    del teacher["backbone.blocks.3.mlp.fc1.weight"]
    torch.save({"state_dict": teacher}, tmp_path / "teacher.pth")
    with pytest.raises(InputError, match=r"lacks blocks\.3\.mlp\.fc1\.weight"):
        FeatureReader(NAME, size=224, pretrained=str(tmp_path / "teacher.pth"), pooling=1.0, standardise=False)
