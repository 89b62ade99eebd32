"""SemiMatch: which matches it trusts, what it changes in the strong view, and that it trains."""

from __future__ import annotations

import pytest
import torch

from baselines import semimatch
from baselines.cats import CATs
from baselines.checkpoints import load_checkpoint
from baselines.semimatch import SemiMatch, grids, key_out, random_warps, there_and_back
from sc_imagenet.geometry.warps import affine_grid
from tests.baselines.test_cats import SMALL, batch, images

NAN = float("nan")


def small(**changes) -> SemiMatch:
    torch.manual_seed(0)
    return SemiMatch(**{**SMALL, **changes}).eval()


def given(count: int = 2) -> dict[str, torch.Tensor]:
    source, target = images(count)
    whole = torch.tensor([0.0, 0.0, 64.0, 64.0]).expand(count, 4)
    return {**batch(count), "source": source, "target": target, "source_bbox": whole, "target_bbox": whole}


def unmoved() -> tuple[torch.Tensor]:
    return (affine_grid(torch.zeros(1), torch.zeros(1), torch.ones(1, 2), torch.zeros(1, 2), 4),)


def one_to_one(matches: dict[int, int], score: float = 1.0) -> torch.Tensor:
    """A correlation (1, 16 source cells, 16 target cells) with these target -> source matches."""
    correlation = torch.zeros(1, 16, 16)
    for target, source in matches.items():
        correlation[0, source, target] = score
    return correlation


def test_a_sure_mutual_match_within_both_boxes_is_trusted():
    model, pairs = small(), given(1)
    labels, weights = model.pseudo_labels(one_to_one({5: 6, 9: 10}), pairs, unmoved())
    assert weights[0].nonzero().flatten().tolist() == [5, 9]
    assert labels[0, [5, 9]].tolist() == [6, 10]
    assert 0 < weights[0, 5] < 1
    sharper = small(temperature=0.05).pseudo_labels(one_to_one({5: 6}), pairs, unmoved())[1]
    assert sharper[0, 5] > weights[0, 5]


@pytest.mark.parametrize("box", ["source_bbox", "target_bbox"])
def test_outside_the_box_nothing_is_trusted(box):
    model, pairs = small(), given(1)
    upper_left = {**pairs, box: torch.tensor([[0.0, 0.0, 17.0, 17.0]])}  # cells 0 and 1 of each axis
    weights = model.pseudo_labels(one_to_one({5: 5, 10: 10}), upper_left, unmoved())[1]
    assert weights[0].nonzero().flatten().tolist() == [5]
    nowhere = {**pairs, box: torch.full((1, 4), NAN)}
    assert model.pseudo_labels(one_to_one({5: 5, 10: 10}), nowhere, unmoved())[1].count_nonzero() == 2


def test_an_unsure_match_is_not_trusted():
    pairs, faint = given(1), one_to_one({5: 6}, score=0.2)
    assert not small().pseudo_labels(faint, pairs, unmoved())[1].any()
    assert small(confidence=0.1).pseudo_labels(faint, pairs, unmoved())[1][0, 5] > 0


def test_a_match_that_does_not_lead_back_is_not_trusted():
    correlation = one_to_one({0: 5, 15: 5})
    correlation[0, 5, 15] = 2.0  # source cell 5 belongs to target cell 15
    assert there_and_back(correlation, (4, 4))[0, [0, 15]].tolist() == [False, True]
    neighbours = one_to_one({5: 5, 6: 5})
    neighbours[0, 5, 6] = 2.0  # one cell off is near enough only after long ways
    assert not there_and_back(neighbours, (4, 4))[0, 5]
    far = one_to_one({2: 15, 3: 15})
    far[0, 15, 3] = 2.0
    assert there_and_back(far, (4, 4))[0, 2]


def test_labels_are_warped_as_the_pixels_are():
    one_cell_left = affine_grid(torch.zeros(1), torch.zeros(1), torch.ones(1, 2), torch.tensor([[0.5, 0.0]]), 4)
    labels, weights = small().pseudo_labels(one_to_one({5: 6, 4: 12}), given(1), (one_cell_left,))
    assert weights[0].nonzero().flatten().tolist() == [4]
    assert labels[0, 4] == 6


