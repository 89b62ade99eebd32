"""The data sets by name: those of ``sc_imagenet/sources/``, of installed packages and of included files.

A module is a data set's where it holds a ``DATA_SET`` and the ``Source`` that reads it; there is no other list. The
modules are imported when a data set is first asked for.
"""

from __future__ import annotations

import functools
import importlib
import pkgutil
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

from sc_imagenet import sources
from sc_imagenet.core.errors import InputError, unknown_name
from sc_imagenet.core.plugins import SOURCES, included, included_modules, installed_modules
from sc_imagenet.sources.source import DataSet, Source

NAME = "[a-z0-9][a-z0-9-]*"


@dataclass(frozen=True)
class _Found:
    entry: DataSet
    reader: type[Source]


def catalog() -> Mapping[str, DataSet]:
    """What is known of each data set, by name.

    Raises:
        InputError: an included file or an installed package cannot be used.
    """
    return {name: found.entry for name, found in _known().items()}


def canonical(name: str) -> str:
    """The hyphenated name of a data set given with hyphens or underscores.

    >>> canonical("spair_71k")
    'spair-71k'

    Raises:
        InputError: no data set is called so (the message lists the names).
    """
    hyphenated = name.strip().lower().replace("_", "-")
    if hyphenated not in _known():
        raise unknown_name("data set", name, _known())
    return hyphenated


def info(name: str) -> DataSet:
    """What is known of a data set.

    >>> info("pf_willow").classes
    10

    Raises:
        InputError: no data set is called so.
    """
    return _known()[canonical(name)].entry


def reader(name: str) -> type[Source]:
    """The class that reads a data set.

    Raises:
        InputError: no data set is called so.
    """
    return _known()[canonical(name)].reader


def embedded() -> DataSet:
    """The data set that needs nothing to be got."""
    return next(found.entry for found in _known().values() if found.entry.embedded)


def configs_of(name: str) -> tuple[str, ...]:
    """The configs that ``datasets`` knows of a data set; some are data sets of their own.

    >>> configs_of("sc-imagenet")
    ('pairs', 'images', 'toy')
    """
    entry = info(name)
    return *entry.configs, *(each.name for each in catalog().values() if each.config_of == entry.name)


def _known() -> Mapping[str, _Found]:
    return _found_with(tuple(included()))


@functools.lru_cache(maxsize=1)
def _found_with(files: tuple[Path, ...]) -> Mapping[str, _Found]:
    """All data sets, the included files being ``files``."""
    known: dict[str, _Found] = {}
    for module in _modules():
        found = _found_in(module)
        name = found.entry.name
        if name in known and known[name] != found:
            first = known[name].reader.__module__
            raise InputError(f"its data set has the name {name!r} of the one of {first}", where=module.__file__)
        known[name] = found
    return known


def _modules() -> Iterator[ModuleType]:
    modules = (
        importlib.import_module(f"{sources.__name__}.{file.name}") for file in pkgutil.iter_modules(sources.__path__)
    )
    yield from (module for module in modules if hasattr(module, "DATA_SET"))
    yield from installed_modules(SOURCES)
    yield from (module for module in included_modules() if hasattr(module, "DATA_SET"))


def _found_in(module: ModuleType) -> _Found:
    """What a module holds of a data set.

    Raises:
        InputError: no ``DATA_SET``, one that is none, or no reader of it.
    """
    entry, where = getattr(module, "DATA_SET", None), module.__file__
    if not isinstance(entry, DataSet):
        fix = "Give DATA_SET = DataSet(...), of sc_imagenet.sources.source."
        raise InputError("holds no DATA_SET that is a DataSet", where=where, fix=fix)
    if not re.fullmatch(NAME, entry.name):
        raise InputError(f"its data set is called {entry.name!r}", where=where, fix="Write a-z, 0-9 and hyphens.")
    for value in vars(module).values():
        if isinstance(value, type) and issubclass(value, Source) and getattr(value, "name", None) == entry.name:
            return _Found(entry, value)
    fix = f"Write a class of Source with name = {entry.name!r}."
    raise InputError(f"holds no reader of its data set {entry.name!r}", where=where, fix=fix)
