"""Where data lies: argument, then environment, then a clear error; its reader, opened there; the catalogue as rows."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from sc_imagenet.core.errors import InputError
from sc_imagenet.core.files import cache_folder
from sc_imagenet.core.locks import watched
from sc_imagenet.data.catalog import catalog, embedded, info, reader
from sc_imagenet.sources.source import DataSet, Source, SourceOptions

DATA_ROOT = "SC_DATA_ROOT"  # holds one folder per data set, named as the catalogue names it
IMAGENET_ROOT = "IMAGENET_ROOT"  # holds <wnid>/<name>.JPEG, or ILSVRC's own folders


def imagenet_root() -> Path:
    """The folder that ``IMAGENET_ROOT`` names.

    Raises:
        InputError: it is not set.
    """
    if not os.environ.get(IMAGENET_ROOT):
        raise InputError(f"{IMAGENET_ROOT} is not set", fix="Let it name the folder of <wnid>/<name>.JPEG.")
    return Path(os.environ[IMAGENET_ROOT]).expanduser()


def dataset_root(name: str, root: str | Path | None = None) -> Path:
    """The folder of one data set.

    ``root`` may be the data set's own folder or a folder that holds it; without it ``SC_DATA_ROOT`` is
    looked in.

    Raises:
        InputError: nothing is there; the message says how to get the data and names the embedded default.
    """
    entry = info(name)
    given = Path(root).expanduser() if root is not None else None
    base = given or (Path(os.environ[DATA_ROOT]).expanduser() if os.environ.get(DATA_ROOT) else None)
    how = (
        f"Get it with 'scbench data download {entry.name}', or give root=FOLDER (--data-root), "
        f"or set {DATA_ROOT}; "
        f"without any data, load_dataset({_words(embedded())}) works."
    )
    if base is None:
        raise InputError(
            f"the data of {entry.title} is not here: no root was given and {DATA_ROOT} is not set", fix=how
        )
    with watched(base):
        if not base.is_dir():
            raise InputError(f"no such folder, looked for {entry.title}", where=base, fix=how)
        for folder in (entry.name, *entry.folders):
            if (base / folder).is_dir():
                return base / folder
    if given is not None:
        return given
    raise InputError(f"has no folder '{entry.name}'", where=base, fix=how)


def open_source(name: str, root: str | Path | None = None, options: SourceOptions | None = None) -> Source:
    """The reader of a data set, on its folder.

    Raises:
        InputError: unknown name, or no data there (the message says how to get it).
    """
    entry = info(name)
    folder = cache_folder() / entry.name if entry.embedded else dataset_root(entry.name, root)
    return reader(entry.name)(folder, options or SourceOptions())


def _words(entry: DataSet) -> str:
    """A data set as ``datasets.load_dataset`` is given it."""
    names = (entry.python_name,) if entry.config_of is None else (info(entry.config_of).python_name, entry.name)
    return ", ".join(map(repr, names))


def place_of(entry: DataSet, root: str | Path | None = None) -> str | None:
    """Where a data set lies in ``root``, else ``SC_DATA_ROOT``; None where it does not."""
    if entry.embedded:
        return "built in"
    base = root or os.environ.get(DATA_ROOT)
    if not base:
        return None
    places = (Path(base).expanduser() / folder for folder in (entry.name, *entry.folders))
    return next((str(place) for place in places if place.is_dir()), None)


def data_rows(root: str | Path | None = None) -> list[dict[str, Any]]:
    """One row a data set of the catalogue."""
    return [_row(entry, root) for entry in catalog().values()]


def info_row(name: str, root: str | Path | None = None) -> dict[str, Any]:
    """All that is known of one data set.

    Raises:
        InputError: unknown name.
    """
    entry = info(name)
    return {
        **_row(entry, root),
        "paper": entry.paper,
        "homepage": entry.homepage or None,
        "configs": list(entry.configs),
        "download": [mirror.url for mirror in entry.mirrors],
        "by_hand": entry.manual.splitlines(),
        "layout": entry.layout.splitlines(),
    }


def _row(entry: DataSet, root: str | Path | None) -> dict[str, Any]:
    return {
        "name": entry.name,
        "title": entry.title,
        "splits": list(entry.splits),
        "pairs": dict(entry.pairs),
        "images": entry.images,
        "classes": entry.classes,
        "points": entry.points,
        "licence": entry.licence,
        "place": place_of(entry, root),
    }
