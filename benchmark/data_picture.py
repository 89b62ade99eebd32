"""A picture of some pairs of a data set with their annotated points."""

from __future__ import annotations

import random
from pathlib import Path

import datasets
from PIL import Image

from benchmark.running.data import Pairs, is_generated
from benchmark.running.data_splits import readable_splits
from sc_imagenet.core.errors import InputError, unknown_name
from sc_imagenet.data.catalog import info
from sc_imagenet.data.checks import check_size
from sc_imagenet.data.drawing import contact_sheet, draw_pair
from sc_imagenet.data.images import open_image

COLUMN = 1200  # pixels
ONE_COLUMN = 3  # so many pairs still go below each other


def picture_of_pairs(
    name: str, pairs: int, seed: int = 0, category: str | None = None, root: str | None = None
) -> tuple[Image.Image, int]:
    """Draw ``pairs`` pairs, drawn by ``seed``, of a data set, a split or a generated set; also how many there were.

    Raises:
        InputError: unknown name, split or class, the data are not here, or an image cannot be read.
    """
    shown = _split_to_show(name, root)
    rows = shown.open()
    names = rows.features["category"].names
    chosen = list(range(len(rows)))
    if category is not None:
        if category not in names:
            raise unknown_name(f"class of {shown.name}", category, names)
        wanted = names.index(category)
        chosen = [index for index, label in enumerate(rows["category"]) if label == wanted]
        if not chosen:
            raise InputError(f"no pair of class {category!r} is in {shown.name}:{shown.split} here")
    picked = sorted(random.Random(seed).sample(chosen, min(pairs, len(chosen))))
    for side in ("source", "target"):
        rows = rows.cast_column(side, datasets.Image(decode=False))
    title = info(shown.dataset).title if shown.form is None else shown.name
    drawn = []
    for row in (rows[index] for index in picked):
        source, target = (_opened(row, side) for side in ("source", "target"))
        mirrored = ", mirrored before use" if row["mirrored"] else ""
        line = f"{title} {shown.split}, {names[row['category']]}{mirrored}: {row['pair_id']}"
        drawn.append(draw_pair(source, target, row["source_points"], row["target_points"], title=line))
    columns = 1 if len(drawn) <= ONE_COLUMN else 2
    return contact_sheet(drawn, columns, COLUMN * columns), len(drawn)


def _split_to_show(name: str, root: str | None) -> Pairs:
    if is_generated(name):
        return Pairs.parse(name, "train", None)
    name, splits = readable_splits(name, root)
    return Pairs.parse(name, splits[0], Path(root) if root else None)


def _opened(row: dict, side: str) -> Image.Image:
    stored, pair = row[side], f"pair {row['pair_id']}"
    if stored["bytes"] is not None:
        image = open_image(stored["bytes"], name=stored["path"] or pair)
    else:
        try:
            image = open_image(stored["path"])
        except InputError as error:
            raise InputError(f"{error} It is named by {pair}") from error
    if row[f"{side}_size"] is not None:
        check_size(stored["path"], image.size, row[f"{side}_size"], pair)
    return image
