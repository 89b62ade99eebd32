"""How options of several commands are read."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from sc_imagenet.core.errors import InputError


def several(values: Sequence[str]) -> list[str]:
    """The values of an option that may be repeated or hold commas.

    >>> several(["spair-71k,pf-pascal", "pf-willow"])
    ['spair-71k', 'pf-pascal', 'pf-willow']
    """
    return [part.strip() for value in values for part in value.split(",") if part.strip()]


def settings_of(values: Sequence[str]) -> dict[str, str]:
    """The settings of a repeated ``--set``, each of which may hold several: ``recipe.KEY=VALUE,recipe.KEY=VALUE``.

    Lists keep their commas: it is split at those that stand before a new ``recipe.``, ``pretrain.`` or
    ``finetune.``.

    >>> settings_of(["recipe.milestones=[1,2],recipe.lr=0.1"])
    {'recipe.milestones': '[1,2]', 'recipe.lr': '0.1'}

    Raises:
        InputError: a setting without "=".
    """
    found = {}
    for value in values:
        for part in re.split(r",(?=\s*(?:recipe|pretrain|finetune)\.)", value):
            key, equals, text = part.partition("=")
            if not equals:
                raise InputError(f"--set {part!r} is not KEY=VALUE")
            found[key.strip()] = text.strip()
    return found


@contextmanager
def weights_by(option: str) -> Iterator[None]:
    """Where a backbone's weights cannot be had, name the option by which this command takes a file of them."""
    from sc_imagenet.backbones.pretrained import NoWeights  # imports torch, which --help does not need

    try:
        yield
    except NoWeights as error:
        raise InputError(f"{error} Or give a file of weights: {option}") from error
