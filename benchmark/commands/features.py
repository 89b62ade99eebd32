"""``scbench features``: what was kept of images by ``--features keep``, and deleting it."""

from __future__ import annotations

import time
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from benchmark.commands.options import DATA, MODEL, OUTPUT, Json
from benchmark.running.features import KeptFeatures, feature_folder, in_mb, kept_features, prune
from sc_imagenet.core.errors import InputError, visible
from sc_imagenet.core.progress import print_json, say

app = typer.Typer(add_completion=False, no_args_is_help=True)

DAY = 24 * 3600


@app.callback()
def features() -> None:
    """List and delete the features of images that were kept on disk."""


@app.command("list")
def list_all(as_json: Json = False) -> None:
    """List what is kept, an entry an encoder: its images, their size, and when the last was added.

    [bold]scbench features list[/bold]
    """
    found = list(kept_features())
    if as_json:
        print_json([_facts(each) for each in found])
        return
    console = Console(highlight=False)
    if not found:
        console.print(f"nothing is kept in {feature_folder()}", soft_wrap=True)
        return
    table = Table("id", "model", "backbone", "px", "images", "size", "last added")
    for each in found:
        facts = _facts(each)
        days = f"{facts['days']:.0f} days ago" if facts["days"] >= 1 else "today"
        cells = (each.model, facts["backbone"], facts["px"], f"{each.images:,}", in_mb(each.nbytes), days)
        table.add_row(each.folder.name, *(escape(visible(str(cell))) for cell in cells))
    console.print(table)
    total = sum(each.nbytes for each in found)
    console.print(f"{in_mb(total)} in {feature_folder()}; 'scbench features prune --all' deletes it", soft_wrap=True)


@app.command("prune")
def delete(
    identifier: Annotated[
        str | None, typer.Argument(metavar="[ID]", help="Of 'scbench features list'; its beginning is enough.")
    ] = None,
    model: Annotated[
        str | None, typer.Option(help="The name of a model; 'scbench models' lists them.", rich_help_panel=MODEL)
    ] = None,
    days: Annotated[
        float | None,
        typer.Option(min=0, help="All that nothing was added to for so many days.", rich_help_panel=DATA),
    ] = None,
    everything: Annotated[bool, typer.Option("--all", help="All that is kept.", rich_help_panel=DATA)] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="What would be done is shown, nothing is done.", rich_help_panel=OUTPUT)
    ] = False,
) -> None:
    """Delete kept features; they are made again when they are needed.

    [bold]scbench features prune --days 30[/bold]
    """
    if sum(each is not None for each in (identifier, model, days)) + everything != 1:
        raise InputError("say what to delete", fix="Give an ID, --model, --days or --all, one of them.")
    chosen = [each for each in kept_features() if everything or _is_chosen(each, identifier, model, days)]
    if not chosen and not everything:
        raise InputError("nothing kept is meant", fix="'scbench features list' shows what there is.")
    for each in chosen:
        if not dry_run:
            prune(each)
        say(f"{each.folder.name}: {each.images:,} images of {each.model}, {in_mb(each.nbytes)}")
    verb = "would be deleted" if dry_run else "deleted"
    say(f"{in_mb(sum(each.nbytes for each in chosen))} {verb}")


def _is_chosen(each: KeptFeatures, identifier: str | None, model: str | None, days: float | None) -> bool:
    if identifier is not None:
        return bool(identifier) and each.folder.name.startswith(identifier)
    if model is not None:
        return each.model == model.strip().lower().replace("_", "-")
    return time.time() - each.used > (days or 0) * DAY


def _facts(each: KeptFeatures) -> dict[str, Any]:
    """What is printed of an entry, as plain values."""
    arguments = each.about.get("arguments")
    return {
        "id": each.folder.name,
        "model": each.model,
        "backbone": arguments.get("backbone", "-") if isinstance(arguments, dict) else "-",
        "px": each.about.get("size", "-"),
        "images": each.images,
        "bytes": each.nbytes,
        "days": max(0.0, (time.time() - each.used) / DAY),
    }
