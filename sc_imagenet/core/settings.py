"""Options as every command takes them: lists, and ``--set KEY=VALUE``, keys with dots, values JSON or plain text."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

from sc_imagenet.core.errors import InputError


def several(values: Sequence[str]) -> list[str]:
    """The values of an option that may be repeated or hold commas.

    >>> several(["spair-71k,pf-pascal", "pf-willow"])
    ['spair-71k', 'pf-pascal', 'pf-willow']
    """
    return [part.strip() for value in values for part in value.split(",") if part.strip()]


def settings_of(values: Sequence[str]) -> dict[str, str]:
    """The settings of a repeated ``--set``, each of which may hold several: ``KEY=VALUE,KEY=VALUE``.

    Lists keep their commas: it is split at those that stand before another ``KEY=``.

    >>> settings_of(["recipe.milestones=[1,2],recipe.lr=0.1"])
    {'recipe.milestones': '[1,2]', 'recipe.lr': '0.1'}

    Raises:
        InputError: a setting without "=".
    """
    found = {}
    for value in values:
        for part in re.split(r",(?=\s*[A-Za-z_][\w.]*=)", value):
            key, equals, text = part.partition("=")
            if not equals or not key.strip():
                raise InputError(f"--set {part!r} is not KEY=VALUE")
            found[key.strip()] = text.strip()
    return found


def value_of(text: str) -> Any:
    """The value of a setting: JSON where it is JSON, else the text itself.

    >>> value_of("[1, 2]"), value_of("1e-4"), value_of("cosine")
    ([1, 2], 0.0001, 'cosine')
    """
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return text


def nested(settings: Mapping[str, str]) -> dict[str, Any]:
    """Settings whose keys have dots as dictionaries inside one another.

    >>> nested({"lr": "0.1", "network.hough_length": "3"})
    {'lr': 0.1, 'network': {'hough_length': 3}}

    Raises:
        InputError: a key leads into a value that is no dictionary.
    """
    values: dict[str, Any] = {}
    for key, text in settings.items():
        *heads, last = key.split(".")
        inside = values
        for head in heads:
            inside = inside.setdefault(head, {})
            if not isinstance(inside, dict):
                raise InputError(f"--set {key}: {head} was set to a value of its own")
        inside[last] = value_of(text)
    return values
