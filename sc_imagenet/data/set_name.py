"""What a set of pairs is called in records: SC-ImageNet's name is for SC-ImageNet alone."""

from __future__ import annotations

from pathlib import Path

from sc_imagenet.core.errors import InputError
from sc_imagenet.core.files import read_json
from sc_imagenet.core.names import is_file_name
from sc_imagenet.data.catalog import CATALOG, info
from sc_imagenet.data.imagenet import WNID
from sc_imagenet.data.record import Record
from sc_imagenet.data.roots import dataset_root

GENERATED = "generation.json"  # what ``scbench generate`` leaves beside the pairs it made


def set_name(record: Record, root: Path | str | None, is_path: bool) -> str:
    """The name of a set of SC-ImageNet's form.

    A generated one has the name in its ``generation.json``, else its folder's; so does any other, unless it has
    SC-ImageNet's classes. "own" stands before a name that is another set's.

    Args:
        record: of one of its splits.
        root: as given to ``load_dataset``.
        is_path: whether its folder was named, rather than "sc-imagenet".
    """
    entry = info("sc-imagenet")
    folder = dataset_root(entry.name, root).absolute()
    made = generated_name(folder)
    if made is None:
        whole = len(record.categories) == entry.classes and all(map(WNID.fullmatch, record.categories))
        if whole or not is_path or folder.name in (entry.name, *entry.folders):
            return entry.name
    name = made or folder.name
    taken = {known for each in CATALOG.values() for known in (each.name, *each.folders)}
    return f"own {name}" if name in taken else name


def generated_name(folder: Path) -> str | None:
    """The name of a generated set, by its own folder or the one of its JSON export; None if it is none."""
    for home in (folder, folder.parent) if folder.name == "spair" else (folder,):
        if (home / GENERATED).is_file():
            try:
                content = read_json(home / GENERATED)
            except InputError:  # damaged, and yet a sign that it was generated
                content = None
            name = content.get("name") if isinstance(content, dict) else None
            return name if isinstance(name, str) and is_file_name(name) else home.name
    return None
