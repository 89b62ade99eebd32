"""Which splits of a data set a command is to work on."""

from __future__ import annotations

from sc_imagenet.core.errors import InputError, unknown_name
from sc_imagenet.data.catalog import canonical, info
from sc_imagenet.data.convert import available_splits, why_none
from sc_imagenet.sources import open_source

FIRST_SHOWN = ("test", "validation", "train")


def readable_splits(name: str, root: str | None = None) -> tuple[str, list[str]]:
    """The data set's name and its splits: the one of ``NAME:SPLIT``, else all that are on this machine.

    The one most often looked at comes first.

    Raises:
        InputError: unknown name or split, or nothing of it is here.
    """
    name, _, split = name.partition(":")
    name = canonical(name)
    entry = info(name)
    if split and split not in entry.splits:
        raise unknown_name(f"split of {name}", split, entry.splits)
    reasons = available_splits(open_source(name, root))
    here = [each for each, reason in reasons.items() if reason is None and split in ("", each)]
    if not here:
        absent = {each: reason for each, reason in reasons.items() if reason is not None and split in ("", each)}
        raise InputError(
            f"{entry.title} cannot be read: {why_none(absent)}",
            fix=f"'scbench data info {name}' tells the layout and how to get it.",
        )
    return name, sorted(here, key=lambda each: FIRST_SHOWN.index(each) if each in FIRST_SHOWN else 9)
