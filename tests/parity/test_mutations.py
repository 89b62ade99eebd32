"""The comparison has teeth: each of these faults is outside of what rounding is allowed.

The first three change no output at all, only gradients, which rounding blurs most: the factor moves those of CATs'
backbone by 2.0e-2 together, where 0.7e-2 is allowed; the detached image by 2.0e-1.
"""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from baselines.cats import CATs
from baselines.ncnet import NCNet
from baselines.scorrsan import SCorrSAN, small_loss
from tests.parity.models import cats, ncnet, scorrsan
from tests.parity.references import load

Mutation = Callable[[pytest.MonkeyPatch], None]


def steeper(maps: Tensor) -> Tensor:
    """The same, with a gradient of 1.02."""
    return maps + 0.02 * (maps - maps.detach())


def a_factor_of_1_02(patch: pytest.MonkeyPatch) -> None:
    encode = CATs.encode
    patch.setattr(CATs, "encode", lambda self, images: [steeper(maps) for maps in encode(self, images)])


def a_detached_image(patch: pytest.MonkeyPatch) -> None:
    features = CATs.features

    def detached(self: CATs, source: Tensor, target: Tensor) -> tuple[list[Tensor], list[Tensor]]:
        ours, theirs = features(self, source, target)
        return ours, [maps.detach() for maps in theirs]

    patch.setattr(CATs, "features", detached)


def a_missing_detach(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(
        scorrsan,
        "mutual_loss",
        lambda first, second, cells, share: (
            small_loss(first, second, cells, share) + small_loss(second, first, cells, share)
        ),
    )


def a_swapped_pair(patch: pytest.MonkeyPatch) -> None:
    match = SCorrSAN.match
    patch.setattr(SCorrSAN, "match", lambda self, source, target: match(self, target, source))


def a_wrong_constant(patch: pytest.MonkeyPatch) -> None:
    """One percent off."""
    patch.setattr(CATs, "temperature", 1.01 * CATs.temperature)


def a_changed_weight(patch: pytest.MonkeyPatch) -> None:
    """One of forty position embeddings is doubled."""
    filled = cats.filled

    def changed(name: str) -> CATs:
        model = filled(name)
        model.decoder.pos_embed_x.data[:, 0] *= 2
        return model

    patch.setattr(cats, "filled", changed)


def another_negative(patch: pytest.MonkeyPatch) -> None:
    """Negative pairs of NC-Net are made of the targets, not of the sources, in the other order."""
    loss = NCNet.training_loss

    def other(self: NCNet, batch: dict[str, Tensor], epoch: int) -> Tensor:
        return loss(self, {"source": batch["target"], "target": batch["source"].flip(-1)}, epoch)

    patch.setattr(NCNet, "training_loss", other)


CASES = {
    "factor": (cats, "cats_pfpascal", a_factor_of_1_02, {"grad_norms/backbone/together"}),
    "detached": (cats, "cats_pfpascal", a_detached_image, {"grad_norms/backbone", "grad_norms/backbone/together"}),
    "undetached": (scorrsan, "scorrsan_pfpascal", a_missing_detach, {"grad_norms", "tc_grad_norms"}),
    "swapped": (scorrsan, "scorrsan_pfpascal", a_swapped_pair, {"corr_mm", "flow", "grad_norms", "tc_grad_norms"}),
    "constant": (cats, "cats_pfpascal", a_wrong_constant, {"flow_eval", "flow_train"}),
    "weight": (cats, "cats_pfpascal", a_changed_weight, {"refined_corr", "flow_eval", "grad_norms/head"}),
    "negatives": (ncnet, "ncnet", another_negative, {"grad_norms", "grad_norms/together", "weak_loss_pos_neg/loss"}),
}


@pytest.mark.parametrize(("model", "name", "mutate", "expected"), CASES.values(), ids=CASES)
def test_a_fault_is_noticed(model, name, mutate: Mutation, expected: set[str], monkeypatch):
    mutate(monkeypatch)
    deviating = {found.array for found in model.compare(name, load(name)) if not found.holds}
    assert expected <= deviating
    assert not any("feat_" in array for array in deviating)  # what lies before the fault is as it was


def test_faults_of_gradients_alone_change_no_output():
    maps = torch.randn(3, requires_grad=True)
    assert torch.equal(steeper(maps), maps)
    (gradient,) = torch.autograd.grad(steeper(maps).sum(), maps)
    assert gradient.tolist() == pytest.approx([1.02] * 3)
