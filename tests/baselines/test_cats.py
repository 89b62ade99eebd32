"""CATs on small grids: its flow, its loss, its training; parity with the published code is in tests/parity."""

from __future__ import annotations

import pytest
import torch

from baselines.cats import CATs
from sc_imagenet.core.errors import InputError

SMALL = {"backbone": "resnet10t", "pretrained": False, "size": 64, "projection": 16, "heads": 2}


def small(**changes) -> CATs:
    torch.manual_seed(0)
    return CATs(**{**SMALL, **changes}).eval()


def images(count: int = 2) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    return torch.randn(count, 3, 64, 64, generator=generator), torch.randn(count, 3, 64, 64, generator=generator)


def batch(count: int = 2, points: int = 5) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(2)
    source, target = (torch.rand(count, points, 2, generator=generator) * 64 for _ in range(2))
    return {"source_points": source, "target_points": target, "valid": torch.ones(count, points, dtype=torch.bool)}


@pytest.mark.parametrize(
    "changes",
    [{}, {"layers": [4]}, {"depth": 2}, {"layers": [0, 2, 4]}, {"feature_size": 8}, {"size": 80, "projection": 11}],
)
def test_any_grid_layers_and_depth_give_a_flow_that_can_be_trained(changes):
    model = small(**changes)
    side, grid = model.size, model.feature_size
    source, target = (torch.nn.functional.interpolate(image, (side, side)) for image in images())
    flow = model(source, target)
    assert flow.shape == (2, 2, grid, grid)
    model.loss(flow, batch()).backward()
    unused = {"attn_multiscale", "norm3", "norm4", "mlp2"} if changes.get("layers") == [4] else set()
    for name, parameter in model.named_parameters():
        if parameter.requires_grad and not any(part in name for part in unused):
            assert parameter.grad is not None, name


def test_every_flow_points_into_the_source():
    flow = small()(*images())
    cells = torch.arange(4.0)
    assert (flow[:, 0] + cells).min() >= -1e-4
    assert (flow[:, 0] + cells).max() <= 3 + 1e-4


def test_pairs_of_a_batch_do_not_touch_each_other():
    model, (source, target) = small(), images()
    torch.testing.assert_close(model(source, target)[1:], model(source[1:], target[1:]), atol=1e-4, rtol=0)


def test_training_passes_source_and_target_through_the_backbone_one_after_the_other():
    model = small().train()
    model(*images())
    assert model.backbone.net.bn1.num_batches_tracked == 2
    model.backbone.eval()
    model(*images())
    assert model.backbone.net.bn1.num_batches_tracked == 2


def test_loss_is_the_mean_distance_over_supervised_cells():
    model, given = small(), batch(1, 1)
    true = model.true_flow(given)
    covered = (true != 0).any(1)
    off = torch.zeros_like(true)
    off[:, 0], off[:, 1] = 3, 4
    assert model.loss(true + off, given).item() == pytest.approx(5)
    elsewhere = torch.where(covered[:, None], true, 100)
    assert model.loss(elsewhere, given).item() == pytest.approx(0, abs=1e-6)


def test_a_cell_whose_true_flow_is_zero_does_not_count():
    model, given = small(), batch(1, 1)
    still = {**given, "source_points": given["target_points"]}
    assert model.loss(torch.full((1, 2, 4, 4), 9.0), still) == 0


def test_without_points_the_loss_is_zero_and_gradients_are_finite():
    model = small()
    empty = {**batch(), "valid": torch.zeros(2, 5, dtype=torch.bool)}
    loss = model.loss(model(*images()), empty)
    loss.backward()
    assert loss == 0
    assert all(p.grad.isfinite().all() for p in model.parameters() if p.grad is not None)


def test_what_is_in_the_padding_does_not_matter():
    model, flow = small(), torch.randn(2, 2, 4, 4)
    given = batch(points=5)
    padded = {key: torch.cat((value, torch.full_like(value[:, :2], 0)), 1) for key, value in given.items()}
    padded["source_points"][:, 5:] = torch.nan
    padded["target_points"][:, 5:] = 17.0
    assert model.loss(flow, padded) == model.loss(flow, given)


def test_points_are_carried_by_whole_pixels():
    model, flow = small(), torch.zeros(1, 2, 4, 4)
    flow[:, 1] = -1
    assert model.transfer(flow, torch.tensor([[[20.9, 40.2]]])).tolist() == [[[20.0, 24.0]]]
    assert model.transfer(flow, torch.zeros(1, 0, 2)).shape == (1, 0, 2)


def test_heads_that_do_not_divide_the_channels_are_one_clear_error():
    with pytest.raises(InputError, match=r"4 x 4 cells \+ 17 .* projection=20 would do"):
        small(projection=17)


def test_saved_and_loaded_it_is_the_same(tmp_path):
    model = small(layers=[2, 4])
    model.save_pretrained(tmp_path)
    again = CATs.from_pretrained(tmp_path).eval()
    assert again.backbone.layers == (2, 4)
    assert torch.equal(model(*images()), again(*images()))


def test_a_frozen_backbone_gets_no_gradient():
    model = small()
    model.backbone.requires_grad_(False)
    model.loss(model(*images()), batch()).backward()
    assert all(parameter.grad is None for parameter in model.backbone.parameters())
    assert model.proj[0].weight.grad is not None
