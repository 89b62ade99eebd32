"""``scbench compare``: two runs on the same pairs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from benchmark.commands.options import EVALUATION, OUTPUT, DataRoot, Draws, Json, Metrics, Picture
from benchmark.commands.score import DIRECTION_IN_WORDS
from benchmark.scoring.bootstrap import Difference
from benchmark.scoring.comparison import (
    ChangedPair,
    Comparison,
    Measure,
    compared,
    protocol_metrics,
    shared_predictions,
)
from benchmark.scoring.pck import Metric
from benchmark.scoring.predictions import Predictions
from benchmark.scoring.protocols import protocols_named
from benchmark.scoring.result import count_of_pairs, published_pairs
from sc_imagenet.core.command import several
from sc_imagenet.core.errors import InputError
from sc_imagenet.core.progress import print_json, say

app = typer.Typer(add_completion=False)


@app.command()
def compare(
    first: Annotated[Path, typer.Argument(metavar="RUN", help="A run's folder, or a file of predictions.")],
    second: Annotated[Path, typer.Argument(metavar="RUN", help="Another: gains are its own over the first.")],
    metric: Metrics = [],
    protocol: Annotated[
        list[str],
        typer.Option(
            help="Under these protocols too, as geoaware@1,strict@1 ('scbench protocols' lists them).",
            rich_help_panel=EVALUATION,
        ),
    ] = [],
    pairs: Annotated[
        int,
        typer.Option(min=1, help="So many of the pairs that gained, and that lost, most.", rich_help_panel=OUTPUT),
    ] = 5,
    draws: Draws = 1000,
    out: Picture = None,
    data_root: DataRoot = None,
    as_json: Json = False,
) -> None:
    """Two runs on the same pairs: differences with 95 % intervals, by category, and the pairs that changed most.

    The first metric, else the first protocol, ranks the pairs; without either the strict metrics are taken.

    [bold]scbench compare runs/nearest/556fe2 runs/cats/d1b3e9 --out changed.png[/bold]

    [bold]scbench compare runs/nearest/556fe2 runs/cats/d1b3e9 --protocol geoaware@1,strict@1[/bold]
    """
    if draws < 1:
        raise InputError("--draws 0 gives no intervals", fix="Give at least 1.")
    if out is not None:
        from sc_imagenet.data.images import picture_format  # and with it torch, which figures do without

        picture_format(out)  # refuse its name before the work, not after
    measures: list[Measure] = [Metric.parse(name) for name in several(metric)]
    if protocol:
        measures += protocol_metrics(protocols_named(protocol))
    shared = shared_predictions(first, second)
    found = [compared(one, two, measures, draws, pairs) for one, two in shared]
    print_comparisons(found, as_json)
    if out is not None:
        _draw(found, shared, out, data_root)


def _draw(
    found: Sequence[Comparison], shared: Sequence[tuple[Predictions, Predictions]], out: Path, data_root: Path | None
) -> None:
    from benchmark.report.pictures import PairImages, picture_of_changes
    from sc_imagenet.data.drawing import contact_sheet
    from sc_imagenet.data.images import save_picture

    pictures = []
    for comparison, (one, two) in zip(found, shared):
        images = PairImages(one.info.dataset, one.info.split, data_root, one.info.form)
        pictures.append(picture_of_changes(comparison, one, two, images))
    save_picture(contact_sheet(pictures, 1, max(picture.width for picture in pictures)), out)
    say(f"wrote {out}")


# What ``scbench compare`` prints: the differences, by category, and the pairs that changed most.


def print_comparisons(comparisons: Sequence[Comparison], as_json: bool) -> None:
    """Print to standard output, as tables or as one JSON list."""
    if as_json:
        print_json([_plain(comparison) for comparison in comparisons])
        return
    console = Console(highlight=False)
    if not console.is_terminal:
        console = Console(highlight=False, width=120)
    for comparison in comparisons:
        _print(console, comparison)


def _plain(comparison: Comparison) -> dict[str, object]:
    """A comparison as plain values for JSON; figures that cannot be had are null."""
    return {
        "data": comparison.data,
        "first": asdict(comparison.first),
        "second": asdict(comparison.second),
        "pairs": comparison.pairs,
        "pairs_published": _published(comparison),
        "pairs_without_bbox_kp": comparison.without_box,
        "only_first": comparison.only_first,
        "only_second": comparison.only_second,
        "draws": comparison.draws,
        "metrics": {str(metric): _values(found) for metric, found in comparison.overall.items()},
        "ranking": str(comparison.ranking),
        "per_category": {
            name: {"pairs": comparison.category_pairs[name], **_values(found)}
            for name, found in comparison.per_category.items()
        },
        "gained": [{**asdict(pair), "gain": pair.gain} for pair in comparison.gained],
        "lost": [{**asdict(pair), "gain": pair.gain} for pair in comparison.lost],
    }


def _published(comparison: Comparison) -> int | None:
    info = comparison.first
    return published_pairs(info.dataset, info.split, info.form)


def _values(found: Difference) -> dict[str, float | None]:
    values = {**asdict(found), "difference": found.value}
    return {name: value if value == value else None for name, value in values.items()}  # NaN is no JSON


def _print(console: Console, comparison: Comparison) -> None:
    one, two = comparison.first, comparison.second
    left_out = comparison.only_first + comparison.only_second
    console.print(f"\n[bold]{escape(comparison.data)}[/]   {DIRECTION_IN_WORDS[one.direction]}")
    console.print(
        f"first   {escape(one.model)}, run {escape(one.run)}\nsecond  {escape(two.model)}, run {escape(two.run)}"
    )
    counted = count_of_pairs(comparison.pairs, _published(comparison))
    console.print(f"{counted} that both predicted" + (f"; {left_out:,} left out" if left_out else ""))
    if comparison.without_box and any(
        isinstance(each, Metric) and each.threshold == "bbox-kp" for each in comparison.overall
    ):
        console.print(f"{comparison.without_box:,} of them have no box around their points: bbox-kp leaves them out")
    table = _table("metric")
    for metric, found in comparison.overall.items():
        table.add_row(str(metric), *_cells(found))
    console.print(table)
    if len(comparison.per_category) > 1:
        table = _table("category", f"by category, {comparison.ranking}")
        for name, found in sorted(comparison.per_category.items(), key=lambda item: -item[1].value):
            table.add_row(f"{escape(name)} [dim]{comparison.category_pairs[name]:,}[/]", *_cells(found))
        console.print(table)
    for title, pairs in (("gained most", comparison.gained), ("lost most", comparison.lost)):
        if pairs:
            _print_pairs(console, f"{title}, {comparison.ranking}", pairs)
    console.print(
        f"[dim]Percent, and second minus first in points with its 95 % interval over {comparison.draws:,} paired "
        "bootstrap draws;\nin favour: the share of draws in which the second is ahead.[/]"
    )


def _table(head: str, title: str | None = None) -> Table:
    table = Table(head, title=title)
    for name in ("first", "second", "difference", "95 %", "in favour"):
        table.add_column(name, justify="right")
    return table


def _cells(found: Difference) -> tuple[str, ...]:
    sure = found.low > 0 or found.high < 0
    change = f"{found.value:+.1f}"
    return (
        f"{found.first:.1f}",
        f"{found.second:.1f}",
        f"[bold]{change}[/]" if sure else change,
        f"{found.low:+.1f} to {found.high:+.1f}",
        f"{100 * found.in_favour:.0f} %",
    )


def _print_pairs(console: Console, title: str, pairs: Sequence[ChangedPair]) -> None:
    table = Table("pair", "category", title=title)
    for name in ("first", "second", "points"):
        table.add_column(name, justify="right")
    for pair in pairs:
        table.add_row(escape(pair.pair_id), escape(pair.category), str(pair.first), str(pair.second), str(pair.points))
    console.print(table)
