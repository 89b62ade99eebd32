"""The help: listed without an import, in whole sentences, in the same panels everywhere, each option in one wording."""

from __future__ import annotations

import subprocess
import sys

import pytest

from benchmark.cli import panel_of
from benchmark.commands.options import PANELS
from tests.benchmark.command_line import commands

CALLED = {words: command for words, command in commands().items() if not hasattr(command, "commands")}
# Options whose meaning is their command's own: what is written, on what it is measured, how many of what.
OWN = {
    "--out",
    "--eval",
    "--metric",
    "--workers",
    "--pairs",
    "--points",
    "--backbone",
    "--check",
    "--protocol",
    "--features",
}


@pytest.mark.parametrize("words", [(), ("data",), ("generate",)], ids=" ".join)
def test_listing_commands_imports_none_of_them(words):
    code = (
        "import sys; from benchmark.cli import main\n"
        "try: main()\n"
        "except SystemExit: pass\n"
        "heavy = {'torch', 'datasets', 'pyarrow', 'PIL', 'numpy', 'baselines'} & set(sys.modules)\n"
        "shared = {'benchmark.commands.options', 'benchmark.commands.include'}\n"
        "commands = {name for name in sys.modules if name.startswith('benchmark.commands.')} - shared\n"
        "sys.exit(str(heavy) if heavy else str(commands) if commands else 0)"
    )
    done = subprocess.run([sys.executable, "-c", code, *words, "--help"], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    inside = [name[len(words)] for name in commands() if name[: len(words)] == words and len(name) == len(words) + 1]
    assert len(inside) > 4
    assert all(f" {name} " in done.stdout for name in inside)


def test_what_is_listed_is_what_the_commands_say():
    for words, command in CALLED.items():
        group = commands()[words[:-1]]
        listed = group.commands[words[-1]].help.split("\n")[0]
        assert command.help.split("\n")[0] == listed


@pytest.mark.parametrize("words", CALLED, ids=" ".join)
def test_help_is_sentences_in_panels_with_an_example(words):
    command = CALLED[words]
    assert f"[bold]scbench {' '.join(words)}" in command.help
    panels = [panel_of(each) for each in command.params]
    assert panels == sorted(panels)
    for each in command.params:
        if each.name == "help":
            continue
        assert each.help, each.name
        assert each.help.rstrip(")").endswith((".", "...")), each.help
        if each.param_type_name == "option":
            assert each.rich_help_panel in PANELS, each.name


def test_an_option_of_several_commands_has_one_wording():
    wordings: dict[str, set[tuple[str, str]]] = {}
    for command in CALLED.values():
        for each in command.params:
            if each.name != "help" and each.param_type_name == "option":
                wordings.setdefault(each.opts[0], set()).add((each.help, each.rich_help_panel))
    assert {option for option, found in wordings.items() if len(found) > 1} <= OWN
