"""``scbench models``: what can be run."""

from __future__ import annotations

import typer


def add_to(app: typer.Typer) -> None:
    """Add the command to ``scbench``."""
    app.command("models")(models)


def models(as_json: bool = typer.Option(False, "--json", help="Print JSON instead of a table.")) -> None:
    """List the models: name, paper, licence, backbone, input size, supervision, parameters."""
    from benchmark.model_table import model_rows, print_models

    print_models(model_rows(), as_json)
