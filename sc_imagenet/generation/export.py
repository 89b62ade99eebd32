"""From selected pairs to a data set that ``load_dataset("sc_imagenet", root=...)`` and ``--pretrain`` read.

<out>/pairs/{train,validation}-*.parquet   see ``sc_imagenet.shards``
<out>/JPEGImages                           a link to the photographs; not to be published
<out>/README.md, statistics.png, generation.json
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sc_imagenet.errors import InputError
from sc_imagenet.files import write_json
from sc_imagenet.generation.card import write_card
from sc_imagenet.generation.options import GenerationOptions
from sc_imagenet.generation.photographs import Photograph, Scan
from sc_imagenet.generation.pipeline import read_shard
from sc_imagenet.generation.statistics import Statistics, draw_statistics, gather
from sc_imagenet.imagenet import image_name
from sc_imagenet.record import Record
from sc_imagenet.schema import UNKNOWN
from sc_imagenet.set_name import GENERATED
from sc_imagenet.shards import write_pairs

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
    link_images(out / "JPEGImages", found.root)
    write_json(
        out / GENERATED,
        {
            "name": out.absolute().name,
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
        table, _ = read_shard(selected[category])
        for row in table.to_pylist():
            number += 1
            if (category, row["source"]) != last:
                last = (category, row["source"])
                sources += 1
            if (sources % HELD_OUT == 1) != (split == "validation"):
                continue
            yield {**_row(row, number, photographs), "category": label}


def _row(row: dict[str, Any], number: int, photographs: Sequence[Photograph]) -> dict[str, Any]:
    ends = {side: photographs[row[side]] for side in ("source", "target")}
    ids = "-".join(image_id(end, row[side]) for side, end in ends.items())
    return {
        **row,
        **{side: {"path": end.path, "bytes": None} for side, end in ends.items()},
        **{f"{side}_size": [end.width, end.height] for side, end in ends.items()},
        "pair_id": f"{number:06d}-{ids}:{photographs[0].category}",
        "dataset": "sc-imagenet",
        "mirrored": False,
        **dict.fromkeys(("viewpoint_variation", "scale_variation", "truncation", "occlusion"), UNKNOWN),
    }


def image_id(photograph: Photograph, number: int) -> str:
    """An image's id in a pair id: ImageNet's own number, else its number in the class.

    >>> image_id(Photograph("n01440764/n01440764_10026.JPEG", "n01440764", "", 1, 1), 3)
    '10026'
    >>> image_id(Photograph("a cat/front-left.jpg", "a cat", "", 1, 1), 3)
    '00003'
    """
    name = image_name(photograph.path)
    return name.rsplit("_", 1)[1].removesuffix(".JPEG") if name else f"{number:05d}"


def link_images(link: Path, root: Path) -> None:
    """Let ``link`` lead to the photographs, so that the data set opens without further ado."""
    if link.is_symlink():
        link.unlink()
    if not link.exists():  # a folder that somebody put there stays
        os.symlink(root.resolve(), link, target_is_directory=True)
