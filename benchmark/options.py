"""How options of several commands are read."""

from __future__ import annotations

from collections.abc import Sequence


def several(values: Sequence[str]) -> list[str]:
    """The values of an option that may be repeated or hold commas.

    >>> several(["spair-71k,pf-pascal", "pf-willow"])
    ['spair-71k', 'pf-pascal', 'pf-willow']
    """
    return [part.strip() for value in values for part in value.split(",") if part.strip()]
