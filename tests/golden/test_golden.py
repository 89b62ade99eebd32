"""Every stored result of the authors' own evaluation functions beside ours."""

import pytest

from tests.golden.files import MODULES, compare
from tests.golden.references import HERE


@pytest.mark.parametrize("name", MODULES)
def test_what_the_authors_code_returned_is_what_ours_gives(name):
    deviating = [f"{found.array}: {found.deviation:g}" for found in compare(name) if not found.holds]
    assert not deviating, "\n".join(deviating)


def test_every_file_kept_here_is_compared():
    kept = {path.stem if path.suffix == ".npz" else path.name for path in HERE.iterdir()}
    assert kept == {*MODULES, "spair_synth", "small_synth"}
