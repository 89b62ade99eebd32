"""Options that commands share: each field of a dataclass is an option of every command that takes it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import typer
from typer.testing import CliRunner

from benchmark.commands.options import grouped


@dataclass(frozen=True)
class Place:
    """Two options."""

    out: Path = typer.Option(..., "--out", help="where to")
    names: list[str] = typer.Option([], "--name")


def made() -> typer.Typer:
    app = typer.Typer()

    @app.command("first")
    @grouped
    def first(place: Place, count: int = typer.Option(1, min=1)) -> None:
        """What it does."""
        print(place, count)

    @app.command("second")
    @grouped
    def second(place: Place) -> None:
        print(place)

    return app


def test_a_command_gets_the_group_filled():
    done = CliRunner().invoke(made(), ["first", "--out", "a", "--name", "b", "--name", "c", "--count", "2"])
    assert done.output.strip() == f"{Place(Path('a'), ['b', 'c'])} 2"
    done = CliRunner().invoke(made(), ["second", "--out", "a"])
    assert done.output.strip() == str(Place(Path("a"), []))


def test_help_and_refusals_are_those_of_options():
    done = CliRunner().invoke(made(), ["first", "--help"])
    assert "What it does." in done.output
    assert "where to" in done.output
    assert CliRunner().invoke(made(), ["second"]).exit_code == 2
    assert CliRunner().invoke(made(), ["first", "--out", "a", "--count", "0"]).exit_code == 2
