"""From selected pairs to a data set that others read: Parquet shards with a card, or the layout of SC-ImageNet."""

from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from importlib.resources import files
from pathlib import Path
from string import Template
from typing import Any

from sc_imagenet.core.errors import InputError
from sc_imagenet.core.files import atomic_path, write_json
from sc_imagenet.data.imagenet import WNID, image_name
from sc_imagenet.data.images import image_header
from sc_imagenet.data.orientation import Stored
from sc_imagenet.data.publish import data_files, size_category
from sc_imagenet.data.record import Record
from sc_imagenet.data.schema import GENERATED, UNKNOWN
from sc_imagenet.data.shards import open_parquet, read_batches, write_pairs
from sc_imagenet.generation.options import GenerationOptions
from sc_imagenet.generation.photographs import Photograph, Scan
from sc_imagenet.generation.pipeline import read_shard
from sc_imagenet.generation.statistics import Statistics, draw_statistics, gather, median
from sc_imagenet.sources.sc_imagenet_release import FOLDERS

# A generated data set in the layout of the released SC-ImageNet, which is SPair-71k's.
#
#     <out>/spair/Layout/large/{trn,val}.txt
#     <out>/spair/PairAnnotation/{trn,val}/<pair id>.json
#     <out>/spair/JPEGImages/<class>/<class>_<image id>.JPEG   links into <out>/JPEGImages
#
# A pair id is ``<n>-<source id>-<target id>:<class>``; the signs that divide it, and blanks at the ends, which
# readers of lists drop, are replaced in class names. Points and boxes are in pixels as stored, not turned by EXIF, as
# in the releases: readers of this layout decode so.

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


# The card of a generated data set: ``card.md`` filled with its counts.

LISTED = 20  # classes that fall short, by name


