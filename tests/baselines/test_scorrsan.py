"""SCorrSAN on small grids: its context, its flow where it is asked for, two networks that learn from each other."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from baselines import scorrsan
from baselines.scorrsan import (
    SCorrSAN,
    SpatialContextEncoder,
    finest_coarse_layer,
    mutual_loss,
    remembered,
    self_similarity,
    small_loss,
)
from sc_imagenet.backbones.backbone import build_backbone
from sc_imagenet.core.errors import InputError
from sc_imagenet.geometry.correlation import resize_source, resize_target
from sc_imagenet.geometry.flow import carry_points, cells_read, end_point_error, labelled, mapping_to_flow
from sc_imagenet.geometry.soft_argmax import soft_argmax
from tests.baselines.test_cats import batch, images

SMALL = {"backbone": "resnet10t", "pretrained": False, "size": 64, "context": 3, "width": 16}


def small(**changes) -> SCorrSAN:
    torch.manual_seed(0)
    return SCorrSAN(**{**SMALL, **changes}).eval()


def given(count: int = 2, points: int = 5) -> dict[str, torch.Tensor]:
    source, target = images(count)
    return {**batch(count, points), "source": source, "target": target}


def shifted_products(features, offsets):
    """Cell by cell, as the paper defines it."""
    similar = torch.zeros(features.shape[0], len(offsets), *features.shape[2:])
    height, width = features.shape[2:]
    for n, (dy, dx) in enumerate(offsets):
        for row in range(height):
            for column in range(width):
                if 0 <= row + dy < height and 0 <= column + dx < width:
                    product = features[:, :, row + dy, column + dx] * features[:, :, row, column]
                    similar[:, n, row, column] = product.sum(1)
    return similar


@pytest.mark.parametrize(("height", "width", "context"), [(5, 4, 3), (3, 6, 7), (1, 2, 5)])
def test_context_is_the_similarity_to_the_cells_on_four_lines(height, width, context):
    features = torch.randn(2, 6, height, width, generator=torch.Generator().manual_seed(0))
    offsets = SpatialContextEncoder(6, context, 1).offsets
    assert len(offsets) == 4 * context
    assert offsets.count((0, 0)) == 4
    torch.testing.assert_close(self_similarity(features, offsets), shifted_products(features, offsets))


def test_lines_are_in_the_published_order():
    """Main diagonal, column, anti-diagonal from the upper right, row."""
    assert SpatialContextEncoder(1, 3, 1).offsets == [
        *((-1, -1), (0, 0), (1, 1)),
        *((-1, 0), (0, 0), (1, 0)),
        *((-1, 1), (0, 0), (1, -1)),
        *((0, -1), (0, 0), (0, 1)),
    ]


def dense_flow(model: SCorrSAN, correlation: torch.Tensor) -> torch.Tensor:
    """The published way: both grids are up-sampled, the whole volume is held."""
    coarse, fine = (model.coarse, model.coarse), (model.fine, model.fine)
    volume = resize_target(resize_source(correlation, coarse, fine), coarse, fine).unflatten(1, fine)
    mapping = soft_argmax(volume, model.heads[0].x_normal, model.heads[0].y_normal, scorrsan.TEMPERATURE)
    return mapping_to_flow(mapping.unflatten(2, fine))


def test_flow_is_that_of_the_whole_upsampled_volume():
    model = small()
    with torch.no_grad():
        correlation = model(*images())
        expected = dense_flow(model, correlation)
        torch.testing.assert_close(model.flow(correlation), expected, atol=1e-4, rtol=0)
        cells = torch.rand(expected[:, 0].shape) > 0.7
        some = model.flow(correlation, cells).movedim(1, -1)
    torch.testing.assert_close(some[cells], expected.movedim(1, -1)[cells], atol=1e-4, rtol=0)


def test_carrying_points_reads_the_flow_where_they_are():
    model = small()
    points = torch.rand(2, 30, 2) * 70 - 3
    with torch.no_grad():
        correlation = model(*images())
        carried = model.transfer(correlation, points)
        torch.testing.assert_close(carried, carry_points(dense_flow(model, correlation), points, 64), atol=1e-3, rtol=0)
    assert cells_read(points[:, :1], 64, model.fine).sum() <= 8


def test_loss_and_gradients_are_those_of_the_dense_flow():
    model, pairs = small(), given()
    grads = []
    for flow in (lambda c: model.flow(c, labelled(model.true_flow(pairs))), lambda c: dense_flow(model, c)):
        model.zero_grad()
        end_point_error(flow(model(pairs["source"], pairs["target"])), model.true_flow(pairs)).backward()
        grads.append({name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None})
    assert grads[0].keys() == grads[1].keys()
    for name, ours in grads[0].items():
        torch.testing.assert_close(ours, grads[1][name], rtol=1e-3, atol=1e-4 * grads[1][name].abs().max().item())


def test_two_networks_learn_from_the_points_and_later_from_each_other():
    model, pairs = small(networks=2, pseudo_start=3), given()
    true = model.true_flow(pairs)
    cells = F.max_pool2d(labelled(true).float(), 7, 1, 3) > 0
    with torch.no_grad():
        flows = [model.flow(model.correlate(pairs["source"], pairs["target"], k), None, k) for k in range(2)]
        alone = sum(end_point_error(flow, true) for flow in flows)
        for epoch in (0, 2):
            torch.testing.assert_close(model.training_loss(pairs, epoch), alone, rtol=1e-4, atol=0)
        for epoch in (3, 20):
            expected = alone + 10 * mutual_loss(*flows, cells, remembered(epoch - 3))
            torch.testing.assert_close(model.training_loss(pairs, epoch), expected, rtol=1e-4, atol=0)
    model.training_loss(pairs, 3).backward()
    assert all(p.grad is not None for p in model.parameters() if p.requires_grad)


def test_one_network_has_no_partner():
    model, pairs = small(pseudo_start=0), given()
    with torch.no_grad():
        alone = model.loss(model(pairs["source"], pairs["target"]), pairs)
        torch.testing.assert_close(model.training_loss(pairs, 5), alone)


def test_the_largest_disagreements_do_not_count_and_the_partner_is_not_moved():
    first, second = torch.zeros(1, 2, 2, 5, requires_grad=True), torch.zeros(1, 2, 2, 5, requires_grad=True)
    apart = torch.arange(10.0).view(1, 1, 2, 5)
    cells = torch.ones(1, 2, 5, dtype=torch.bool)
    loss = small_loss(first + apart * torch.tensor([1.0, 0.0]).view(1, 2, 1, 1), second.detach(), cells, 0.4)
    assert loss.item() == pytest.approx((0 + 1 + 2 + 3) / 4)
    loss.backward()
    assert first.grad[0, 0].flatten().count_nonzero() == 3
    assert second.grad is None
    cells[0, 0] = False
    assert small_loss(first + apart, second, cells, 0.01).item() == pytest.approx(5 * 2**0.5)


def test_without_points_there_is_nothing_to_learn_and_no_nan():
    model, pairs = small(networks=2, pseudo_start=0), given()
    loss = model.training_loss({**pairs, "valid": torch.zeros_like(pairs["valid"])}, 0)
    loss.backward()
    assert loss == 0
    assert all(p.grad.isfinite().all() for p in model.parameters() if p.grad is not None)


@pytest.mark.parametrize(
    ("name", "size", "coarse"), [("tf_efficientnet_lite0", 64, 4), ("resnet18", 80, 5), ("vit_tiny_patch16_224", 64, 4)]
)
def test_any_backbone_is_read_at_its_finest_coarse_cells(name, size, coarse):
    model = small(backbone=name, size=size)
    assert model.coarse == coarse
    with torch.no_grad():
        assert model(*(torch.zeros(1, 3, size, size) for _ in range(2))).shape == (1, coarse**2, coarse**2)
    assert model.backbone[0].layers == (finest_coarse_layer(name, size),)


def test_later_stages_are_not_computed():
    model = small(backbone="resnet101", layers=None)
    assert model.backbone[0].layers == (30,)
    reached = []
    for name in ("layer3", "layer4"):
        getattr(model.backbone[0].net, name)[0].conv1.register_forward_hook(lambda *_, name=name: reached.append(name))
    with torch.no_grad():
        model(*images(1))
    assert set(reached) == {"layer3"}
    assert not any(p.requires_grad for p in model.backbone[0].net.layer4.parameters())


@pytest.mark.parametrize(
    ("changes", "message"),
    [({"context": 4}, "no middle"), ({"networks": 3}, "networks=3"), ({"layers": [1, 2]}, r"one layer, not \[1, 2\]")],
)
def test_arguments_that_make_no_sense_are_one_line(changes, message):
    with pytest.raises(InputError, match=message):
        small(**changes)


def test_both_roles_have_their_own_batch_statistics():
    model = small(networks=2).train()
    model(*images())
    assert [backbone.net.bn1.num_batches_tracked.item() for backbone in model.backbone] == [2, 0]
    published_order = build_backbone("resnet10t", [2], pretrained=False).train()
    published_order.load_state_dict(small(layers=[2]).backbone[0].state_dict())
    read = small(layers=[2]).train()
    source, target = images()
    read(source, target)
    published_order(target)
    published_order(source)
    torch.testing.assert_close(read.backbone[0].net.bn1.running_mean, published_order.net.bn1.running_mean)
