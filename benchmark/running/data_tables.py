"""What data sets there are and where they lie on this machine, as rows of plain values."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from sc_imagenet.data.catalog import catalog, info
from sc_imagenet.data.roots import DATA_ROOT
from sc_imagenet.sources.source import DataSet


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
