"""The command line as tests walk it: every command with its options, and commands read without running them."""

from __future__ import annotations

import io
import sys
from collections.abc import Iterator
from contextlib import redirect_stderr, redirect_stdout
from functools import cache
from typing import Any
from unittest.mock import patch

from benchmark import cli


@cache
def commands() -> dict[tuple[str, ...], Any]:
    """Every command and group by its words; () is ``scbench`` itself."""

    def walk(command: Any, words: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], Any]]:
        yield words, command
        for name in getattr(command, "commands", ()):
            yield from walk(command.get_command(None, name), (*words, name))

    return dict(walk(cli.app, ()))


@cache
def options_of(*words: str) -> frozenset[str]:
    """The options of a command."""
    parameters = commands()[words].params
    return frozenset({option for each in parameters for option in (*each.opts, *each.secondary_opts)} | {"--help"})


def split(words: list[str]) -> tuple[tuple[str, ...], list[str]]:
    """The longest command that words begin with, and the others."""
    count = 0
    while count < len(words) and tuple(words[: count + 1]) in commands():
        count += 1
    return tuple(words[:count]), words[count:]


def parse(words: list[str]) -> None:
    """Read a command as ``scbench`` does, without running it; bad usage is an exception."""
    name, given = split(words)
    command = commands()[name]
    assert name, f"there is no command {words[0]!r}"
    assert not (hasattr(command, "commands") and given), f"there is no command {' '.join([*name, given[0]])!r}"
    if not given or "--help" in given:
        return  # spoken of by its name alone
    command.make_context(name[-1], given)


def ended(*words: str) -> tuple[object, str, str]:
    """Run a command in this process: its exit code and what it printed and complained of."""
    out, err = io.StringIO(), io.StringIO()
    code: object = None
    with patch.object(sys, "argv", ["scbench", *words]), redirect_stdout(out), redirect_stderr(err):
        try:
            cli.main()
        except SystemExit as end:
            code = end.code
    return code, out.getvalue(), err.getvalue()
