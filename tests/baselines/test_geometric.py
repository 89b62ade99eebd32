"""CNNGeo, A2Net and Weakalign: published files of weights, what is learnt of which pairs, inliers and offsets."""

from __future__ import annotations

import argparse

import pytest
import torch

from baselines.a2net import A2Net, by_offset
from baselines.checkpoints import load_checkpoint
from baselines.cnngeo import CNNGeo
from baselines.geometric import key_of, pixels, products, unit_coordinates
from baselines.weakalign import Weakalign, composed_positions, inlier_positions, inliers, reached
from sc_imagenet.core.errors import InputError
from sc_imagenet.geometry.transformations import AFFINE, IDENTITY, SPLINE, lattice, transform
from tests.parity.filling import geometric_state
from tests.parity.references import published_shapes

MODELS = (CNNGeo, A2Net, Weakalign)


def small(model=CNNGeo, **changes):
    torch.manual_seed(0)
    return model(**{"backbone": "resnet10t", "pretrained": False, "size": 192, **changes})


def batch_of(count: int = 3) -> dict[str, torch.Tensor]:
    """Synthetic pairs in form: affine ones and, last, one of a spline."""
    generator = torch.Generator().manual_seed(1)
    images = torch.randn(2, count, 3, 192, 192, generator=generator)
    grid = lattice(20, images).expand(count, -1, -1)
    theta = torch.tensor([IDENTITY[AFFINE]]).repeat(count, 1) + 0.1 * torch.randn(count, 6, generator=generator)
    parameters = torch.tensor([AFFINE] * (count - 1) + [SPLINE])
    return {"source": images[0], "target": images[1], "warp": transform(theta, grid), "warp_parameters": parameters}


def published_file(path, shapes, spline=False, older=False, change=0.0):
    """A file as the authors' script of PyTorch 0.2 wrote it, its options beside the weights."""
    state = geometric_state(published_shapes(shapes), spline)
    state["FeatureExtraction.model.0.weight"] += change
    if older:
        state = {
            key.replace("Extraction.model", "Extraction.vgg"): value
            for key, value in state.items()
            if not key.endswith("num_batches_tracked")
        }
    torch.save({"epoch": 20, "args": argparse.Namespace(lr=1e-3), "state_dict": state}, path)
    return path


