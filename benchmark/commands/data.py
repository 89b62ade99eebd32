"""``scbench data``: what data sets there are, getting them, checking them, looking at them."""

from __future__ import annotations

import random
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import datasets
import typer
from PIL import Image
from rich.console import Console
from rich.table import Table
from rich.text import Text

from benchmark.commands.options import DATA, MACHINE, OUTPUT, DataRoot, Json, Seed
from benchmark.running.data import NamedPairs, is_generated, readable_splits
from sc_imagenet.core.errors import InputError, unknown_name, visible
from sc_imagenet.core.progress import bars, print_json
from sc_imagenet.data.catalog import info
from sc_imagenet.data.convert import convert as convert_split
from sc_imagenet.data.download import download as download_files
from sc_imagenet.data.drawing import contact_sheet, draw_pair
from sc_imagenet.data.images import open_image, picture_format, save_picture
from sc_imagenet.data.pair_lists import WORST_SPREAD, lists_of, overlap, read_list, write_lists
from sc_imagenet.data.roots import data_rows, info_row
from sc_imagenet.data.schema import check_size
from sc_imagenet.data.tensor_files import shortened
from sc_imagenet.data.verify import VerifyReport
from sc_imagenet.data.verify import verify as look_through

app = typer.Typer(add_completion=False, no_args_is_help=True)

Name = Annotated[str, typer.Argument(help="A data set, such as pf-willow.")]
NameSplit = Annotated[str, typer.Argument(help="A data set, or NAME:SPLIT.")]
Processes = Annotated[
    int | None,
    typer.Option(
        "--num-proc", min=1, help="So many processes work; by default all cores where it pays.", rich_help_panel=MACHINE
    ),
]


@app.callback()
def data() -> None:
    """List, download, convert, verify and look at data sets."""


@app.command("list")
def list_all(data_root: DataRoot = None, as_json: Json = False) -> None:
    """List the data sets: pairs, images, classes, licence, and whether they are on this machine.

    [bold]scbench data list --data-root datasets[/bold]
    """
    print_list(data_rows(data_root), as_json)


@app.command("info")
def info_of(name: Name, data_root: DataRoot = None, as_json: Json = False) -> None:
    """Tell all of one data set: licence, homepage, expected files, the steps to get it by hand.

    [bold]scbench data info spair-71k[/bold]
    """
    print_info(info_row(name, data_root), as_json)


@app.command("download")
def download(name: Name, data_root: DataRoot = None, as_json: Json = False) -> None:
    """Download a data set; goes on where an earlier download broke off.

    Where a program may not or cannot get it, the steps by hand are printed.

    [bold]scbench data download spair-71k --data-root datasets[/bold]
    """
    entry = info(name)
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


@app.command("convert")
def convert(
    name: NameSplit,
    data_root: DataRoot = None,
    num_proc: Processes = None,
    force: Annotated[
        bool, typer.Option("--force", help="What was converted before is converted again.", rich_help_panel=OUTPUT)
    ] = False,
    as_json: Json = False,
) -> None:
    """Convert a data set's annotations to Parquet in the cache; loading does so by itself.

    [bold]scbench data convert pf-pascal:test[/bold]
    """

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


@app.command("verify")
def verify(name: NameSplit, data_root: DataRoot = None, num_proc: Processes = None, as_json: Json = False) -> None:
    """Decode every image, open every annotation, compare the counts with the published ones.

    Ends with exit code 2 where something is missing or corrupt; a part of a data set is no damage.

    [bold]scbench data verify spair-71k --num-proc 4[/bold]
    """
    name, _, split = name.partition(":")
    with bars() as report:
        found = look_through(name, split or None, data_root, num_proc, report)
    print_verified(found, as_json)
    if found.damaged:
        listed = ", ".join(f"{count:,} {what}" for what, count in found.damage.items())
        raise InputError(f"is damaged: {listed}", where=found.dataset, fix="Get the files named above again.")


