"""What every data set's reader declares; ``sources/spair_71k.py`` is the shortest one to copy."""

from __future__ import annotations

import os
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal

from sc_imagenet.core.errors import InputError
from sc_imagenet.core.files import files_in

Outside = Literal["error", "keep"]
Size = tuple[int, int]  # width, height


@dataclass(frozen=True)
class Options:
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
    category: str
    source: str  # image file, relative to the image root
    target: str
    annotation: Any  # where its points are; the reader knows
    mirrored: bool = False


@dataclass(frozen=True, slots=True)
class Annotation:
    """The points of a pair, original pixels, 0-based; all fields as in ``schema.pair_features``.

    They are in the image as stored, whatever its EXIF orientation: conversion turns them with it.

    keypoint_ids  of the points, as the data set numbers them; None where it does not
    unpaired      points that one of the images alone shows: (id, x, y, whether it is the source that does)
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
    unpaired: tuple[tuple[int, float, float, bool], ...] = ()
    azimuths: tuple[int, int] = (-1, -1)
    annotated_source_size: Size | None = None
    annotated_target_size: Size | None = None


class Source:
    """One data set on disk.

    name      hyphenated, as the catalogue has it
    version   raised when the reader's output changes, so that what was converted before is made anew
    outside   what becomes of points more than 1 px outside their image where nothing else is asked
    needs_images  False where pairs may be read without their images at hand; they stay paths then
    """

    name: ClassVar[str]
    version: ClassVar[int] = 1
    outside: ClassVar[Outside] = "error"
    needs_images: ClassVar[bool] = True

    def __init__(self, root: Path, options: Options) -> None:
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
