"""ProposalFlow: windows, votes and points; nothing of the authors' can be compared number by number."""

from __future__ import annotations

import pytest
import torch

from baselines.proposalflow import (
    MARGIN,
    SIDES,
    BoxMatch,
    ProposalFlow,
    Proposals,
    best_boxes,
    box_similarity,
    hough,
    local_offsets,
    move_with_boxes,
    sliding_windows,
)
from benchmark.running.check import texture


@pytest.fixture(scope="module")
def model():
    return ProposalFlow(size=160, windows=14)


@pytest.fixture(scope="module")
def image():
    return texture(1, 200, torch.Generator().manual_seed(0))


def test_windows_end_inside_the_margin_or_are_the_whole_image():
    boxes = sliding_windows(200, 120, 10)
    assert boxes[-1].tolist() == [0, 0, 200, 120]
    inner = boxes[:-1]
    assert (inner[:, [0, 2]] >= MARGIN * 200 - 1e-3).all()
    assert (inner[:, [0, 2]] <= (1 - MARGIN) * 200 + 1e-3).all()
    assert (inner[:, [1, 3]] <= (1 - MARGIN) * 120 + 1e-3).all()
    sizes = {tuple(size) for size in (inner[:, 2:] - inner[:, :2]).round().int().tolist()}
    assert {side for size in sizes for side in size} <= set(SIDES)
    assert len(sliding_windows(20, 10, 10)) == 1


def test_an_image_is_found_in_itself(model, image):
    shown = image[..., :160, :160]
    points = torch.rand(1, 30, 2, generator=torch.Generator().manual_seed(1)) * 160
    torch.testing.assert_close(model.transfer(model(shown, shown), points), points, atol=1.0, rtol=0)


def test_what_is_moved_is_found_where_it_went(model, image):
    source, target = image[..., 20:180, 20:180], image[..., 30:190, 34:194]
    points = 50 + 60 * torch.rand(1, 30, 2, generator=torch.Generator().manual_seed(1))
    moved = model.transfer(model(source, target), points)
    expected = points - torch.tensor([14.0, 10.0])
    assert (moved - expected).norm(dim=-1).median() < 8


def test_an_image_seen_before_is_not_described_again(model, image, monkeypatch):
    shown = image[..., :160, :160]
    before = model.propose(shown[0])
    monkeypatch.setattr(ProposalFlow, "describe", None)
    assert model.propose(shown[0].clone()) is before


def proposals(boxes: list[list[float]], descriptors: torch.Tensor) -> Proposals:
    return Proposals(torch.tensor(boxes), descriptors, (100, 100))


def test_boxes_of_other_proportions_do_not_match():
    square, wide = [10.0, 10.0, 40.0, 40.0], [10.0, 10.0, 75.0, 40.0]
    found = box_similarity(proposals([square], torch.ones(1, 3)), proposals([square, wide], torch.ones(2, 3)))
    assert found.tolist() == [[3.0, 0.0]]


def test_the_offset_that_most_boxes_agree_on_wins_over_a_better_lone_match():
    """Three boxes side by side look alike in both images; a fourth of the target looks a little more so."""
    boxes = [[10.0, 40.0, 30.0, 60.0], [35.0, 40.0, 55.0, 60.0], [60.0, 40.0, 80.0, 60.0]]
    source = proposals(boxes, torch.eye(3))
    target = proposals([*boxes, [70.0, 5.0, 90.0, 25.0]], torch.cat((torch.eye(3), 1.1 * torch.eye(3)[:1])))
    plain = box_similarity(source, target)
    assert plain.argmax(1).tolist() == [3, 1, 2]
    voted = hough(source, target, plain)
    assert voted.argmax(1).tolist() == [0, 1, 2]
    assert local_offsets(source, target, voted).argmax(1).tolist() == [0, 1, 2]
    assert torch.equal(best_boxes(source, target).target, torch.tensor(boxes))


def test_a_point_follows_the_surest_box_around_it():
    boxes = torch.tensor([[0.0, 0.0, 10.0, 10.0], [0.0, 0.0, 40.0, 40.0]])
    moved = boxes + torch.tensor([[5.0], [20.0]])
    found = BoxMatch(boxes, moved, torch.tensor([1.0, 2.0]))
    points = torch.tensor([[5.0, 5.0], [50.0, 50.0]])
    assert move_with_boxes(found, points).tolist() == [[25.0, 25.0], [70.0, 70.0]]
    surer = found._replace(confidence=torch.tensor([3.0, 2.0]))
    assert move_with_boxes(surer, points[:1]).tolist() == [[10.0, 10.0]]
