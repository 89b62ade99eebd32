"""Every model with the references' weights gives the references' numbers, evaluated and trained."""

from __future__ import annotations

import pytest

from tests.parity.models import cats, modules
from tests.parity.references import load

FILES = [(model, name) for model in modules() for name in model.FILES]


@pytest.mark.parametrize(("model", "name"), FILES, ids=[name for _, name in FILES])
def test_every_array_is_within_tolerance(model, name):
    reference = load(name)
    comparisons = model.compare(name, reference)
    assert {found.array.partition("/")[0] for found in comparisons} == set(reference) - set(model.INPUTS)
    deviating = [f"{found.array}: {found.deviation:.2e}" for found in comparisons if not found.holds]
    assert not deviating


def test_a_changed_weight_would_be_noticed(monkeypatch):
    """The comparison has teeth: one of forty position embeddings is doubled."""
    name = "cats_pfpascal"
    model = cats.filled(name)
    model.decoder.pos_embed_x.data[:, 0] *= 2
    monkeypatch.setattr(cats, "filled", lambda _: model)
    deviating = {found.array for found in cats.compare(name, load(name)) if not found.holds}
    assert {"blocks_pass0_in_lvl0_rows16", "refined_corr", "flow_eval", "grad_norms/head"} <= deviating
    assert not any("feat" in array for array in deviating)
