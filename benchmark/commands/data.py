"""``scbench data``: what data sets there are, getting them, checking them, looking at them."""

from __future__ import annotations

from typing import Any

import typer

NAME = typer.Argument(help="A data set, such as pf-willow.", show_default=False)
NAME_SPLIT = typer.Argument(help="A data set, or NAME:SPLIT.", show_default=False)
DATA_ROOT = typer.Option(None, "--data-root", help="Folder that holds the data sets; else $SC_DATA_ROOT.")
NUM_PROC = typer.Option(None, "--num-proc", min=1, help="Processes; by default all cores where it pays.")
JSON = typer.Option(False, "--json", help="Print JSON instead of a table.")

data = typer.Typer(no_args_is_help=True, rich_markup_mode="rich")


def add_to(app: typer.Typer) -> None:
    """Add the commands to ``scbench``."""
    app.add_typer(data, name="data", help="List, download, convert, verify and look at data sets.")


@data.command("list")
def list_all(data_root: str | None = DATA_ROOT, as_json: bool = JSON) -> None:
    """List the data sets: pairs, images, classes, licence, and whether they are on this machine."""
    from benchmark.data_tables import data_rows, print_list

    print_list(data_rows(data_root), as_json)


@data.command("info")
def info(name: str = NAME, data_root: str | None = DATA_ROOT, as_json: bool = JSON) -> None:
    """Tell all of one data set: licence, homepage, expected files, the steps to get it by hand."""
    from benchmark.data_tables import info_row, print_info

    print_info(info_row(name, data_root), as_json)


@data.command("download")
def download(name: str = NAME, data_root: str | None = DATA_ROOT, as_json: bool = JSON) -> None:
    """Download a data set; goes on where an earlier download broke off.

    Where a program may not or cannot get it, the steps by hand are printed.
    """
    from sc_imagenet.core.printing import print_json
    from sc_imagenet.core.progress import bars
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
    data_root: str | None = DATA_ROOT,
    num_proc: int | None = NUM_PROC,
    force: bool = typer.Option(False, "--force", help="Convert again what was converted before."),
    as_json: bool = JSON,
) -> None:
    """Convert a data set's annotations to Parquet in the cache; loading does so by itself."""
    from benchmark.running.data_splits import readable_splits
    from sc_imagenet.core.printing import print_json
    from sc_imagenet.core.progress import bars
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
    data_root: str | None = DATA_ROOT,
    num_proc: int | None = NUM_PROC,
    as_json: bool = JSON,
) -> None:
    """Decode every image, open every annotation, compare the counts with the published ones.

    Ends with exit code 2 where something is missing or corrupt; a part of a data set is no damage.
    """
    from benchmark.data_tables import print_verified
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
    data_root: str | None = DATA_ROOT,
) -> None:
    """Draw pairs with their points into one picture."""
    from benchmark.data_picture import picture_of_pairs
    from sc_imagenet.data.images import picture_format, save_picture

    picture_format(out)  # a wrong suffix is said before, not after, the work
    picture, drawn = picture_of_pairs(name, pairs, seed, category, data_root)
    save_picture(picture, out)
    print(f"{drawn} pairs in {out}")
