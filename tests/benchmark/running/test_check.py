"""``scbench check``."""

from __future__ import annotations

import json

import pytest
import torch

from baselines import registry
from baselines.cats import CATs
from benchmark.commands.check import print_findings
from benchmark.running.check import check_model, warped_pairs
from sc_imagenet.core.errors import InputError


@pytest.mark.parametrize("model", [card.name for card in registry.cards()])
def test_our_models_keep_their_promises(model, capsys):
    findings = check_model(model)
    print_findings(findings, as_json=True)
    printed = json.loads(capsys.readouterr().out)
    assert [entry["check"] for entry in printed] == [finding.check for finding in findings]
    assert all(entry["holds"] for entry in printed)
    assert {"builds", "transfers 0 points", "learns", "saved and loaded it is the same"} <= {
        e["check"] for e in printed
    }


def test_a_broken_model_is_found_out(monkeypatch, capsys):
    transfer = CATs.transfer
    monkeypatch.setattr(CATs, "transfer", lambda self, output, points: transfer(self, output, points).flip(-1))
    loss = CATs.loss
    monkeypatch.setattr(
        CATs, "loss", lambda self, output, batch: loss(self, output.detach() * self.x_normal.sum(), batch)
    )
    findings = check_model("cats", backbone="resnet10t")
    failed = {finding.check for finding in findings if not finding.holds}
    assert failed >= {"finds an image in itself", "gradients reach what is trained"}
    with pytest.raises(InputError, match=r"checks fail: .*finds an image in itself"):
        print_findings(findings, as_json=False)
    assert "FAILS" in capsys.readouterr().out


def test_synthetic_pairs_correspond():
    """Around corresponding points source and target show the same colours."""
    model = CATs(backbone="resnet10t", pretrained=False, size=64, projection=16, heads=2)
    batch = warped_pairs(model, 4, 50, torch.Generator().manual_seed(0))
    colours = []
    for side in ("source", "target"):
        where = (batch[f"{side}_points"] / 32 - 1)[:, :, None]
        colours.append(torch.nn.functional.grid_sample(batch[side], where, align_corners=False)[..., 0].transpose(1, 2))
    difference = (colours[0] - colours[1]).abs().mean(-1)[batch["valid"]]
    assert difference.mean() < 0.2 * batch["source"].std()
    assert batch["valid"].float().mean() > 0.5