def test_the_unsupervised_loss_falls_where_the_strong_view_agrees():
    model, pairs, plain = small(), given(1), one_to_one({5: 6})
    agreeing, other = one_to_one({5: 6}), one_to_one({5: 7})
    losses = [model.unsupervised_loss(strong, plain, pairs, unmoved()) for strong in (agreeing, other)]
    assert losses[0] < losses[1]
    assert model.unsupervised_loss(other, torch.zeros_like(plain), pairs, unmoved()) == 0


def test_keyout_cuts_squares_around_valid_keypoints_only():
    torch.manual_seed(0)
    seen = torch.ones(1, 3, 64, 64)
    points = torch.tensor([[[20.0, 40.0], [50.0, 10.0]]])
    pairs = {"target_points": points, "target_bbox": torch.full((1, 4), NAN), "valid": torch.tensor([[True, False]])}
    black = (key_out(seen, pairs, 1.0) == 0).all(1)[0].nonzero()
    assert len(black) > 0
    assert (black - torch.tensor([40, 20])).abs().max() <= 3
    side = len(black) ** 0.5
    assert side in (1, 2, 3, 4, 5)
    assert torch.equal(key_out(seen, pairs, 0.0), seen)
    on_the_border = {**pairs, "target_points": torch.tensor([[[64.0, 0.0], [0.0, 64.0]]])}
    assert key_out(seen, on_the_border, 1.0).isfinite().all()


def test_random_warps_stay_within_their_ranges_and_follow_the_seed():
    torch.manual_seed(3)
    first = random_warps(64, torch.device("cpu"))
    torch.manual_seed(3)
    assert all(torch.equal(a, b) for a, b in zip(first, random_warps(64, torch.device("cpu"))))
    affine, plate = grids(first, 8)
    assert affine.shape == plate.shape == (64, 8, 8, 2)
    assert affine.mean((1, 2)).abs().max() <= semimatch.SHIFT + 1e-5
    corners = plate[:, [0, 0, -1, -1], [0, -1, 0, -1]] - torch.tensor([[-1.0, -1], [1, -1], [-1, 1], [1, 1]])
    assert 0.3 < corners.abs().max() <= semimatch.MOVE + 1e-4


def test_training_uses_three_views_and_every_parameter_learns():
    torch.manual_seed(0)
    model, pairs = small(confidence=0.0).train(), given()
    views = {f"target_{view}": torch.randn_like(pairs["target"]) for view in ("plain", "strong")}
    loss = model.training_loss({**pairs, **views}, 0)
    loss.backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in model.parameters() if p.requires_grad)
    assert model.backbone.net.bn1.num_batches_tracked == 4  # the source, and three views of the target


def test_without_the_extra_views_the_target_stands_for_them():
    pairs, losses = given(), []
    views = {f"target_{view}": pairs["target"] for view in ("plain", "strong")}
    for batch_given in (pairs, {**pairs, **views}):
        torch.manual_seed(1)
        with torch.no_grad():
            losses.append(small(confidence=0.0).training_loss(batch_given, 0))
    torch.manual_seed(1)
    assert losses[0] == losses[1]


def test_dynamic_doubles_the_supervised_loss_in_value():
    pairs = given()
    model = small(confidence=0.0, dynamic=True)
    with torch.no_grad():
        supervised = model.loss(model(pairs["source"], pairs["target"]), pairs)
        torch.manual_seed(0)
        assert model.training_loss(pairs, 0).item() == pytest.approx(2 * supervised.item(), rel=1e-4)
        unsure = small(confidence=1.1, dynamic=True)
        assert unsure.training_loss(pairs, 0).item() == pytest.approx(supervised.item(), rel=1e-4)


def test_only_the_temperature_tells_its_flow_from_cats(tmp_path):
    torch.manual_seed(0)
    cats, ours = CATs(**SMALL).eval(), small(temperature=0.02)
    ours.load_state_dict(cats.state_dict())
    with torch.no_grad():
        assert torch.equal(cats(*images()), ours(*images()))
        assert not torch.equal(cats(*images()), small(temperature=0.1)(*images()))
    cats.save_pretrained(tmp_path)
    loaded, _ = load_checkpoint("semimatch", tmp_path, {"confidence": 0.9})
    assert isinstance(loaded, SemiMatch)
    assert (loaded.temperature, loaded.confidence) == (0.1, 0.9)
