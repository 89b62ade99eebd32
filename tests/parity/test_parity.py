"""Every model with the references' weights gives the references' numbers, evaluated and trained."""

from __future__ import annotations

import numpy as np
import pytest

from tests.parity.models import modules
from tests.parity.references import Tolerance, load

FILES = [(model, name) for model in modules() for name in model.FILES]


@pytest.mark.parametrize(("model", "name"), FILES, ids=[name for _, name in FILES])
def test_every_array_is_within_tolerance(model, name):
    reference = load(name)
    comparisons = model.compare(name, reference)
    assert {found.array.partition("/")[0] for found in comparisons} == set(reference) - set(model.INPUTS)
    deviating = [
        f"{found.array}: {found.deviation:.2e} > {found.allowed:.2e}" for found in comparisons if not found.holds
    ]
    assert not deviating


@pytest.mark.parametrize("relative", ["to the largest", "each", "together", "no"])
def test_a_reference_of_zeros_is_met_by_zeros_and_by_nothing_else(relative):
    zeros, tolerance = np.zeros((2, 3)), Tolerance(1e-4, relative)
    assert tolerance.compare("enc4_ch0_3", zeros, zeros).holds
    assert tolerance.compare("enc4_ch0_3", zeros, zeros, 0.0).deviation == 0
    assert not tolerance.compare("enc4_ch0_3", zeros + 1e-3, zeros).holds


def test_rounding_is_allowed_once_and_only_where_it_is():
    tolerance, reference = Tolerance(1e-3, "each"), np.array([1.0, 100.0])
    rounding = np.array([0.02, 0.0])
    assert tolerance.compare("a", np.array([1.02, 100.0]), reference, rounding).holds
    assert not tolerance.compare("a", np.array([1.022, 100.0]), reference, rounding).holds
    assert not tolerance.compare("a", np.array([1.0, 100.2]), reference, rounding).holds
    # All of them one percent larger: each may be, for its rounding; together they may not.
    many, noise = np.full(300, 1.01), np.full(300, 0.02)
    assert tolerance.compare("a", many, np.ones(300), noise).holds
    assert not Tolerance(1e-3, "together").compare("a", many, np.ones(300), noise).holds


def test_a_float32_that_is_far_from_float64_is_not_excused_by_its_own_distance():
    reference = np.ones(3)
    for relative in ("to the largest", "each", "together", "no"):
        assert not Tolerance(1e-3, relative).compare("a", reference, reference, np.full(3, 0.2)).holds


def test_shapes_and_values_that_are_no_numbers_deviate_infinitely():
    for ours in (np.ones(2), np.array([1.0, np.nan, 1.0])):
        assert Tolerance(1e-3).compare("a", ours, np.ones(3)).deviation == float("inf")
