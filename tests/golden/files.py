"""Which module compares which file."""

from __future__ import annotations

from pathlib import Path

from tests.golden import family_a, family_b, family_c, two_features
from tests.golden.references import HERE, Compared, load

MODULES = {name: module for module in (family_a, two_features, family_b, family_c) for name in module.FILES}


def compare(name: str, root: Path = HERE) -> list[Compared]:
    """Every array of a file beside ours."""
    return MODULES[name].compare(name, load(name, root), root)
