"""Readers of the data sets, one file each; a new one is a file here that holds its catalogue entry, too."""

from __future__ import annotations

import importlib
from pathlib import Path

from sc_imagenet.core.errors import InputError
from sc_imagenet.core.files import cache_folder
from sc_imagenet.data.catalog import canonical
from sc_imagenet.data.roots import dataset_root
from sc_imagenet.sources.source import Annotation, Entry, Options, Source

__all__ = ["Annotation", "Entry", "Options", "Source", "open_source"]

_READERS = {
    "sc-imagenet": ("sc_imagenet.sources.sc_imagenet_release", "ScImageNet"),
    "pf-pascal": ("sc_imagenet.sources.pf_pascal", "PfPascal"),
    "pf-willow": ("sc_imagenet.sources.pf_willow", "PfWillow"),
    "spair-71k": ("sc_imagenet.sources.spair_71k", "Spair71k"),
    "diy-sc": ("sc_imagenet.sources.diy_sc", "DiySc"),
    "toy": ("sc_imagenet.sources.toy", "RenderedToy"),
}


def open_source(name: str, root: str | Path | None = None, options: Options | None = None) -> Source:
    """The reader of a data set, on its folder.

    Raises:
        InputError: unknown name, or no data there (the message says how to get it).
    """
    name = canonical(name)
    folder = cache_folder() / "toy" if name == "toy" else dataset_root(name, root)
    source: Source = _reader(name)(folder, options or Options())
    return source


def _reader(name: str) -> type[Source]:
    """The class that reads a data set; of an added one, the one in its file that bears its name."""
    if name in _READERS:
        module, reader = _READERS[name]
        found: type[Source] = getattr(importlib.import_module(module), reader)
        return found
    module = f"sc_imagenet.sources.{name.replace('-', '_')}"
    for value in vars(importlib.import_module(module)).values():
        if isinstance(value, type) and issubclass(value, Source) and getattr(value, "name", None) == name:
            return value
    raise InputError(f"holds no Source with name = {name!r}", where=module)
