"""What the file of a data set holds: its ``DATA_SET``, and a reader; ``sources/spair_71k.py`` is one to copy."""

from __future__ import annotations

import os
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Literal

from sc_imagenet.core.errors import InputError, check_inside, check_name
from sc_imagenet.core.files import files_in

Outside = Literal["error", "keep"]
Size = tuple[int, int]  # width, height
LONGEST_PART = 255  # bytes of a file's or folder's name, on any system


@dataclass(frozen=True)
class Mirror:
    """One place a file can be had from; mirrors of the same ``file`` are tried in order."""

    url: str
    sha256: str | None = None  # None: not known to us; the first download records it
    archive: str | None = None  # "zip", "tar" or None for a plain file
    holds: str | None = None  # what the archive must hold, at its top or in one folder below
    name: str | None = None  # what the file is called here, where the URL calls it otherwise

    @property
    def file(self) -> str:
        """The file's name.

        >>> Mirror("https://example.org/a/pairs.csv").file
        'pairs.csv'
        """
        return self.name or self.url.rpartition("/")[2]


@dataclass(frozen=True)
class DataSet:
    """What is known of a data set without opening it; counts are (pairs, images, classes) as published."""

    name: str  # hyphenated: the command line and the folder under a data root
    title: str
    paper: str
    licence: str
    homepage: str
    splits: tuple[str, ...]
    pairs: Mapping[str, int]  # published number of pairs by split
    images: int | None
    classes: int | None
    points: str  # in words: "10", "up to 30"
    manual: str  # the exact steps by hand, one a line; the only way where there are no mirrors
    mirrors: tuple[Mirror, ...] = ()
    configs: tuple[str, ...] = ("pairs",)  # "images" where it also lists its images
    folders: tuple[str, ...] = field(default=())  # other folder names copies are found under
    layout: str = ""  # the files expected under a data root, one a line
    threshold: str = "bbox-kp"  # what the strict protocol holds errors against: "img", "bbox" or "bbox-kp"
    all_pairs: int | None = None  # published number of pairs in all, where it is not known by split
    embedded: bool = False  # nothing is to be got: it is made in the cache folder when it is first loaded
    config_of: str | None = None  # ``datasets`` knows it as a config of this set: its own name is a plain word

    @property
    def python_name(self) -> str:
        """The name with underscores, as ``load_dataset`` is usually given it."""
        return self.name.replace("-", "_")


@dataclass(frozen=True)
class SourceOptions:
    """What may be said of a data set besides its root.

    imagenet_dir   folder of ImageNet images, or a data set ``OWNER/NAME`` (a Hub name or a folder of Parquet); for a
                   generated set also the folder of its photographs, where they were moved
    voc_dir        PASCAL VOC folder that holds JPEGImages, for PF-PASCAL
    outside        what to do with points more than 1 px outside their image; None: as the data set's reader
                   says ("error" but for DIY-SC)
    """

    imagenet_dir: str | None = None
    voc_dir: str | None = None
    outside: Outside | None = None

    def __post_init__(self) -> None:
        if self.outside not in (None, "error", "keep"):
            raise InputError(f"outside={self.outside!r} is not a choice", fix="Give 'error' or 'keep'.")


@dataclass(frozen=True, slots=True)
class Entry:
    """A pair as the data set's lists name it, before its annotation file is opened."""

    pair_id: str  # unique within the split
    category: str  # of the target, and but for pairs across categories of the source, too
    source: str  # image file, relative to the image root
    target: str
    annotation: Any  # where its points are; the reader knows
    mirrored: bool = False


def check_entry(entry: Entry, where: object) -> None:
    """Raise InputError if a pair's id or images lead out of the data set, cannot be printed or not be files' names."""
    for name in (entry.pair_id, entry.source, entry.target):
        check_inside(name, where)
    for name in (entry.source, entry.target):
        if any(len(part.encode()) > LONGEST_PART for part in name.split("/")):
            raise InputError(f"names the image {name[:80]!r}..., longer than a file may be called", where=where)
    check_name("class", entry.category, where)


