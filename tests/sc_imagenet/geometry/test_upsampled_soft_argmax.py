"""The up-sampled soft-argmax, against resizing all scores and reading each distribution."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from sc_imagenet.geometry import soft_argmax as room
from sc_imagenet.geometry.soft_argmax import soft_argmax, upsampled_soft_argmax


def plain(scores, xs, ys, temperature):
    """Every fine score held at once."""
    fine = F.interpolate(scores[None], (len(ys), len(xs)), mode="bilinear", align_corners=True)
    return soft_argmax(fine.permute(0, 2, 3, 1), xs, ys, temperature)[0].T


def case(count: int, dtype=torch.float64):
    draw = torch.Generator().manual_seed(count)
    scores = torch.rand(count, 4, 5, generator=draw, dtype=dtype)
    xs, ys = torch.linspace(-1, 1, 17).to(dtype) * 1.1, torch.linspace(-1, 1, 13).to(dtype)
    return [value.requires_grad_() for value in (scores, xs, ys)]


@pytest.mark.parametrize("at_once", [1, 1000, 10**6])
@pytest.mark.parametrize("temperature", [0.02, 1.0])
def test_values_and_gradients_are_those_of_the_plain_way(monkeypatch, at_once, temperature):
    monkeypatch.setitem(room.FINE_AT_ONCE, "cpu", at_once)
    ours, theirs = case(23, torch.float32), case(23, torch.float32)
    weights = torch.rand(23, 2, generator=torch.Generator().manual_seed(0))
    positions, expected = upsampled_soft_argmax(*ours, temperature), plain(*theirs, temperature)
    torch.testing.assert_close(positions, expected, atol=1e-5, rtol=0)
    (positions * weights).sum().backward()
    (expected * weights).sum().backward()
    for mine, other in zip(ours, theirs):
        torch.testing.assert_close(mine.grad, other.grad, atol=1e-4, rtol=1e-4)


def test_no_rows_are_fine_and_can_be_trained_through():
    scores, xs, ys = case(0, torch.float32)
    positions = upsampled_soft_argmax(scores, xs, ys, 0.1)
    assert positions.shape == (0, 2)
    positions.sum().backward()
    assert scores.grad.shape == scores.shape


def test_scores_of_a_wide_span_stay_finite():
    scores = torch.zeros(1, 16, 16)
    scores[0, 3, 7], scores[0, 9, 9] = 300, -20
    line = torch.linspace(-1, 1, 64)
    column, row = upsampled_soft_argmax(scores, line, line, 1.0)[0]
    assert column.item() == pytest.approx(2 * 7 / 15 - 1, abs=0.02)
    assert row.item() == pytest.approx(2 * 3 / 15 - 1, abs=0.02)


def test_memory_for_backward_does_not_hold_the_fine_scores(monkeypatch):
    monkeypatch.setitem(room.FINE_AT_ONCE, "cpu", 5000)
    held: list[int] = []
    scores, xs, ys = case(200, torch.float32)
    with torch.autograd.graph.saved_tensors_hooks(lambda t: held.append(t.numel()) or t, lambda t: t):
        upsampled_soft_argmax(scores, xs, ys, 0.1)
    assert max(held, default=0) <= scores.numel()


def test_mixed_precision_around_it_changes_nothing():
    scores, xs, ys = case(5, torch.float32)
    expected = upsampled_soft_argmax(scores, xs, ys, 0.02)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(upsampled_soft_argmax(scores, xs, ys, 0.02), expected)
