"""``scbench speed``: every pass is measured beside the bare backbone's."""

from __future__ import annotations

import json

import pytest
import torch

from benchmark.commands.speed import print_speed
from benchmark.running.speed import Passes, Setup, measure
from sc_imagenet.core.errors import InputError

QUICK = {"preset": "tiny", "backbone": "resnet10t", "threads": 1, "rounds": 1}


@pytest.fixture(scope="module")
def speed():
    return measure(Setup("cats", precision="bf16", **QUICK))


def test_every_pass_has_its_floor(speed):
    assert {(cost.what, cost.mode) for cost in speed.costs} == {
        *((what, mode) for what in ("model", "its backbone", "whole network") for mode in ("forward", "step")),
        ("model", "encode"),
        ("model", "match"),
    }
    assert all(0 < cost.fastest <= cost.seconds <= cost.slowest and cost.peak_memory > 1e8 for cost in speed.costs)


def test_half_precision_moves_points_a_little(speed):
    assert 0 < speed.moved_mean <= speed.moved_most < speed.setup.batch * 160


def test_it_prints_a_table_and_json(speed, capsys):
    print_speed(speed, as_json=True)
    printed = json.loads(capsys.readouterr().out)
    assert printed["setup"]["model"] == "cats"
    assert len(printed["costs"]) == 8
    print_speed(speed, as_json=False)
    assert "whole network" in capsys.readouterr().out


def test_a_model_without_a_loss_has_no_step():
    kinds = Passes(Setup("nearest", **{**QUICK, "preset": "paper"})).kinds()
    assert {mode for _, mode in kinds} == {"forward", "encode", "match"}


def test_a_backbone_that_is_not_timm_s_has_no_whole_network():
    several = {**QUICK, "backbone": "resnet10t size=64 + resnet18 size=64"}
    found = Passes(Setup("nearest", **several)).kinds()
    assert found == [(what, "forward") for what in ("model", "its backbone")] + [
        ("model", "encode"),
        ("model", "match"),
    ]


def test_matching_takes_features_to_points():
    passes = Passes(Setup("nearest", **QUICK))
    asked = []
    transfer = passes.matcher.transfer
    passes.matcher.transfer = lambda output, points: asked.append(points) or transfer(output, points)
    passes.pass_of("model", "match")()
    assert [points.shape for points in asked] == [(1, 12, 2)]


def test_a_step_leaves_gradients_in_the_model_and_none_behind():
    passes = Passes(Setup("cats", **QUICK))
    seen = []
    handle = passes.matcher.x_normal.register_hook(lambda gradient: seen.append(bool(gradient.isfinite().all())))
    passes.pass_of("model", "step")()
    handle.remove()
    assert seen == [True]
    assert all(parameter.grad is None for parameter in passes.matcher.parameters())


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"precision": "int3"}, "int3"),
        ({"device": "tpu"}, "tpu"),
        ({"rounds": 0}, "--rounds 0"),
        ({"model": "dogs"}, "dogs"),
    ],
)
def test_what_cannot_be_measured_is_one_line(options, said):
    with pytest.raises(InputError) as raised:
        measure(Setup(**{"model": "cats", **QUICK, **options}))
    assert said in str(raised.value)
    assert "\n" not in str(raised.value)


@pytest.mark.skipif(torch.cuda.is_available(), reason="a machine without a GPU")
def test_no_gpu_is_one_line():
    with pytest.raises(InputError, match="no CUDA device"):
        measure(Setup("cats", device="cuda", **QUICK))
