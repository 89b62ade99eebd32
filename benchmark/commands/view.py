"""``scbench view``: the predictions of a run, or of two, to look through in a browser."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from benchmark.commands.options import OUTPUT, DataRoot
from benchmark.report.view_page import IMAGES, write_view
from benchmark.scoring.comparison import shared_predictions
from benchmark.scoring.prediction_files import read_predictions
from benchmark.scoring.runs import prediction_files
from sc_imagenet.core.errors import unknown_name

app = typer.Typer(add_completion=False)


@app.command()
def view(
    run: Annotated[Path, typer.Argument(help="A run's folder, or its Parquet file.")],
    second: Annotated[Path | None, typer.Argument(help="Another on the same pairs.")] = None,
    out: Annotated[
        Path, typer.Option("--out-dir", help="The pages are written to this folder.", rich_help_panel=OUTPUT)
    ] = Path("view"),
    images: Annotated[
        str, typer.Option(help="Images are linked (link), put into the page (embed), or none.", rich_help_panel=OUTPUT)
    ] = "link",
    data_root: DataRoot = None,
) -> None:
    """Pages of a run's pairs by category, keypoint, grade and kind of error; one for each data set.

    [bold]scbench view runs/cats/3f2a91 runs/nearest/77ab02 --images embed[/bold]
    """
    if images not in IMAGES:
        raise unknown_name("kind of images", images, IMAGES)
    names = [path.stem if path.is_file() else path.name for path in (run, second) if path is not None]
    if second is None:
        sets = [(read_predictions(file),) for file in prediction_files(run)]
    else:
        sets = [tuple(pair) for pair in shared_predictions(run, second)]  # type: ignore[misc]
    out.mkdir(parents=True, exist_ok=True)
    for predictions in sets:
        info = predictions[0].info
        file = out / f"{info.dataset}-{info.split}.html"
        pairs = write_view(file, predictions, names, images, data_root)
        print(f"wrote {file}: {pairs:,} pairs")
