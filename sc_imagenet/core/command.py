"""A command of ``scbench`` as an object: what pages, cards and messages print is rendered from it."""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


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
