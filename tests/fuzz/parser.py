"""What the campaign knows of a parser: valid inputs, how they are spoilt, and how one is fed to it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.fuzz.mutations import Mutation, spoilt_bytes


@dataclass(frozen=True)
class Parser:
    """One reader of foreign bytes.

    name   as ``--parser`` takes it
    seeds  makes the valid inputs; each must be accepted
    feed   reads an input, a scratch folder beside it; returns, or raises InputError
    spoil  seeds to an input
    share  of the campaign's inputs, beside the others'
    """

    name: str
    seeds: Callable[[], Sequence[bytes]]
    feed: Callable[[bytes, Path], None]
    spoil: Mutation = spoilt_bytes
    share: float = 1.0
