"""Options that come from a file: each is of the kind of its default, and no number is beyond all sense."""

from __future__ import annotations

import math
from dataclasses import fields
from typing import Any

from sc_imagenet.core.errors import InputError

LARGEST = 1 << 31
WIDEST = 4096  # of what a network is built from; wider ones would not fit into any memory


def check_kinds(options: Any, where: str, largest: float = LARGEST, but: tuple[str, ...] = ()) -> None:
    """Check the values of a frozen dataclass whose fields have plain defaults; fields in ``but`` are left out.

    Raises:
        InputError: a value of another kind, or a number that is not finite or beyond ``largest``.
    """
    for field in fields(options):
        if field.name in but:
            continue
        value, default = getattr(options, field.name), field.default
        if not _alike(value, default):
            raise InputError(
                f"{field.name} = {value!r:.80} is not of the kind of its default, {default!r}", where=where
            )
        for number in value if isinstance(value, tuple) else (value,):
            if isinstance(number, (int, float)) and not (abs(number) <= largest and math.isfinite(number)):
                raise InputError(f"{field.name} = {number!r:.80} is too large", where=where)


def _alike(value: Any, default: Any) -> bool:
    if isinstance(default, tuple):
        return isinstance(value, tuple) and all(_alike(each, default[0]) for each in value)
    if isinstance(default, float):
        return isinstance(value, (int, float)) and not isinstance(value, bool)
    return type(value) is type(default)
