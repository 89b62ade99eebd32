"""Getting a data set into its folder: each of its files fetched, checked, unpacked."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from sc_imagenet.core.errors import InputError
from sc_imagenet.data.archives import extract
from sc_imagenet.data.catalog import DataSet, Mirror, info
from sc_imagenet.data.fetch import Report, fetch
from sc_imagenet.data.roots import DATA_ROOT


@dataclass(frozen=True)
class Part:
    """One file of a data set and what was done about it."""

    file: str
    state: Literal["downloaded", "kept"]
    path: Path


def download(name: str, root: str | Path | None = None, report: Report | None = None) -> list[Part]:
    """Download a data set into its folder in ``root`` and unpack it; what is there already is kept.

    ``root`` is the folder that holds all data sets; without it, ``SC_DATA_ROOT``. An archive is removed once
    it is unpacked, its record stays.

    Raises:
        InputError: no root, nothing to download from, no mirror answered, a wrong checksum, a wrong archive,
            or a full disk. What came so far is kept, and the next call goes on from there.
    """
    entry = info(name)
    if not entry.mirrors:
        raise InputError(
            f"{entry.title} cannot be downloaded by a program (licence: {entry.licence})",
            fix=f"Its steps by hand: scbench data info {entry.name}",
        )
    base = root or os.environ.get(DATA_ROOT)
    if not base:
        raise InputError(f"no data root to download {entry.title} into", fix=f"Give one or set {DATA_ROOT}.")
    homes = [Path(base).expanduser() / folder for folder in (entry.name, *entry.folders)]
    return fetch_all(entry, next((home for home in homes if home.is_dir()), homes[0]), report)


def fetch_all(entry: DataSet, folder: Path, report: Report | None = None) -> list[Part]:
    """Fetch and unpack each file of a data set into ``folder``.

    Raises:
        InputError: as ``download``.
    """
    by_file: dict[str, list[Mirror]] = {}
    for mirror in entry.mirrors:
        by_file.setdefault(mirror.file, []).append(mirror)
    parts = []
    for file, mirrors in by_file.items():
        there = _already_there(mirrors[0], folder)
        if there:
            parts.append(Part(file, "kept", there))
            continue
        path = fetch(mirrors, folder, report)
        if mirrors[0].archive:
            unpacked = extract(path, folder, holds=mirrors[0].holds)
            path.unlink()
            path = unpacked[0].parent
        parts.append(Part(file, "downloaded", path))
    return parts


def _already_there(mirror: Mirror, folder: Path) -> Path | None:
    """What an earlier download, or the person, put there."""
    name = mirror.holds if mirror.archive else mirror.file
    if name is None or not folder.is_dir():
        return None
    if (folder / name).exists():
        return folder / name
    below = (child / name for child in sorted(folder.iterdir()) if child.is_dir())
    return next((path for path in below if mirror.archive and path.exists()), None)
