"""A command of ``scbench`` as an object, which pages, cards and messages render; and options as all commands take them.

Those are lists, and ``--set KEY=VALUE``, keys with dots, values JSON or plain text.
"""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from sc_imagenet.core.errors import InputError


@dataclass(frozen=True)
class Command:
    """One command with typed arguments.

    name       as typed after ``scbench``: "run", "generate train"
    arguments  what it is given without a name
    options    by name without dashes; True is a flag, a tuple is joined by commas, and ``set`` holds KEY: VALUE;
               None, False and what is empty are left out

    >>> str(Command("run", ("cats",), {"pretrain": "own toy", "eval": ("toy", "pf-willow"), "seed": None}))
    "scbench run cats --pretrain 'own toy' --eval toy,pf-willow"
    >>> str(Command("generate train", ("photographs",), {"out": "set", "set": {"network.hough_length": 3}}))
    'scbench generate train photographs --out set --set network.hough_length=3'
    """

    name: str
    arguments: tuple[str, ...] = ()
    options: Mapping[str, Any] = field(default_factory=dict)

    @property
    def words(self) -> list[str]:
        """What is typed, word by word, ``scbench`` first."""
        words = ["scbench", *self.name.split(), *self.arguments]
        for option, value in self.options.items():
            if isinstance(value, Mapping):
                for key, inside in value.items():
                    words += [f"--{option}", f"{key}={inside if isinstance(inside, str) else json.dumps(inside)}"]
            elif isinstance(value, bool):
                words += [f"--{option}"] if value else []
            elif isinstance(value, (tuple, list)):
                words += [f"--{option}", ",".join(map(str, value))] if value else []
            elif value is not None:
                words += [f"--{option}", str(value)]
        return words

    def __str__(self) -> str:
        return shlex.join(self.words)

    def __hash__(self) -> int:
        return hash(str(self))


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
