"""NC-Net: its weak loss, its way with points, the checkpoints of 2018."""

from __future__ import annotations

import argparse

import pytest
import torch

from baselines.checkpoints import load_checkpoint
from baselines.ncnet import NCNet, best_matches, certainty
from sc_imagenet.core.errors import InputError
from tests.parity.references import published_shapes


def small(**changes) -> NCNet:
    torch.manual_seed(0)
    return NCNet(**{"backbone": "resnet10t", "pretrained": False, "size": 64, **changes}).eval()


def images(count: int = 2) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    return torch.randn(count, 3, 64, 64, generator=generator), torch.randn(count, 3, 64, 64, generator=generator)


def test_exchanging_the_images_exchanges_the_matches():
    model, (source, target) = small(sharpness=10.0), images()
    forth, back = model(source, target), model(target, source)
    torch.testing.assert_close(forth.permute(0, 3, 4, 1, 2), back, atol=1e-5, rtol=1e-4)


def test_untrained_it_keeps_the_order_of_the_correlation():
    """The first channel is passed through; the other channels are noise beside it."""
    model, (source, _) = small(sharpness=10.0), images()
    found = best_matches(model(source, source))
    along = torch.linspace(-1, 1, 4)
    torch.testing.assert_close(
        found, torch.stack((along.expand(4, 4), along[:, None].expand(4, 4))).expand(2, -1, -1, -1)
    )


def test_the_loss_is_wrong_pairs_less_right_pairs():
    model, (source, target) = small(sharpness=10.0), images(3)
    batch = {"source": source, "target": target}
    right = certainty(model(source, target)).mean()
    wrong = certainty(model(source[[2, 0, 1]], target)).mean()
    torch.testing.assert_close(model.training_loss(batch, 0), wrong - right, atol=1e-6, rtol=0)
    assert model.training_loss({"source": source[:1], "target": target[:1]}, 0) == 0


def test_only_the_consensus_is_trained():
    model = small()
    source, target = images()
    model.training_loss({"source": source, "target": target}, 0).backward()
    trained = {name for name, parameter in model.named_parameters() if parameter.grad is not None}
    assert trained == {f"consensus.{name}" for name, _ in model.consensus.named_parameters()}


def test_points_are_scored_from_the_centre_of_the_first_of_224_pixels():
    """Published: u = (x - 1 - 111.5) * 2 / 223 with x from 1 on in 224 pixels; the corners of the grid are +-1."""
    model = small(size=448)
    identity = torch.eye(16).view(1, 4, 4, 4, 4)
    last = 2 * 223.0
    points = torch.tensor([[[0.0, 0.0], [last, last], [last / 3, last * 2 / 3], [100.0, 31.0]]])
    torch.testing.assert_close(model.transfer(identity, points), points, atol=1e-3, rtol=0)
    beyond = torch.tensor([[[448.0, 448.0]]])
    torch.testing.assert_close(model.transfer(identity, beyond), torch.full((1, 1, 2), last), atol=1e-3, rtol=0)


def test_points_between_cells_are_blended_of_four_best_matches():
    model = small(size=448)
    matches = torch.zeros(1, 4, 4, 4, 4)
    matches[0, 0, 0] = 1  # all go to the first cell
    matches[0, 0, 3, 1, 1] = 2  # but this one to the last of the first row
    at = torch.tensor([[[1 / 3, 1 / 3], [0.5, 1 / 3]]]) * 2 * 223
    expected = torch.tensor([[[1.0, 0.0], [0.5, 0.0]]]) * 2 * 223
    torch.testing.assert_close(model.transfer(matches, at), expected, atol=1e-2, rtol=0)
    assert model.transfer(matches, at[:, :0]).shape == (1, 0, 2)


def saved_in_2018(path, **changes):
    state = {key: torch.zeros(()).expand(shape) for key, shape in published_shapes("ncnet").items()}
    state = {key.replace(".model.", ".vgg."): value for key, value in state.items() if "num_batches" not in key}
    marked = torch.zeros(5, 16, 1, 5, 5, 5)
    marked[1, 7, 0, 2, 3, 4] = 1
    state["NeighConsensus.conv.0.weight"] = marked
    content = {
        "epoch": 5,
        "args": argparse.Namespace(lr=5e-4, fe_finetune_params=1),
        "state_dict": {**state, **changes},
    }
    torch.save(content, path, _use_new_zipfile_serialization=False)
    return path


def test_a_checkpoint_of_2018_loads(tmp_path):
    assert len(published_shapes("ncnet")) == 570
    model, _ = load_checkpoint("ncnet", saved_in_2018(tmp_path / "ncnet.pth.tar"))
    assert sum(parameter.numel() for parameter in model.consensus.parameters()) == 180_033
    assert model.consensus.layers[0].weight.nonzero().tolist() == [[7, 0, 1, 2, 3, 4]]
    assert model.backbone.layers == (30,)
    assert not model.backbone.net.layer3[22].bn3.running_var.any()


def test_another_architecture_of_theirs_is_one_line(tmp_path):
    path = saved_in_2018(tmp_path / "ivd.pth.tar", **{"NeighConsensus.conv.0.weight": torch.zeros(3, 16, 1, 3, 3, 3)})
    with pytest.raises(InputError, match=r"ivd\.pth\.tar: holds NC-Net with convolutions"):
        load_checkpoint("ncnet", path)
