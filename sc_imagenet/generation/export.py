"""From selected pairs to a data set that ``load_dataset("sc_imagenet", root=...)`` and ``--pretrain`` read.

<out>/pairs/{train,validation}-*.parquet   see ``sc_imagenet.data.shards``
<out>/JPEGImages                           a link to the photographs; not to be published
<out>/README.md, statistics.png, generation.json
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from sc_imagenet.core.errors import InputError
from sc_imagenet.core.files import write_json
from sc_imagenet.data.imagenet import image_name
from sc_imagenet.data.record import Record
from sc_imagenet.data.schema import UNKNOWN
from sc_imagenet.data.set_name import GENERATED
from sc_imagenet.data.shards import open_parquet, write_pairs
from sc_imagenet.generation.card import write_card
from sc_imagenet.generation.options import GenerationOptions
from sc_imagenet.generation.photographs import Photograph, Scan
from sc_imagenet.generation.pipeline import read_shard
from sc_imagenet.generation.statistics import Statistics, draw_statistics, gather

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