def test_a_file_of_one_network_is_a_model_of_one_and_two_files_are_one_of_both(tmp_path):
    affine = published_file(tmp_path / "affine.pth.tar", "cnngeo_vgg16", older=True)
    spline = published_file(tmp_path / "tps.pth.tar", "cnngeo_vgg16", spline=True)
    one, _ = load_checkpoint("cnngeo", affine)
    other, _ = load_checkpoint("cnngeo", spline)
    assert (one.spline, other.affine) == (None, None)
    both = CNNGeo.from_published(affine, spline)
    assert both.spline_backbone is None
    source, target = torch.randn(2, 1, 3, 240, 240, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        found = both(source, target)
        torch.testing.assert_close(found.affine, one(source, target).affine)
    assert found.spline.shape == (1, SPLINE)
    with pytest.raises(InputError, match="are no two networks of one model"):
        CNNGeo.from_published(spline, affine)


def test_each_network_keeps_the_backbone_of_its_own_file(tmp_path):
    affine = published_file(tmp_path / "affine.pth.tar", "cnngeo_vgg16")
    spline = published_file(tmp_path / "tps.pth.tar", "cnngeo_vgg16", spline=True, change=0.1)
    both = CNNGeo.from_published(affine, spline)
    weights = [network.net.features[0].weight for network in (both.backbone, both.spline_backbone)]
    torch.testing.assert_close(weights[1], weights[0] + 0.1)


def test_keys_of_both_networks_in_one_file():
    assert key_of("FeatureRegression.linear.bias") == "affine.linear.bias"
    assert key_of("FeatureRegression2.conv.3.weight") == "spline.conv.3.weight"
    assert key_of("FeatureExtraction.model.4.0.conv1.weight") == "backbone.net.layer1.0.conv1.weight"


@pytest.mark.parametrize("model", MODELS)
def test_untrained_nothing_moves(model):
    built, batch = small(model).eval(), batch_of(1)
    points = torch.rand(1, 5, 2, generator=torch.Generator().manual_seed(2)) * 192
    torch.testing.assert_close(built.transfer(built(batch["source"], batch["target"]), points), points)


def test_of_a_synthetic_pair_only_the_network_of_its_kind_learns():
    model, batch = small(), batch_of()
    affine_only = {key: value[:2] for key, value in batch.items()}
    model.training_loss(affine_only, 0).backward()
    assert model.affine.linear.bias.grad is not None
    assert model.spline.linear.bias.grad is None
    model.training_loss(batch, 0).backward()
    assert model.spline.linear.bias.grad is not None


def test_the_loss_is_the_mean_squared_distance_of_the_lattice():
    model, batch = small(), batch_of()
    still = lattice(20, batch["warp"]).expand(3, -1, -1)
    torch.testing.assert_close(model.training_loss(batch, 0), (still - batch["warp"]).square().sum(-1).mean())


def test_keypoints_are_learnt_by_both_networks_and_padding_by_none():
    model, batch = small(), batch_of()
    points = torch.rand(3, 4, 2, generator=torch.Generator().manual_seed(3)) * 192
    valid = torch.tensor([[True, True, False, False]]).expand(3, -1)
    known = {"source": batch["source"], "target": batch["target"], "target_points": points, "valid": valid}
    wrong = points.clone()
    wrong[:, 2:] += 50
    loss = model.training_loss({**known, "source_points": wrong}, 0)
    torch.testing.assert_close(loss, torch.zeros(()), atol=1e-10, rtol=0)
    wrong[:, :2] += pixels(torch.tensor([0.3, 0.4]), 192) - pixels(torch.zeros(2), 192)
    torch.testing.assert_close(model.training_loss({**known, "source_points": wrong}, 0), torch.tensor(0.5))


def test_one_photograph_can_be_learnt_by_heart():
    """The grid loss falls to less than a quarter of that of the identity."""
    model, batch = small(stages="affine"), batch_of(2)
    model.backbone.requires_grad_(False)
    model.train().backbone.eval()
    optimiser = torch.optim.Adam((value for value in model.parameters() if value.requires_grad), lr=1e-3)
    losses = []
    for _ in range(25):
        loss = model.training_loss(batch, 0)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    assert losses[-1] < losses[0] / 4


def test_source_cells_are_counted_down_the_columns():
    source = torch.zeros(1, 1, 3, 4)
    source[0, 0, 2, 1] = 1.0
    assert products(source, torch.ones(1, 1, 2, 2))[0, :, 0, 0].nonzero().item() == 2 + 3 * 1


def test_unit_coordinates_are_those_of_the_authors_frame_of_224():
    torch.testing.assert_close(unit_coordinates(torch.tensor([0.0, 223.0 * 240 / 224]), 240), torch.tensor([-1.0, 1.0]))


def test_an_inlier_mask_holds_the_bilinear_shares_of_the_cells_reached():
    grid = lattice(5, torch.zeros(())).view(1, 5, 5, 2)
    still = reached(grid, 5)
    # The identity reaches of each cell itself: row + 5 * column.
    assert still.argmax(1)[0].tolist() == [[row + 5 * column for column in range(5)] for row in range(5)]
    torch.testing.assert_close(reached(0.9 * grid + 0.01, 5).sum(1), torch.ones(1, 5, 5))
    assert reached(grid + 3, 5).sum() == 0


def test_inliers_are_most_where_the_transformation_is_the_true_one():
    cells = 9
    true = torch.tensor([[0.8, 0.1, 0.1, -0.1, 0.8, 0.0]])
    spline = torch.tensor([IDENTITY[SPLINE]])
    correlation = reached(inlier_positions(true, cells), cells)
    counts = {}
    for name, theta in (("true", true), ("identity", torch.tensor([IDENTITY[AFFINE]])), ("off", true + 0.1)):
        counts[name] = inliers(correlation, theta, spline).item()
    assert counts["true"] > 1.2 * max(counts["identity"], counts["off"])


def test_a_composed_cell_counts_only_where_the_spline_and_the_four_cells_around_it_lie_inside():
    spline, affine = torch.tensor([IDENTITY[SPLINE]]) * 0.9, torch.tensor([IDENTITY[AFFINE]]) * 0.9
    inside = reached(composed_positions(affine, spline, 9), 9).sum(1)
    torch.testing.assert_close(inside, torch.ones(1, 9, 9))
    aside = affine + torch.tensor([0.0, 0.0, 0.35, 0.0, 0.0, 0.0])  # its last columns lie outside
    counted = reached(composed_positions(aside, spline, 9), 9).sum(1)[0]
    assert counted[:, 0].min() > 0.99
    assert counted[:, -1].max() == 0


def test_without_keypoints_weakalign_counts_inliers_and_leaves_statistics_alone():
    model, batch = small(Weakalign).train(), batch_of()
    before = {name: value.clone() for name, value in model.named_buffers() if not name.startswith("backbone")}
    pairs = {"source": batch["source"], "target": batch["target"]}
    loss = model.training_loss(pairs, 0)
    assert loss < 0
    loss.backward()
    assert model.affine.linear.weight.grad.abs().sum() > 0
    assert model.spline.linear.weight.grad.abs().sum() > 0
    assert all(torch.equal(value, before[name]) for name, value in model.named_buffers() if name in before)


def test_weights_of_cnngeo_are_weights_of_weakalign_and_not_of_a2net(tmp_path):
    small().save_pretrained(tmp_path)
    loaded, _ = load_checkpoint("weakalign", tmp_path)
    assert isinstance(loaded, Weakalign)
    with pytest.raises(InputError, match="holds weights of cnngeo, not of a2net"):
        load_checkpoint("a2net", tmp_path)


def test_offsets_pair_the_source_s_column_with_the_target_s_row():
    cells = 3
    correlation = torch.rand(1, 9, 3, 3, generator=torch.Generator().manual_seed(0))
    expected = torch.zeros(1, 25, 3, 3)
    for row in range(cells):
        for column in range(cells):
            for row_b in range(cells):
                for column_b in range(cells):
                    channel = 5 * (2 + column - row_b) + 2 + row - column_b
                    expected[0, channel, row_b, column_b] = correlation[0, row + cells * column, row_b, column_b]
    assert torch.equal(by_offset(correlation), expected)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"stages": "homography"}, "homography"),
        ({"size": 128}, "8 cells along a side"),
        ({"layers": [2, 3]}, "Give one layer"),
    ],
)
def test_what_no_model_can_be_built_of_is_one_line(arguments, message):
    with pytest.raises(InputError, match=message):
        small(**arguments)
