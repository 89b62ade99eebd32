"""``scbench board``: checking the results that others sent."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from benchmark.commands.options import DataRoot, Json
from benchmark.running.submissions import as_plain
from benchmark.running.submissions import verify as look_through
from sc_imagenet.core.errors import visible
from sc_imagenet.core.progress import print_json

app = typer.Typer(add_completion=False, no_args_is_help=True)


@app.callback()
def board() -> None:
    """Check results that were submitted."""


@app.command("verify")
def verify(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="The folder of results.")],
    data_root: DataRoot = None,
    as_json: Json = False,
) -> None:
    """Score every submission again and refuse what was changed; exit code 1 where one is refused.

    Pairs are compared with the data set's where that is on this machine.

    [bold]scbench board verify results[/bold]
    """
    found = look_through(folder, data_root)
    refused = [each for each in found if each.faults]
    if as_json:
        print_json(as_plain(found))
    else:
        for each in found:
            state = "refused" if each.faults else "holds" if each.unchecked is None else "holds, not checked: "
            print(visible(f"{each.place}: {state}{'' if each.faults else each.unchecked or ''}"))
            for fault in each.faults:
                print(visible(f"  {fault}"))
        print(f"{len(found) - len(refused):,} of {len(found):,} submissions hold")
    if refused:
        raise typer.Exit(1)