@app.command("show")
def show(
    name: Annotated[str, typer.Argument(help="A data set, NAME:SPLIT, or a generated set's folder.")],
    out: Annotated[
        Path,
        typer.Option(help="A picture is written here: .png, .jpg or .webp.", rich_help_panel=OUTPUT),
    ],
    pairs: Annotated[int, typer.Option(min=1, max=200, help="So many pairs are drawn.", rich_help_panel=DATA)] = 4,
    seed: Seed = 0,
    category: Annotated[str | None, typer.Option(help="Only pairs of this class.", rich_help_panel=DATA)] = None,
    data_root: DataRoot = None,
) -> None:
    """Draw pairs with their points into one picture.

    [bold]scbench data show pf-willow --pairs 24 --out pairs.png[/bold]
    """
    picture_format(out)  # a wrong suffix is said before, not after, the work
    picture, drawn = picture_of_pairs(name, pairs, seed, category, data_root)
    save_picture(picture, out)
    print(f"{drawn} pairs in {out}")


@app.command("lists")
def lists(
    name: Name,
    out: Annotated[
        Path | None, typer.Option(help="Each split's list is written into this folder.", rich_help_panel=OUTPUT)
    ] = None,
    order: Annotated[
        Path | None,
        typer.Option(
            help="Of AP-10K: pairs as its notebook draws them where files are so listed: folder|folders|files a line.",
            rich_help_panel=DATA,
        ),
    ] = None,
    data_root: DataRoot = None,
    as_json: Json = False,
) -> None:
    """Print how many pairs each split has, and the SHA-256 by which two laboratories know that they have the same.

    [bold]scbench data lists ap-10k --out lists[/bold]
    """
    found = lists_of(name, data_root, order)
    if out is not None:
        write_lists(found, out)
    if as_json:
        print_json([{"split": each.name, "pairs": len(each.stems), "sha256": each.sha256} for each in found])
        return
    for each in found:
        print(f"{each.sha256}  {len(each.stems):>9,} pairs  {each.name}")


@app.command("compare-lists")
def compare_lists(
    first: Annotated[Path, typer.Argument(help="A list, a pair a line, or a folder of pair annotations.")],
    second: Annotated[Path, typer.Argument(help="Another.")],
    as_json: Json = False,
) -> None:
    """Tell how far two lists of pairs overlap, and what that alone may move in a score.

    [bold]scbench data compare-lists lists/test.txt theirs/PairAnnotation/test[/bold]
    """
    one, two = read_list(first), read_list(second)
    found = overlap(one, two)
    if as_json:
        print_json({"sha256": [one.sha256, two.sha256], **asdict(found)})
        return
    if one.sha256 == two.sha256:
        print(f"equal: {found.first:,} pairs, SHA-256 {one.sha256}")
        return
    both, own, other = found.images
    print(f"pairs   {found.shared:,} in both, of {found.first:,} and {found.second:,}")
    print(f"        {found.reversed_:,} more in both with source and target exchanged")
    print(f"images  {both:,} in both, of {own:,} and {other:,}")
    print(
        f"A mean over pairs moves by up to {found.moves:.2f} points (95 %) between these lists where the score of a "
        f"pair spreads by {WORST_SPREAD:g} points, the most that is possible; by half of it where it spreads half as "
        "much. Pairs are taken as independent: as they share images, it may be more."
    )


# A picture of some pairs of a data set with their annotated points.

COLUMN = 1200  # pixels
ONE_COLUMN = 3  # so many pairs still go below each other


