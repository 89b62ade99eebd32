"""``scbench match``: any two images."""

from __future__ import annotations

from pathlib import Path

import typer


def add_to(app: typer.Typer) -> None:
    """Add the command to ``scbench``."""
    app.command("match")(match)


def match(
    source: Path = typer.Argument(metavar="A", help="The image whose points are carried."),
    target: Path = typer.Argument(metavar="B", help="The image they are looked for in."),
    points: str | None = typer.Option(
        None, help="Points of A as 'x,y x,y ...', in pixels of A as a viewer shows it. Else the surest ones."
    ),
    grid: int | None = typer.Option(None, min=1, max=40, help="Instead, a grid of N x N points."),
    model: str = typer.Option("nearest", help="A name that 'scbench models' lists."),
    backbone: str | None = typer.Option(None, help="Any timm model in place of the model's own."),
    checkpoint: str | None = typer.Option(
        None, help="Weights, ours or the authors': a file, a folder, a run's folder, or OWNER/NAME of the Hub."
    ),
    out: Path | None = typer.Option(None, help="The picture to write: .png, .jpg or .webp."),
    as_json: bool = typer.Option(False, "--json", help="Print JSON instead of a table."),
) -> None:
    """Match two images of your own, of any size, and draw the matches.

    [bold]scbench match cat.jpg dog.jpg --out matches.png[/bold]

    [bold]scbench match cat.jpg dog.jpg --points "120,80 200,95" --model cats --checkpoint best.pth[/bold]
    """
    from sc_imagenet.core.errors import InputError
    from sc_imagenet.core.progress import print_json
    from sc_imagenet.data.images import open_image, picture_format, save_picture

    if points is not None and grid is not None:
        raise InputError("--points and --grid were both given", fix="Give one of them.")
    if out is not None:
        picture_format(out)  # a wrong suffix is said before, not after, the work
    images = open_image(source), open_image(target)

    from baselines.checkpoints import load_model
    from benchmark.running.match import match as match_images
    from benchmark.running.match import parse_points

    asked = None if points is None else parse_points(points)
    matcher = load_model(model, checkpoint, backbone=backbone)
    matches = match_images(matcher, *images, asked, grid)
    if out is not None:
        from sc_imagenet.data.drawing import draw_pair

        title = f"{model}: {source.name} to {target.name}"
        save_picture(draw_pair(*images, matches.source_points, matches.target_points, title=title), out)
    if as_json:
        content = {"model": model, "source": str(source), "target": str(target), "matches": matches.rows()}
        print_json(content)
        return
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    from sc_imagenet.core.errors import visible

    names = (escape(visible(path.name)) for path in (source, target))
    table = Table("", *(f"{name} x, y" for name in names), "comes back within")
    for column in table.columns[1:]:
        column.justify = "right"
    for number, row in enumerate(matches.rows(), start=1):
        places = (f"{x:.1f}, {y:.1f}" for x, y in (row["source"], row["target"]))
        table.add_row(str(number), *places, f"{row['loop']:.1f} px")
    Console().print(table)
    if out is not None:
        print(f"picture: {out}")
