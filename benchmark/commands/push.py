"""``scbench push``: models and data sets to the Hugging Face Hub."""

from __future__ import annotations

from pathlib import Path

import typer


def add_to(app: typer.Typer) -> None:
    """Add the command to ``scbench``."""
    app.command("push")(push)


def push(
    what: str = typer.Argument(help="A run's folder; or a data set: NAME, NAME:SPLIT or a generated one's folder."),
    repo: str = typer.Argument(help="OWNER/NAME on the Hub."),
    dry_run: bool = typer.Option(False, "--dry-run", help="Show files and card, upload nothing."),
    out: Path | None = typer.Option(None, help="Keep the folder that is uploaded here."),
    private: bool | None = typer.Option(None, help="Of a repository made now. [default: as the owner's others]"),
    licence: str | None = typer.Option(None, help="The Hub's identifier, such as apache-2.0, for the card."),
    data_root: Path | None = typer.Option(None, help="Where the data sets lie; else SC_DATA_ROOT."),
    as_json: bool = typer.Option(False, "--json", help="Print JSON instead."),
) -> None:
    """Upload a run's model, or a data set's annotations as Parquet; images are never uploaded.

    [bold]scbench push runs/cats/4f2a9c01d3e5 OWNER/cats-pf-willow --dry-run[/bold]

    [bold]scbench push my-set OWNER/my-set --private[/bold]
    """
    from benchmark.running.publish import push as publish

    publish(
        what,
        repo,
        out=out,
        dry_run=dry_run,
        private=private,
        licence=licence,
        data_root=data_root,
        as_json=as_json,
    )
