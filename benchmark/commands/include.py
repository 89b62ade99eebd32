"""``--include FILE.py``, which every command has: a stranger's model or data set is known without a fork."""

from __future__ import annotations

import functools
import inspect
import sys
from collections.abc import Callable, Sequence
from typing import Annotated, Any, get_type_hints

import typer

from benchmark.commands.options import MODEL
from sc_imagenet.core.errors import InputError

Include = Annotated[
    list[str],
    typer.Option(
        "--include",
        help="A Python file that holds a model or a data set; repeat or separate by commas. Else $SC_INCLUDE.",
        metavar="FILE.py",
        rich_help_panel=MODEL,
    ),
]


def give_include(app: typer.Typer) -> None:
    """Add the option to every command of an app, and of the apps below it."""
    for command in app.registered_commands:
        if command.callback is not None and "include" not in inspect.signature(command.callback).parameters:
            command.callback = including(command.callback)
    for group in app.registered_groups:
        if group.typer_instance is not None:
            give_include(group.typer_instance)


def including(command: Callable[..., Any]) -> Callable[..., Any]:
    """A command with the option: its files are made known before it begins."""
    hints = {**get_type_hints(command, include_extras=True), "include": Include}
    given = [each.replace(annotation=hints[each.name]) for each in inspect.signature(command).parameters.values()]
    option = inspect.Parameter("include", inspect.Parameter.KEYWORD_ONLY, default=[], annotation=Include)

    @functools.wraps(command)
    def called(*, include: Sequence[str] = (), **given: Any) -> Any:
        for file in (part.strip() for value in include for part in value.split(",")):
            make_known(file)
        return command(**given)

    called.__signature__ = inspect.Signature([*given, option])  # type: ignore[attr-defined]
    called.__annotations__ = hints
    return called


def make_known(file: str) -> None:
    """Include a file, and see that it holds something.

    Raises:
        InputError: it cannot be included, or holds neither a data set nor a model.
    """
    from sc_imagenet.core.plugins import include  # these two are not what --help should wait for
    from sc_imagenet.data.catalog import catalog

    module = include(file)
    if hasattr(module, "DATA_SET"):
        catalog()  # which looks at it
    elif not (registry := sys.modules.get("baselines.registry")) or not registry.names_of(module.__name__):
        fix = "Give the model's class @register(...), or the module a DATA_SET; CONTRIBUTING.md shows both."
        raise InputError("holds neither a model nor a data set", where=file, fix=fix)
