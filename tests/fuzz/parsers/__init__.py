"""Every parser of the campaign, by the kind of file it reads."""

from __future__ import annotations

import importlib
import pkgutil

from tests.fuzz.parser import Parser


def parsers() -> dict[str, Parser]:
    """All parsers by name."""
    rooms = (found.name for found in pkgutil.iter_modules(__path__))
    return {parser.name: parser for room in rooms for parser in in_room(room)}


def in_room(room: str) -> list[Parser]:
    """The parsers of one file here."""
    return importlib.import_module(f"{__name__}.{room}").PARSERS
