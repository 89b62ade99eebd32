"""The ``scbench`` command: names, help and exit codes. The work of each command lies in its own file.

Exit codes: 0 done; 2 bad usage or input, one line on standard error; 130 interrupted and 143 ended by SIGTERM,
everything kept.
"""

from __future__ import annotations

import atexit
import importlib
import os
import pkgutil
import signal
import sys
from typing import NoReturn

import typer

import benchmark.commands
from benchmark.running.include import give_include
from sc_imagenet.core.errors import InputError
from sc_imagenet.core.locks import watch
from sc_imagenet.core.processes import INTERRUPTED, TERMINATED, keep_freed_memory, terminated, was_terminated
from sc_imagenet.core.progress import print_what_can_be_printed

app = typer.Typer(
    name="scbench",
    help="Train, score and compare semantic correspondence models.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
)


def collect() -> None:
    """Each module of ``benchmark.commands`` adds its commands to the app; none imports torch when it does."""
    for found in sorted(pkgutil.iter_modules(benchmark.commands.__path__), key=lambda module: module.name):
        importlib.import_module(f"benchmark.commands.{found.name}").add_to(app)
    give_include(app)


def main() -> None:
    """Run ``scbench`` and exit."""
    keep_freed_memory()
    # Threads that wait by spinning make everything ten times slower where cores are shared.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    print_what_can_be_printed()
    collect()
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