def picture_of_pairs(
    name: str, pairs: int, seed: int = 0, category: str | None = None, root: Path | None = None
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


def _split_to_show(name: str, root: Path | None) -> NamedPairs:
    if is_generated(name):
        return NamedPairs.parse(name, "train", None)
    name, splits = readable_splits(name, root)
    return NamedPairs.parse(name, splits[0], root)


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


# What is printed of data sets.

STRAYS = 20  # named
COLOURS = {"ok": "green", "damaged": "bold red", "partial": "yellow", "differs": "yellow"}


def print_list(rows: list[dict[str, Any]], as_json: bool) -> None:
    """Print the catalogue."""
    if as_json:
        print_json(rows)
        return
    table = Table("data set", "pairs by split", "images", "classes", "points", "licence", "on this machine")
    for column in (2, 3):
        table.columns[column].justify = "right"
    for row in rows:
        pairs = "\n".join(f"{split} {_number(row['pairs'].get(split))}" for split in row["splits"])
        here = _plain(row["place"]) if row["place"] else "[dim]no[/dim]"
        name = f"[bold]{row['name']}[/bold]\n[dim]{row['title']}[/dim]"
        table.add_row(name, pairs, _number(row["images"]), _number(row["classes"]), row["points"], row["licence"], here)
    _console().print(table)


def print_info(row: dict[str, Any], as_json: bool) -> None:
    """Print all of one data set."""
    if as_json:
        print_json(row)
        return
    table = Table(show_header=False, box=None, padding=(0, 2, 0, 0))
    table.add_column(style="bold", no_wrap=True)
    table.add_column(overflow="fold")
    pairs = ", ".join(f"{split} {_number(row['pairs'].get(split))}" for split in row["splits"])
    for label, value in (
        ("name", row["name"]),
        ("title", f"{row['title']} ({row['paper']})"),
        ("homepage", row["homepage"] or ""),
        ("licence", row["licence"]),
        ("pairs", pairs),
        ("images", _number(row["images"])),
        ("classes", _number(row["classes"])),
        ("points", row["points"]),
        ("configs", ", ".join(row["configs"])),
        ("on this machine", row["place"] or "no"),
        ("expected files", "\n".join(row["layout"])),
        ("download", f"scbench data download {row['name']}" if row["download"] else "not by a program"),
        ("", "\n".join(row["download"])),
        ("by hand", "\n".join(row["by_hand"])),
    ):
        if value:
            table.add_row(label, _plain(value))
    _console().print(table)


def print_verified(report: VerifyReport, as_json: bool) -> None:
    """Print what was found in a data set."""
    if as_json:
        print_json(report.as_dict())
        return
    table = Table("split", "what", "found", "published", "", title=_plain(f"{report.dataset} in {report.root}"))
    for column in (2, 3):
        table.columns[column].justify = "right"
    for split in report.splits:
        for line in split.lines:
            first = split.split if line is split.lines[0] else ""
            table.add_row(first, *_line_cells(line))
        table.add_section()
    for line in report.lines:
        table.add_row("all here" if line is report.lines[0] else "", *_line_cells(line))
    console = _console()
    console.print(table)
    for absent, reason in report.absent.items():
        console.print(_plain(f"{absent} is not here: {reason}"))
    splits_of: dict[str, list[str]] = {}
    for found in report.splits:
        for fault in found.faults:
            splits_of.setdefault(fault, []).append(found.split)
    for fault, splits in splits_of.items():
        console.print(_plain(f"{', '.join(splits)}: {fault}"))
    for found in report.splits:
        for kind, count in found.more.items():
            console.print(_plain(f"{found.split}: and {count:,} more {kind}"))
    if report.strays:
        console.print(_plain(f"not of the data set, not read: {shortened(report.strays, STRAYS)}"))


def _line_cells(line: Any) -> tuple[str, str, str, str]:
    colour = COLOURS.get(line.state)
    words = f"[{colour}]{line}[/{colour}]" if colour else f"[dim]{line}[/dim]"
    return line.what, f"{line.found:,}", _number(line.published), words


def _number(value: int | None) -> str:
    return "-" if value is None else f"{value:,}"


def _plain(value: str) -> Text:
    return Text("\n".join(map(visible, value.split("\n"))))


def _console() -> Console:
    # A file or pipe has no width of its own; a fixed one keeps paths whole there.
    return Console(width=None if sys.stdout.isatty() else 160, highlight=False)
