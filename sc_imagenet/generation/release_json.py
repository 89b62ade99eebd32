"""A generated data set in the layout of the released SC-ImageNet, which is SPair-71k's.

    <out>/spair/Layout/large/{trn,val}.txt
    <out>/spair/PairAnnotation/{trn,val}/<pair id>.json
    <out>/spair/JPEGImages/<class>/<class>_<image id>.JPEG   links into <out>/JPEGImages

A pair id is ``<n>-<source id>-<target id>:<class>``; the signs that divide it, and blanks at the ends, which readers of
lists drop, are replaced in class names. Points and boxes are in pixels as stored, not turned by EXIF, as in the
releases: readers of this layout decode so.
"""

from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Iterable, Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

from sc_imagenet.core.errors import InputError
from sc_imagenet.core.files import atomic_path
from sc_imagenet.data.imagenet import WNID, image_name
from sc_imagenet.data.images import image_header
from sc_imagenet.data.orientation import Stored
from sc_imagenet.data.record import Record
from sc_imagenet.data.shards import open_parquet, read_batches
from sc_imagenet.sources.sc_imagenet_release import FOLDERS

GRADES = ("viewpoint_variation", "scale_variation", "truncation", "occlusion")


def write_release(out: Path, records: Mapping[str, Record]) -> Path:
    """Write the pairs of ``<out>/pairs`` as JSON; the folder written.

    The lists come last: a folder without them holds no data set.

    Args:
        out: the data set's folder, whose ``JPEGImages`` leads to the photographs.
        records: of ``<out>/pairs``, by split.

    Raises:
        InputError: the folder cannot be written, a photograph is gone, or two of a class have one id.
    """
    folder = out / "spair"
    stored = lru_cache(maxsize=None)(lambda path: image_header(out / "JPEGImages" / path))
    shutil.rmtree(folder, ignore_errors=True)
    linked: dict[Path, str] = {}
    for split, record in records.items():
        names = release_names(record.categories)
        annotations = folder / "PairAnnotation" / FOLDERS[split]
        annotations.mkdir(parents=True)
        ids = []
        for row in _rows(out / "pairs", split, record):
            category = record.categories[row["category"]]
            pair_id = f"{row['pair_id'].split(':')[0]}:{names[category]}"
            ids.append(pair_id)
            ends = [stored(row[side]["path"]) for side in ("source", "target")]
            text = json.dumps(_annotation(row, names[category], *ends))
            (annotations / f"{pair_id}.json").write_text(text, encoding="utf-8")
            for side, image in zip(("source", "target"), pair_id.split(":")[0].split("-")[1:]):
                place = folder / "JPEGImages" / names[category] / f"{names[category]}_{image}.JPEG"
                _link(place, out / "JPEGImages", row[side]["path"], linked)
        with atomic_path(folder / "Layout" / "large" / f"{FOLDERS[split]}.txt") as temporary:
            temporary.write_text("".join(f"{pair_id}\n" for pair_id in ids), encoding="utf-8")
    return folder


def _link(place: Path, images: Path, path: str, linked: dict[Path, str]) -> None:
    """Let ``place`` lead to a photograph, by way of the set's own link: that one alone knows where they all lie."""
    if linked.setdefault(place, path) != path:
        raise InputError(
            f"{linked[place]} and {path} are both {place.name} in the layout of SC-ImageNet",
            where=images.parent,
            fix="'scbench generate run' with the same options writes the set with an id for each.",
        )
    if not place.is_symlink():
        place.parent.mkdir(parents=True, exist_ok=True)
        os.symlink(os.path.join(os.path.relpath(images, place.parent), path), place)


def not_of_imagenet(out: Path, records: Mapping[str, Record]) -> list[str]:
    """The photographs of ImageNet's classes that are not called as its training images, by the names they have."""
    found: dict[str, None] = {}
    for split, record in records.items():
        for row in _rows(out / "pairs", split, record):
            wnid = record.categories[row["category"]]
            for path in (row[side]["path"] for side in ("source", "target")):
                if WNID.fullmatch(wnid) and not (image_name(path) or "").startswith(f"{wnid}/"):
                    found[path] = None
    return sorted(found)


def release_names(categories: Iterable[str]) -> dict[str, str]:
    """Class names without the signs that divide a pair id and blanks at the ends, still different from one another.

    >>> release_names(["n01440764", "T-rex", "T_rex", "a dog "])
    {'n01440764': 'n01440764', 'T-rex': 'T_rex_', 'T_rex': 'T_rex', 'a dog ': 'a dog_'}
    """
    categories = list(categories)
    names: dict[str, str] = {}
    for category in categories:
        name = re.sub(r"[-:]|^\s|\s$", "_", category)
        while name in names.values() or (name != category and name in categories):
            name += "_"
        names[category] = name
    return names


def _rows(folder: Path, split: str, record: Record) -> Iterable[dict[str, Any]]:
    for shard in record.shards:
        parquet = open_parquet(folder / shard.file)
        for table in read_batches(parquet, parquet.schema_arrow, folder / shard.file):
            yield from table.to_pylist()


def _annotation(row: Mapping[str, Any], category: str, source: Stored, target: Stored) -> dict[str, Any]:
    return {
        "src_kps": source.as_stored(row["source_points"]),
        "trg_kps": target.as_stored(row["target_points"]),
        "src_bndbox": source.as_stored_box(row["source_bbox"]),
        "trg_bndbox": target.as_stored_box(row["target_bbox"]),
        "src_imsize": list(source.stored_size),
        "trg_imsize": list(target.stored_size),
        "category": category,
        **{grade: row[grade] for grade in GRADES},
    }