def write_card(path: Path, statistics: Statistics, records: Mapping[str, Record], options: GenerationOptions) -> None:
    """Write the card."""
    template = Template((files("sc_imagenet.generation") / "card.md").read_text(encoding="utf-8"))
    counts = {name: f"{getattr(statistics, name):,}" for name in ("images", "single", "kept", "points")}
    text = template.substitute(
        counts,
        title=f"SC-{path.absolute().parent.name}",
        pretty_name=json.dumps(f"SC-{path.absolute().parent.name}"),
        size=size_category(statistics.pairs),
        configs=json.dumps([data_files(list(records))]),
        splits="\n".join(f"| {split} | {record.rows:,} |" for split, record in records.items()),
        classes=f"{len(statistics.classes):,}",
        matched=median(statistics.matched),
        selected=median(statistics.selected),
        method=describe(options),
        side=options.size,
        shortfalls=shortfalls(statistics),
    )
    with atomic_path(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def describe(options: GenerationOptions) -> str:
    """The method in words."""
    how = f"the trained cascade {Path(options.network).name}" if options.network else "raw features and Hough scores"
    loops = (
        "110 closed loops an image in groups of 12"
        if options.loops == "clique"
        else "100 closed loops an image, drawn independently"
    )
    return (
        f"Backbone {options.backbone} at {options.size} px; matches by {how}; saliency: {Path(options.saliency).name}; "
        f"objects counted by: {Path(options.counts).name}. Images are scored by {loops}; of each class the best "
        f"{100 * options.share:g} % are kept, each the source of its {options.pairs} best pairs, with "
        f"{options.points} points each. Seed {options.seed}."
    )


def shortfalls(statistics: Statistics) -> str:
    """A line for each class that has less than the rules ask for, or nothing."""
    lines = [f"- {name}: no pairs; {reason}" for name, reason in statistics.left_out.items()]
    lines += [f"- {name}: {reason}" for name, reasons in statistics.shortfalls.items() for reason in reasons]
    if len(lines) > LISTED:
        lines = lines[:LISTED] + [f"- and {len(lines) - LISTED:,} more lines in generation.json"]
    return "\n".join(lines) or "Nowhere."


# From selected pairs to a data set that ``load_dataset("sc_imagenet", root=...)`` and ``--pretrain`` read.
#
# <out>/pairs/{train,validation}-*.parquet   see ``sc_imagenet.data.shards``
# <out>/JPEGImages                           a link to the photographs; not to be published
# <out>/README.md, statistics.png, generation.json

HELD_OUT = 20  # every such source image's pairs are the validation split


@dataclass(frozen=True)
class Exported:
    """What was written."""

    records: Mapping[str, Record]  # by split
    statistics: Statistics


def export(
    out: Path, found: Scan, labels: Mapping[str, Path], selected: Mapping[str, Path], options: GenerationOptions
) -> Exported:
    """Write the data set; an earlier one in ``out`` is replaced when the new one is whole.

    Args:
        out: the data set's folder.
        found: the photographs.
        labels, selected: shards by class.
        options: that they were made with.

    Raises:
        InputError: no pair was selected, or ``out`` cannot be written.
    """
    statistics = gather(labels, selected)
    if not statistics.pairs:
        why = next((f"; {name}: {reason}" for name, reason in statistics.left_out.items()), "")
        raise InputError(f"no pair was selected{why}", where=out, fix="Give more images of each class.")
    fresh = out / "work" / "export"
    shutil.rmtree(fresh, ignore_errors=True)
    categories = sorted(statistics.classes)
    records = {}
    for split in ("train", "validation"):
        total = sum(1 for _ in _pairs(found, selected, categories, split))
        rows = _pairs(found, selected, categories, split)
        records[split] = write_pairs(fresh, split, rows, categories, total)
    final = out / "pairs"
    shutil.rmtree(final, ignore_errors=True)
    os.replace(fresh / "pairs", final)
    records = {split: replace(record, folder=final) for split, record in records.items()}
    link_images(out / "JPEGImages", found.root)
    write_json(
        out / GENERATED,
        {
            "name": out.absolute().name,
            "paths_relative_to": "JPEGImages",  # a link to the photographs, see ``lead_to``
            "options": options.as_dict(),
            "counts": statistics.as_dict(),
            "splits": {split: {"pairs": r.rows, "sha256": r.manifest_sha256} for split, r in records.items()},
        },
    )
    draw_statistics(statistics, out / "statistics.png")
    write_card(out / "README.md", statistics, records, options)
    return Exported(records, statistics)


def _pairs(
    found: Scan, selected: Mapping[str, Path], categories: Sequence[str], split: str
) -> Iterator[dict[str, Any]]:
    """The rows of a split, in the order of classes and images."""
    number = sources = 0
    last = None
    for label, category in enumerate(categories):
        photographs = found.classes[category]
        ids = image_ids(photographs)
        table, _ = read_shard(selected[category])
        for row in table.to_pylist():
            number += 1
            if (category, row["source"]) != last:
                last = (category, row["source"])
                sources += 1
            if (sources % HELD_OUT == 1) != (split == "validation"):
                continue
            yield {**_row(row, number, photographs, ids), "category": label}


def _row(row: dict[str, Any], number: int, photographs: Sequence[Photograph], ids: Sequence[str]) -> dict[str, Any]:
    ends = {side: photographs[row[side]] for side in ("source", "target")}
    both = "-".join(ids[row[side]] for side in ends)
    return {
        **row,
        **{side: {"path": end.path, "bytes": None} for side, end in ends.items()},
        **{f"{side}_size": [end.width, end.height] for side, end in ends.items()},
        "pair_id": f"{number:06d}-{both}:{photographs[0].category}",
        "dataset": "sc-imagenet",
        "mirrored": False,
        **dict.fromkeys(("viewpoint_variation", "scale_variation", "truncation", "occlusion"), UNKNOWN),
    }


def image_ids(photographs: Sequence[Photograph]) -> list[str]:
    """The ids of a class's photographs in pair ids, each another: ImageNet's own numbers, else those in the class.

    A number is ImageNet's own where the file is called by it and lies in the folder of its wnid; a second file called
    by the same one, as ``x.png`` beside ``x.JPEG``, has its number in the class.

    >>> names = ["n01440764/n01440764_10026.JPEG", "n01440764/n01440764_10026.png", "n01440764/n01443537_10026.JPEG"]
    >>> image_ids([Photograph(name, "n01440764", "", 1, 1) for name in names])
    ['10026', '00001', '00002']
    """
    own = [_own_number(each) for each in photographs]
    taken: set[str] = set()
    firsts = []
    for number in own:
        firsts.append(number is not None and number not in taken)
        taken.add(number or "")
    ids = []
    for place, (number, first) in enumerate(zip(own, firsts)):
        chosen = number if number is not None and first else f"{place:05d}"
        while not first and chosen in taken:
            chosen = f"0{chosen}"
        taken.add(chosen)
        ids.append(chosen)
    return ids


def _own_number(photograph: Photograph) -> str | None:
    name = image_name(photograph.path)
    if name is None or not name.startswith(f"{photograph.category}/"):
        return None
    return name.rsplit("_", 1)[1].removesuffix(".JPEG")


def link_images(link: Path, root: Path) -> None:
    """Let ``link`` lead to the photographs, so that the data set opens without further ado."""
    if link.is_symlink():
        link.unlink()
    if not link.exists():  # a folder that somebody put there stays
        os.symlink(root.resolve(), link, target_is_directory=True)


def lead_to(link: Path, root: Path, records: Mapping[str, Record]) -> None:
    """Let a finished set's ``link`` lead to the photographs' new folder.

    Raises:
        InputError: they are not there, or ``link`` is a folder of its own.
    """
    root = root.expanduser()
    for split, record in records.items():
        for file in record.files:
            table = open_parquet(file).read(["source", "target"])
            for side in ("source", "target"):
                for image in table[side].to_pylist():
                    if not (root / image["path"]).is_file():
                        what = f"holds no {image['path']}, which is an image of {split}"
                        raise InputError(what, where=root, fix="Give the folder that holds <class>/<image>.")
    if link.exists() and not link.is_symlink():
        raise InputError("is no link but a folder of photographs", where=link, fix="Move it away first.")
    link_images(link, root)
