"""One file a model, each beside its published code: what it computes under the names of the references.

Every module has

    FILES                      names of its reference files, each with its list of published keys
    KEYS                       (where they are not FILES) names of the lists of published keys
    INPUTS                     arrays of the references that are inputs or labels, not results
    thin(name, array)          the part of an array that the repository keeps
    compare(file, reference)   a Comparison for every other array

The whole references lie in ``SC_PARITY_ROOT`` or in folders of it.
"""

from __future__ import annotations

import importlib
import pkgutil
from types import ModuleType


def modules() -> list[ModuleType]:
    """All models that have references, by name."""
    return [importlib.import_module(f"{__name__}.{found.name}") for found in pkgutil.iter_modules(__path__)]
