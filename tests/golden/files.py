"""Which module compares which file."""

from __future__ import annotations

from pathlib import Path

from tests.golden import edge_cases, family_a, family_b, family_c, family_d, two_features
from tests.golden.references import HERE, Compared, load

MODULES = {
    name: module
    for module in (family_a, two_features, family_b, family_c, family_d, edge_cases)
    for name in module.FILES
}


def compare(name: str, root: Path = HERE) -> list[Compared]:
    """Every array of a file beside ours."""
    return MODULES[name].compare(name, load(name, root), root)