@dataclass(frozen=True, slots=True)
class Annotation:
    """The points of a pair, original pixels, 0-based; all fields as in ``schema.pair_features``.

    They are in the image as stored, whatever its EXIF orientation: conversion turns them with it.

    keypoint_ids  of the points, as the data set numbers them; None where it does not
    keypoint_names, symmetric_ids   what it calls them, and the id of each one's left-right partner, its own where it
                                    has none; None where it does not tell
    unpaired      points that one of the images alone shows: (id, x, y, whether it is the source that does)
    further_targets   of each point, target points that are right as well; None where there are none
    source_category   what the source shows where that is not the pair's category
    azimuths      view of the source's and of the target's object in SPair-71k's eighths of a turn, or -1
    annotated_source_size, annotated_target_size   (width, height) as stored that the data set says its image had when
                                                   it was annotated; None where it says nothing
    """

    source_points: list[list[float]]
    target_points: list[list[float]]
    where: object  # the file to name in an error
    source_bbox: list[float] | None = None
    target_bbox: list[float] | None = None
    grades: tuple[int, int, int, int] = (-1, -1, -1, -1)  # viewpoint, scale, truncation, occlusion
    keypoint_ids: list[int] | None = None
    keypoint_names: list[str] | None = None
    symmetric_ids: list[int] | None = None
    unpaired: tuple[tuple[int, float, float, bool], ...] = ()
    further_targets: list[list[list[float]]] | None = None
    source_category: str | None = None
    azimuths: tuple[int, int] = (-1, -1)
    annotated_source_size: Size | None = None
    annotated_target_size: Size | None = None


class Source:
    """One data set on disk.

    name      of its ``DATA_SET``
    version   raised when the reader's output changes, so that what was converted before is made anew
    outside   what becomes of points more than 1 px outside their image where nothing else is asked
    """

    name: ClassVar[str]
    version: ClassVar[int] = 1
    outside: ClassVar[Outside] = "error"

    def __init__(self, root: Path, options: SourceOptions) -> None:
        self.root = root
        self.options = options

    def missing(self, split: str) -> str | None:
        """Why the split cannot be read from this root, in words; None if it can."""
        raise NotImplementedError

    def categories(self) -> tuple[str, ...]:
        """Class names in the published order: a fixed list, never a directory listing."""
        raise NotImplementedError

    def image_root(self) -> Path | None:
        """The folder that image paths of entries are relative to; None: no images are at hand."""
        raise NotImplementedError

    def entries(self, split: str) -> list[Entry]:
        """The pairs of a split, in the order of its list."""
        raise NotImplementedError

    def annotation(self, entry: Entry, source_size: Size | None, target_size: Size | None) -> Annotation:
        """Open the annotation of one pair.

        Raises:
            InputError: the file is missing, truncated or lacks a key.
        """
        raise NotImplementedError

    def fingerprint(self, split: str) -> tuple[list[Path], list[Path]]:
        """What tells that a split changed: files to hash; and files and folders whose files' states are looked at."""
        raise NotImplementedError

    def strays(self) -> list[Path]:
        """What lies among the data set's files and is none of them: it is not read, but a report names it."""
        return []

    def photographs(self) -> tuple[Path, tuple[str, ...] | None] | None:
        """Photographs that labels can be made for: <folder>/<class>/<image>, and which classes if not all; or None."""
        return None

    def label_errors(self, pairs: Sequence[Path]) -> dict[str, Any] | None:
        """How far labels made for ``photographs`` lie from the truth; None where that is not known.

        Args:
            pairs: the Parquet files of the data set that was made.
        """
        return None


def strangers(folder: Path, endings: tuple[str, ...] = (), names: Collection[str] = ()) -> list[Path]:
    """What lies in a folder and neither is a file that ends so nor has one of the names; dot names are never told."""
    if not folder.is_dir():
        return []
    known = {*(path.name for path in (files_in(folder, *endings) if endings else ())), *names}
    with os.scandir(folder) as found:
        left = sorted(each.name for each in found if not each.name.startswith(".") and each.name not in known)
    return [folder / name for name in left]


def lacking(path: Path) -> str | None:
    """Why a list or folder cannot be read, in words: it is not there, or an empty file; else None.

    A part of a data set may come with the lists of all its splits, some of them empty.
    """
    if not path.exists():
        return f"{path} is not there"
    return f"{path} is empty" if path.is_file() and not path.stat().st_size else None


def first_existing(*candidates: Path) -> Path | None:
    """The first of the paths that exists."""
    return next((path for path in candidates if path.exists()), None)
