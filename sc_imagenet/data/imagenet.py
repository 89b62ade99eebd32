"""Finding ImageNet's training images: a folder, or a data set such as ``ILSVRC/imagenet-1k``."""

from __future__ import annotations

import glob
import hashlib
import json
import os
import re
from pathlib import Path
from typing import Any

from sc_imagenet.core.errors import InputError
from sc_imagenet.core.files import atomic_path, cache_folder, files_in, states_below
from sc_imagenet.core.locks import watched

IMAGENET = "imagenet"  # as typed for the photographs below $IMAGENET_ROOT
WNID = re.compile(r"n\d{8}")
NAME = re.compile(r"(n\d{8})_(\d+)(?:_n\d{8})?\.(?:JPEG|jpeg|jpg|png)")  # the Hub's copy repeats the wnid
ORIGINAL = "ILSVRC/imagenet-1k"  # on the Hub
MOST_FILES = 100_000  # of a folder of Parquet whose states are looked at
NESTINGS = ("ILSVRC/Data/CLS-LOC/train", "Data/CLS-LOC/train", "train", ".")


def train_folder(root: str | Path) -> Path:
    """The folder that holds ``<wnid>/<name>.JPEG``, given it or a folder of ILSVRC's nesting above it.

    Raises:
        InputError: no such folder, or no class folders in it.
    """
    base = Path(root).expanduser()
    with watched(base):
        if not base.is_dir():
            raise InputError(
                "no such folder, ImageNet's training images were expected",
                where=base,
                fix="Give imagenet_dir (or IMAGENET_ROOT) the folder that holds <wnid>/<name>.JPEG.",
            )
        for nesting in NESTINGS:
            folder = base / nesting
            if folder.is_dir() and any(WNID.fullmatch(child.name) for child in folder.iterdir()):
                return folder.resolve()
    raise InputError(
        "holds no class folders such as 'n01440764'",
        where=base,
        fix="Give imagenet_dir (or IMAGENET_ROOT) the folder that holds <wnid>/<name>.JPEG.",
    )


def moved(link: Path) -> str:
    """What is wrong with a set whose ``JPEGImages`` leads to no photographs, in words."""
    if not link.is_symlink():
        return f"its photographs are not here: there is no {link.name}"
    return f"its photographs are not where they were: {link.name} leads to {os.readlink(link)}, which is not there"


def is_data_set(given: str) -> bool:
    """Whether ``imagenet_dir`` names a data set: ``OWNER/NAME`` on the Hub, or a folder with Parquet in it.

    >>> is_data_set("ILSVRC/imagenet-1k")
    True
    """
    folder = Path(given).expanduser()
    if folder.is_dir():
        return any(files_in(place, ".parquet") for place in (folder, folder / "data"))
    return re.fullmatch(r"[\w-][\w.-]*/[\w.-]+", given) is not None


def cached_images(data_set: str) -> Path:
    """Where images taken out of a data set are kept, as ``<wnid>/<name>.JPEG``; never published.

    Each data set has a folder of its own, since another may hold other images under ImageNet's names; a folder of
    Parquet has one for each state of its files.
    """
    if data_set == ORIGINAL:
        return cache_folder() / "imagenet"
    folder = Path(data_set).expanduser()
    states = states_below(folder, MOST_FILES) if folder.is_dir() else None
    told = json.dumps([str(folder.absolute()) if folder.is_dir() else data_set, states])
    return cache_folder() / "imagenet" / "others" / hashlib.sha256(told.encode()).hexdigest()[:24]


def extract_images(data_set: str, wanted: set[str]) -> None:
    """Write the wanted ``<wnid>/<name>.JPEG`` of a data set's train split into ``cached_images``.

    The bytes are copied, not encoded again. Images written before are kept, so an interrupted call goes on;
    nothing is opened when all are there.

    Raises:
        InputError: the data set cannot be opened, or some of the images are not in it.
    """
    folder = cached_images(data_set)
    left = {name for name in wanted if not (folder / name).exists()}
    if not left:
        return
    try:
        rows = _open(data_set)
        for row in rows:
            name = image_name(row["image"]["path"] or "")
            if name not in left:
                continue
            content = row["image"]["bytes"] or _file_of(data_set, row["image"]["path"])
            with atomic_path(folder / name) as temporary:
                temporary.write_bytes(content)
            left.discard(name)
            if not left:
                return
    except InputError:
        raise
    except Exception as error:  # the Hub's many ways to say no: offline, gated, unknown
        line = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise InputError(
            f"cannot be read ({line})",
            where=data_set,
            fix="Log in to the Hub, or give imagenet_dir a folder.",
        ) from error
    raise InputError(f"lacks {len(left):,} of the images, {min(left)} first", where=data_set)


def _file_of(data_set: str, path: str) -> bytes:
    """An image that lies beside a data set's Parquet instead of in it; files elsewhere are nobody's business."""
    folder = Path(data_set).expanduser().resolve()
    file = (folder / path).resolve()
    if not file.is_relative_to(folder):
        raise InputError(f"names an image outside of it, {path[:100]!r}", where=data_set)
    return file.read_bytes()


def image_name(path: str) -> str | None:
    """``<wnid>/<wnid>_<id>.JPEG`` of an original file name, None if it is none.

    >>> image_name("n01440764_10026_n01440764.JPEG")
    'n01440764/n01440764_10026.JPEG'
    """
    match = NAME.fullmatch(path.rsplit("/", 1)[-1])
    return f"{match[1]}/{match[1]}_{match[2]}.JPEG" if match else None


def _open(data_set: str) -> Any:
    import datasets

    folder = Path(data_set).expanduser()
    if folder.is_dir():
        found = files_in(folder / "data", ".parquet") or files_in(folder, ".parquet")
        train = [file for file in found if file.name.startswith("train")]
        files = [glob.escape(str(file)) for file in train or found]  # they are taken for patterns
        rows = datasets.load_dataset("parquet", data_files={"train": files}, split="train", streaming=True)
    else:
        rows = datasets.load_dataset(data_set, split="train", streaming=True)
    return rows.select_columns(["image"]).cast_column("image", datasets.Image(decode=False))
