"""``scbench data``: what data sets there are, getting them, checking them, looking at them."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import datasets
import typer
from PIL import Image

from benchmark.running.data import Pairs, is_generated, readable_splits
from sc_imagenet.core.errors import InputError, unknown_name
from sc_imagenet.data.catalog import info
from sc_imagenet.data.drawing import contact_sheet, draw_pair
from sc_imagenet.data.images import open_image
from sc_imagenet.data.schema import check_size

# A picture of some pairs of a data set with their annotated points.

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


# ``scbench data``: what data sets there are, getting them, checking them, looking at them.

NAME = typer.Argument(help="A data set, such as pf-willow.", show_default=False)
NAME_SPLIT = typer.Argument(help="A data set, or NAME:SPLIT.", show_default=False)
DATA_ROOT_OPTION = typer.Option(None, "--data-root", help="Folder that holds the data sets; else $SC_DATA_ROOT.")
NUM_PROC = typer.Option(None, "--num-proc", min=1, help="Processes; by default all cores where it pays.")
JSON = typer.Option(False, "--json", help="Print JSON instead of a table.")

data = typer.Typer(no_args_is_help=True, rich_markup_mode="rich")


def add_to(app: typer.Typer) -> None:
    """Add the commands to ``scbench``."""
    app.add_typer(data, name="data", help="List, download, convert, verify and look at data sets.")


@data.command("list")
def list_all(data_root: str | None = DATA_ROOT_OPTION, as_json: bool = JSON) -> None:
    """List the data sets: pairs, images, classes, licence, and whether they are on this machine."""
    from benchmark.running.data_tables import data_rows, print_list

    print_list(data_rows(data_root), as_json)


@data.command("info")
def info_of(name: str = NAME, data_root: str | None = DATA_ROOT_OPTION, as_json: bool = JSON) -> None:
    """Tell all of one data set: licence, homepage, expected files, the steps to get it by hand."""
    from benchmark.running.data_tables import info_row, print_info

    print_info(info_row(name, data_root), as_json)


@data.command("download")
def download(name: str = NAME, data_root: str | None = DATA_ROOT_OPTION, as_json: bool = JSON) -> None:
    """Download a data set; goes on where an earlier download broke off.

    Where a program may not or cannot get it, the steps by hand are printed.
    """
    from sc_imagenet.core.progress import bars, print_json
    from sc_imagenet.data.catalog import info as entry_of
    from sc_imagenet.data.download import download as download_files

    entry = entry_of(name)
    if not entry.mirrors and not as_json:
        print(f"{entry.title}, by hand:\n{entry.manual}")
    with bars(in_bytes=True) as report:
        parts = download_files(name, data_root, report)
    if as_json:
        rows = [{"file": part.file, "state": part.state, "place": str(part.path)} for part in parts]
        print_json(rows)
        return
    for part in parts:
        print(f"{part.file}: {'downloaded' if part.state == 'downloaded' else 'already here'}, {part.path}")
    print(f"next: scbench data verify {entry.name}")


@data.command("convert")
def convert(
    name: str = NAME_SPLIT,
    data_root: str | None = DATA_ROOT_OPTION,
    num_proc: int | None = NUM_PROC,
    force: bool = typer.Option(False, "--force", help="Convert again what was converted before."),
    as_json: bool = JSON,
) -> None:
    """Convert a data set's annotations to Parquet in the cache; loading does so by itself."""
    from benchmark.running.data import readable_splits
    from sc_imagenet.core.progress import bars, print_json
    from sc_imagenet.data.convert import convert as convert_split

    name, splits = readable_splits(name, data_root)
    rows: list[dict[str, Any]] = []
    with bars() as report:
        for split in splits:

            def progress(done: int, total: int, split: str = split) -> None:
                report(split, done, total)

            record = convert_split(name, split, data_root, num_proc, force, progress)
            counts = {"pairs": record.rows, "images": record.images, "points": record.points}
            place = str(record.folder)
            rows.append({"split": split, **counts, "manifest_sha256": record.manifest_sha256, "place": place})
    if as_json:
        print_json(rows)
        return
    for row in rows:
        counted = ", ".join(f"{row[what]:,} {what}" for what in ("pairs", "images", "points"))
        print(f"{name}:{row['split']}  {counted}  {row['place']}")


@data.command("verify")
def verify(
    name: str = NAME_SPLIT,
    data_root: str | None = DATA_ROOT_OPTION,
    num_proc: int | None = NUM_PROC,
    as_json: bool = JSON,
) -> None:
    """Decode every image, open every annotation, compare the counts with the published ones.

    Ends with exit code 2 where something is missing or corrupt; a part of a data set is no damage.
    """
    from benchmark.running.data_tables import print_verified
    from sc_imagenet.core.errors import InputError
    from sc_imagenet.core.progress import bars
    from sc_imagenet.data.verify import verify as look_through

    name, _, split = name.partition(":")
    with bars() as report:
        found = look_through(name, split or None, data_root, num_proc, report)
    print_verified(found, as_json)
    if found.damaged:
        listed = ", ".join(f"{count:,} {what}" for what, count in found.damage.items())
        raise InputError(f"is damaged: {listed}", where=found.dataset, fix="Get the files named above again.")


@data.command("show")
def show(
    name: str = typer.Argument(help="A data set, NAME:SPLIT, or a generated set's folder.", show_default=False),
    pairs: int = typer.Option(4, "--pairs", min=1, max=200, help="How many pairs."),
    seed: int = typer.Option(0, "--seed", help="Which pairs are drawn."),
    category: str | None = typer.Option(None, "--category", help="Only pairs of this class."),
    out: str = typer.Option(..., "--out", help="The picture to write: .png, .jpg or .webp."),
    data_root: str | None = DATA_ROOT_OPTION,
) -> None:
    """Draw pairs with their points into one picture."""
    from sc_imagenet.data.images import picture_format, save_picture

    picture_format(out)  # a wrong suffix is said before, not after, the work
    picture, drawn = picture_of_pairs(name, pairs, seed, category, data_root)
    save_picture(picture, out)
    print(f"{drawn} pairs in {out}")
