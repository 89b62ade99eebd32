"""``scbench protocols``: how each published evaluation protocol takes PCK."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from benchmark.commands.options import Json
from benchmark.scoring import protocol as protocol_called
from benchmark.scoring.bootstrap import Score
from benchmark.scoring.metric import Scores
from benchmark.scoring.protocol import Protocol
from benchmark.scoring.protocols import ALL
from sc_imagenet.core.progress import print_json

app = typer.Typer(add_completion=False)


@app.command()
def protocols(
    name: Annotated[str | None, typer.Argument(metavar="[NAME]", help="A protocol: geoaware, or geoaware@1.")] = None,
    as_json: Json = False,
) -> None:
    """The protocols that 'scbench score --protocol' knows; with a name, everything that one states.

    [bold]scbench protocols geoaware[/bold]
    """
    if name is None:
        print_protocols(as_json)
    else:
        print_protocol(protocol_called(name), as_json)


# Scores under named protocols, and the protocols themselves, as tables or JSON.


def print_protocol_scores(
    scores: Scores, head: str, notes: Sequence[str], passport: Mapping[str, Any], as_json: bool
) -> None:
    """Print scores to standard output: the numbers of a protocol in one row an average, a column an alpha."""
    if as_json:
        print_json({**passport, "notes": [*notes, *scores.left_out.values()]})
        return
    console = _console()
    empty = f", {scores.empty:,} without a point" if scores.empty else ""
    console.print(f"[bold]{escape(head)}[/]   {scores.pairs:,} pairs{empty}, {scores.points:,} points")
    for note in notes:
        console.print(f"[yellow]{escape(note)}[/]")
    rows: dict[tuple[str, str], dict[str, Score]] = {}
    for protocol, found in scores.items():
        for name, value in found.items():
            kind, _, rest = name.partition("@")
            alpha, _, average = rest.partition("/")
            label = average if kind == "pck" else f"{kind} {average}".strip()
            rows.setdefault((protocol, label), {})[alpha] = value
    alphas = sorted({alpha for row in rows.values() for alpha in row}, key=float)
    table = Table("protocol", "average", *(f"@{alpha}" for alpha in alphas))
    before = ""
    for (protocol, label), row in rows.items():
        cells = [_cell(row[alpha]) if alpha in row else "" for alpha in alphas]
        table.add_row("" if protocol == before else protocol, escape(label), *cells)
        before = protocol
    console.print(table)
    for protocol, reason in scores.left_out.items():
        console.print(f"[yellow]{escape(protocol)} left out: {escape(reason)}[/]")
    if passport.get("draws"):
        console.print(f"[dim]Percent with 95 % intervals over {passport['draws']:,} bootstrap draws of the pairs.[/]")


def print_protocols(as_json: bool) -> None:
    """A line for each protocol."""
    if as_json:
        print_json({str(protocol): protocol.facts() for protocol in ALL})
        return
    table = Table("protocol", "frame", "d", "hit", "average", "title")
    for protocol in ALL:
        sign = "<" if protocol.comparison.strict else "<="
        table.add_row(
            str(protocol), str(protocol.frame), protocol.threshold, sign, protocol.averages[0], escape(protocol.title)
        )
    _console().print(table)


def print_protocol(protocol: Protocol, as_json: bool) -> None:
    """Everything that a protocol states."""
    if as_json:
        print_json({"name": str(protocol), **protocol.facts()})
        return
    table = Table.grid(padding=(0, 2))
    for heading, text in protocol.facts().items():
        table.add_row(f"[bold]{escape(heading)}[/]", escape(text))
    console = _console()
    console.print(f"[bold]{protocol}[/]")
    console.print(table)


def _cell(score: Score) -> str:
    if math.isnan(score.value):
        return "-"
    interval = "" if math.isnan(score.low) else f" [dim]\\[{score.low:.1f}, {score.high:.1f}][/]"
    return f"{score.value:.2f}{interval}"


def _console() -> Console:
    console = Console(highlight=False)
    return console if console.is_terminal else Console(highlight=False, width=140)
