"""``scbench score``: PCK of stored predictions under every protocol."""

from __future__ import annotations

from pathlib import Path

import typer


def add_to(app: typer.Typer) -> None:
    """Add the command to ``scbench``."""
    app.command("score")(score)


def score(
    path: Path = typer.Argument(..., metavar="PREDICTIONS|RUN", help="A Parquet file, or a run's folder."),
    protocol: str = typer.Option("all", help="paper (what the tables used), strict, or all side by side."),
    metric: list[str] = typer.Option(
        [], help="Score by these instead, as pck@0.1/bbox/image; repeated or comma-separated."
    ),
    per_category: bool = typer.Option(False, "--per-category", help="Also each category's values."),
    subset: Path | None = typer.Option(None, help="Score only the pairs whose ids this file lists, one a line."),
    draws: int = typer.Option(1000, min=1, help="Bootstrap draws behind the 95 % intervals."),
    as_json: bool = typer.Option(False, "--json", help="Print JSON instead of tables."),
) -> None:
    """PCK of stored predictions, with 95 % intervals; needs no GPU, no model and no images.

    Example: scbench score runs/cats/3f2a91 --protocol strict --per-category
    """
    from benchmark.pck import Metric
    from benchmark.results import prediction_files
    from benchmark.score_table import pair_list, print_tables, scored

    metrics = [Metric.parse(name) for given in metric for name in given.split(",") if name.strip()]
    pairs = pair_list(subset) if subset else None
    tables = [scored(file, protocol, metrics, pairs, draws) for file in prediction_files(path)]
    print_tables(tables, per_category, as_json)
