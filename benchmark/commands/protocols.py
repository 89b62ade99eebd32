"""``scbench protocols``: what each evaluation protocol takes for a hit, and how it averages."""

from __future__ import annotations

import typer


def add_to(app: typer.Typer) -> None:
    """Add the command to ``scbench``."""
    app.command("protocols")(protocols)


def protocols(
    name: str | None = typer.Argument(None, metavar="[NAME]", help="A protocol: geoaware, or geoaware@1."),
    as_json: bool = typer.Option(False, "--json", help="Print JSON instead of a table."),
) -> None:
    """The protocols that 'scbench score --protocol' knows; with a name, everything that one states.

    Example: scbench protocols geoaware
    """
    from benchmark.protocol_table import print_protocol, print_protocols
    from benchmark.scoring import protocol

    if name is None:
        print_protocols(as_json)
    else:
        print_protocol(protocol(name), as_json)
