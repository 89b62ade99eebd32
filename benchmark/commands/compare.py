"""``scbench compare``: two runs on the same pairs."""

from __future__ import annotations

from pathlib import Path

import typer


def add_to(app: typer.Typer) -> None:
    """Add the command to ``scbench``."""
    app.command("compare")(compare)


def compare(
    first: Path = typer.Argument(..., metavar="RUN", help="A run's folder, or a file of predictions."),
    second: Path = typer.Argument(..., metavar="RUN", help="Another: gains are its own over the first."),
    metric: list[str] = typer.Option(
        [], help="Compare by these instead of the strict protocol, as pck@0.1/bbox/image; the first ranks the pairs."
    ),
    pairs: int = typer.Option(5, min=1, help="How many of the pairs that gained, and that lost, most."),
    draws: int = typer.Option(1000, min=1, help="Paired bootstrap draws behind the 95 % intervals."),
    out: Path | None = typer.Option(None, help="Draw those pairs under both runs into this picture."),
    data_root: Path | None = typer.Option(None, help="Where the data sets lie, for the picture; else SC_DATA_ROOT."),
    as_json: bool = typer.Option(False, "--json", help="Print JSON instead of tables."),
) -> None:
    """Two runs on the same pairs: differences with 95 % intervals, by category, and the pairs that changed most.

    Example: scbench compare runs/nearest/556fe2 runs/cats/d1b3e9 --out changed.png
    """
    from benchmark.comparison_table import print_comparisons
    from benchmark.running.options import several
    from benchmark.scoring.comparing import compared, shared_predictions
    from benchmark.scoring.pck import Metric
    from sc_imagenet.data.images import picture_format

    if out is not None:
        picture_format(out)  # refuse its name before the work, not after
    metrics = [Metric.parse(name) for name in several(metric)]
    shared = shared_predictions(first, second)
    found = [compared(one, two, metrics, draws, pairs) for one, two in shared]
    print_comparisons(found, as_json)
    if out is not None:
        from benchmark.report.pair_images import PairImages
        from benchmark.report.prediction_picture import picture_of_changes
        from sc_imagenet.core.progress import say
        from sc_imagenet.data.drawing import contact_sheet
        from sc_imagenet.data.images import save_picture

        sheets = []
        for comparison, (one, two) in zip(found, shared):
            images = PairImages(one.info.dataset, one.info.split, data_root, one.info.form)
            sheets.append(picture_of_changes(comparison, one, two, images))
        save_picture(contact_sheet(sheets, 1, max(sheet.width for sheet in sheets)), out)
        say(f"wrote {out}")
