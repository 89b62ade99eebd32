"""``scbench submit``: a run's predictions and their scores into a folder of results that others can check."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from benchmark.commands.options import EVALUATION, OUTPUT, Draws, Json
from benchmark.running.submissions import REQUIRED
from benchmark.running.submissions import submit as write_submissions
from sc_imagenet.core.progress import print_json

app = typer.Typer(add_completion=False)


@app.command()
def submit(
    run: Annotated[Path, typer.Argument(help="A run's folder.")],
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="The folder of results, such as a Git checkout.")],
    under: Annotated[
        str, typer.Option(help="Protocols beside strict@1, comma-separated.", rich_help_panel=EVALUATION)
    ] = REQUIRED,
    code_licence: Annotated[str, typer.Option(help="The licence of code and weights.", rich_help_panel=OUTPUT)] = "",
    draws: Draws = 1000,
    as_json: Json = False,
) -> None:
    """Write a run's predictions with a passport of their scores into a folder of results.

    Each submission is a folder of its own, named by its content; 'scbench board verify DIR' scores all of them again.

    [bold]scbench submit runs/cats/3f2a91 results --under geoaware@1,sd4match@1[/bold]
    """
    made = write_submissions(run, folder, under, code_licence, draws)
    if as_json:
        print_json([str(place) for place in made])
        return
    for place in made:
        print(f"wrote {place}")
