"""``scbench match``: any two images."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from baselines.checkpoints import load_model
from benchmark.commands.options import DATA, MODEL, Backbone, Checkpoint, Json, Picture
from benchmark.report.match_page import write_match_page
from benchmark.running.match import match as match_images
from benchmark.running.match import parse_points
from sc_imagenet.core.command import several
from sc_imagenet.core.errors import InputError, visible
from sc_imagenet.core.progress import print_json
from sc_imagenet.data.drawing import draw_pair
from sc_imagenet.data.images import open_image, picture_format, save_picture

app = typer.Typer(add_completion=False)


@app.command()
def match(
    source: Annotated[Path, typer.Argument(metavar="A", help="The source image.")],
    target: Annotated[Path, typer.Argument(metavar="B", help="The target image.")],
    points: Annotated[
        str | None,
        typer.Option(
            help="Points of A as 'x,y x,y ...', in pixels of A as a viewer shows it; by default the surest ones.",
            rich_help_panel=DATA,
        ),
    ] = None,
    grid: Annotated[
        int | None, typer.Option(min=1, max=40, help="A grid of N x N points of A instead.", rich_help_panel=DATA)
    ] = None,
    model: Annotated[
        str,
        typer.Option(help="The name of a model; 'scbench models' lists them.", rich_help_panel=MODEL),
    ] = "nearest",
    backbone: Backbone = None,
    checkpoint: Checkpoint = None,
    out: Picture = None,
    as_json: Json = False,
) -> None:
    """Match two images of your own, of any size, and draw the matches.

    [bold]scbench match cat.jpg dog.jpg --out matches.png[/bold]

    [bold]scbench match cat.jpg dog.jpg --model nearest,cats=best.pth --out pair.html[/bold]

    A page is made where --out ends in .html: point at the one image, and see match and similarities on the other.

    [bold]scbench match cat.jpg dog.jpg --points "120,80 200,95" --model cats --checkpoint best.pth[/bold]
    """
    if points is not None and grid is not None:
        raise InputError("--points and --grid were both given", fix="Give one of them.")
    page = out is not None and out.suffix.lower() == ".html"
    if out is not None and not page:
        picture_format(out)  # a wrong suffix is said before, not after, the work
    names = several([model]) if page else [model]
    if checkpoint is not None and len(names) > 1:
        fix = "Write each model with its own, as --model nearest,cats=FILE."
        raise InputError("--checkpoint is of one model", fix=fix)
    images = open_image(source), open_image(target)

    asked = None if points is None else parse_points(points)
    # On a page each model may have a checkpoint of its own: NAME=CHECKPOINT.
    parts = [name.partition("=")[::2] for name in names]
    matchers = {
        name: load_model(single, own or checkpoint, backbone=backbone) for name, (single, own) in zip(names, parts)
    }
    matcher = matchers[names[0]]
    matches = match_images(matcher, *images, asked, grid)
    if out is not None and page:
        write_match_page(out, source.name, target.name, images, matchers, matches)
    elif out is not None:
        title = f"{model}: {source.name} to {target.name}"
        save_picture(draw_pair(*images, matches.source_points, matches.target_points, title=title), out)
    if as_json:
        content = {"model": model, "source": str(source), "target": str(target), "matches": matches.rows()}
        print_json(content)
        return
    files = (escape(visible(path.name)) for path in (source, target))
    table = Table("", *(f"{name} x, y" for name in files), "comes back within")
    for column in table.columns[1:]:
        column.justify = "right"
    for number, row in enumerate(matches.rows(), start=1):
        places = (f"{x:.1f}, {y:.1f}" for x, y in (row["source"], row["target"]))
        table.add_row(str(number), *places, f"{row['loop']:.1f} px")
    Console().print(table)
    if out is not None:
        print(f"{'page' if page else 'picture'}: {out}")
