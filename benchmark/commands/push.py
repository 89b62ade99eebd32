"""``scbench push``: models and data sets to the Hugging Face Hub."""

from __future__ import annotations

import shutil
import tempfile
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer

from benchmark.commands.options import OUTPUT, DataRoot, Json
from benchmark.running.publish import Prepared, prepare
from sc_imagenet.core.hub import check_repo_name, upload
from sc_imagenet.core.progress import print_json

app = typer.Typer(add_completion=False)


@app.command()
def push(
    what: Annotated[
        str,
        typer.Argument(help="A run's folder; or a data set: NAME, NAME:SPLIT or a generated one's folder."),
    ],
    repo: Annotated[str, typer.Argument(help="OWNER/NAME on the Hub.")],
    out: Annotated[
        Path | None, typer.Option(help="The folder that is uploaded is kept here.", rich_help_panel=OUTPUT)
    ] = None,
    dry_run: Annotated[
        bool,
        typer.Option("--dry-run", help="What would be done is shown, nothing is done.", rich_help_panel=OUTPUT),
    ] = False,
    private: Annotated[
        bool | None,
        typer.Option(
            help="A repository made now is private or not; by default as the owner's others.", rich_help_panel=OUTPUT
        ),
    ] = None,
    licence: Annotated[
        str | None,
        typer.Option(
            help="The card names this licence: the Hub's identifier, such as apache-2.0.", rich_help_panel=OUTPUT
        ),
    ] = None,
    data_root: DataRoot = None,
    as_json: Json = False,
) -> None:
    """Upload a run's model, or a data set's annotations as Parquet; images are never uploaded.

    [bold]scbench push runs/cats/4f2a9c01d3e5 OWNER/cats-pf-willow --dry-run[/bold]

    [bold]scbench push my-set OWNER/my-set --private[/bold]
    """
    check_repo_name(repo)
    place = Path(tempfile.mkdtemp(prefix="scbench-push-")) if out is None else out
    try:
        prepared = prepare(what, place, repo, data_root, licence)
        address = None if dry_run else upload(prepared.folder, repo, prepared.kind, private=private)
        show(prepared, repo, address, out, as_json)
    finally:
        if out is None:
            shutil.rmtree(place, ignore_errors=True)


def show(prepared: Prepared, repo: str, address: str | None, out: Path | None, as_json: bool) -> None:
    """Print what was or would be uploaded: files, card, address."""
    if as_json:
        content: dict[str, Any] = {**asdict(prepared), "files": prepared.files, "repo": repo, "address": address}
        print_json({**content, "folder": None if out is None else str(out)})
        return
    for name, size in prepared.files.items():
        print(f"{size:>14,}  {name}")
    if address is not None:
        print(f"uploaded: {address}")
        return
    print(f"\n{(prepared.folder / 'README.md').read_text(encoding='utf-8')}")
    kept = f", kept in {out}" if out is not None else ""
    print(f"dry run: nothing was uploaded{kept}; this would be the {prepared.kind} {repo}")
