"""The ``scbench`` command: names, help and exit codes. The work of each command lies in its own file.

Exit codes: 0 done; 2 bad usage or input, one line on standard error; 130 interrupted and 143 ended by SIGTERM,
everything kept.
"""

from __future__ import annotations

import ast
import atexit
import importlib
import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NoReturn

import typer
from rich.console import Console
from rich.panel import Panel
from rich.table import Table
from typer.core import TyperCommand, TyperGroup

import benchmark.commands
from benchmark.commands.include import give_include
from benchmark.commands.options import PANELS
from sc_imagenet.core.errors import InputError
from sc_imagenet.core.locks import watch
from sc_imagenet.core.processes import INTERRUPTED, TERMINATED, keep_freed_memory, terminated, was_terminated
from sc_imagenet.core.progress import print_what_can_be_printed


class Commands(TyperGroup):
    """Commands that are imported when they are called; their help is listed from the text of their files.

    ``commands`` holds, by name, what is listed: a group or the bare help of a command.
    """

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        """The command of that name with its options; None if there is none."""
        listed = self.commands.get(cmd_name)
        if listed is None or isinstance(listed, Commands):
            return listed
        group = None if self is app else self.name
        module = importlib.import_module(f"{benchmark.commands.__name__}.{group or cmd_name}")
        give_include(module.app)
        found: Any = typer.main.get_command(module.app)
        if group:
            found = found.commands[cmd_name]
        found.params.sort(key=panel_of)  # arguments first, then the panels in one order
        return found

    def format_help(self, ctx: Any, formatter: Any) -> None:
        """Write the help; no command is imported for it, nor what typer's own needs to render Markdown."""
        rows = Table.grid(padding=(0, 2))
        for name, command in self.commands.items():
            rows.add_row(f"[bold cyan]{name}[/]", " ".join((command.help or "").split("\n\n")[0].split()))
        console = Console(highlight=False)
        console.print(f"\n [yellow]Usage:[/] [bold]{ctx.command_path} COMMAND \\[ARGS]...[/]\n\n {self.help}\n")
        console.print(Panel(rows, title="Commands", title_align="left", border_style="dim"))
        console.print(f" [dim]'{ctx.command_path} COMMAND --help' tells all of one.[/]")


def panel_of(parameter: Any) -> int:
    """The place of a parameter's panel in the help."""
    panel = getattr(parameter, "rich_help_panel", None)
    return PANELS.index(panel) if panel in PANELS else -1


def listed_commands() -> Iterator[TyperCommand | Commands]:
    """What the help says of each file of ``benchmark.commands``, read from its text.

    Functions under ``@app.command`` are commands. Those of a file that has one under ``@app.callback`` are a group,
    called as the file; its docstring is that function's.
    """
    for path in sorted(Path(benchmark.commands.__path__[0]).glob("*.py")):
        inside: dict[str, TyperCommand | TyperGroup] = {}
        group = None
        for function in ast.parse(path.read_text(encoding="utf-8")).body:
            for decorator in getattr(function, "decorator_list", []):
                match decorator:
                    case ast.Call(func=ast.Attribute(attr="callback")):
                        group = ast.get_docstring(function)  # type: ignore[arg-type]
                    case ast.Call(func=ast.Attribute(attr="command"), args=[*given]):
                        name = given[0].value if given else function.name  # type: ignore[attr-defined]
                        inside[name] = TyperCommand(name, help=ast.get_docstring(function))  # type: ignore[arg-type]
        if group is not None:
            yield Commands(name=path.stem, help=group, commands=inside, no_args_is_help=True, rich_markup_mode="rich")  # type: ignore[arg-type]
        else:
            yield from inside.values()  # type: ignore[misc]


app = Commands(
    name="scbench",
    help="Train, score and compare semantic correspondence models.",
    commands={str(command.name): command for command in listed_commands()},
    no_args_is_help=True,
    rich_markup_mode="rich",
)


def main() -> None:
    """Run ``scbench`` and exit."""
    keep_freed_memory()
    # Threads that wait by spinning make everything ten times slower where cores are shared.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    print_what_can_be_printed()
    atexit.register(_hear_no_more)
    try:
        signal.signal(signal.SIGTERM, terminated)
        watch()
        code = app(standalone_mode=False)
    except InputError as error:
        _fail(str(error))
    except OSError as error:
        where = f"{error.filename}: " if error.filename else ""
        _fail(f"{where}{error.strerror or error}. What was finished before is kept; run again to go on.")
    except (KeyboardInterrupt, typer.Abort):
        code = INTERRUPTED
    except Exception as error:
        # Typer carries a Click of its own or uses the installed one: bad usage is known by its method.
        if not hasattr(error, "format_message"):
            raise
        if type(error).__name__ == "NoArgsIsHelpError":  # the help was printed
            sys.exit(2)
        line = error.format_message()
        _fail(f"{line}. Runs resume by themselves: give the same command again." if "--resume" in line else line)
    if code == INTERRUPTED:  # Typer may return it in place of the exception
        what = "ended by SIGTERM" if was_terminated() else "interrupted"
        print(f"{what}; what was finished is kept, run the same command to go on", file=sys.stderr)
        code = TERMINATED if was_terminated() else INTERRUPTED
    sys.exit(code)


def _hear_no_more() -> None:
    """All is done and said: a signal that comes while Python takes itself down must not change the exit code."""
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, signal.SIG_IGN)


def _fail(line: str) -> NoReturn:
    print(f"error: {line}", file=sys.stderr)
    sys.exit(2)
