"""Every parser of the campaign, by the kind of file it reads."""

from __future__ import annotations

import importlib
import pkgutil

from tests.fuzz.parser import Parser


def parsers() -> dict[str, Parser]:
    """All parsers by name."""
    rooms = [importlib.import_module(f"{__name__}.{found.name}") for found in pkgutil.iter_modules(__path__)]
    return {parser.name: parser for room in rooms for parser in room.PARSERS}
