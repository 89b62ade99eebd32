"""Models and data sets that are no part of this repository: ``--include FILE.py`` and installed packages.

An included file is a module below this one, so that processes which are started later import it by name, too: they
inherit ``SC_INCLUDE``. A package names its modules as entry points of ``sc_imagenet.models`` or
``sc_imagenet.sources``.
"""

from __future__ import annotations

import functools
import hashlib
import importlib
import os
import sys
import traceback
from collections.abc import Iterator, Mapping, Sequence
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec, SourceFileLoader
from importlib.util import spec_from_file_location
from pathlib import Path
from types import ModuleType

from sc_imagenet.core.errors import InputError

INCLUDE = "SC_INCLUDE"  # the included files, separated as those of PATH are
MODELS, SOURCES = "sc_imagenet.models", "sc_imagenet.sources"  # groups of entry points that name modules
OURS = ("sc_imagenet", "baselines", "benchmark")
__path__: list[str] = []  # makes this module a package to Python, that of the included files


def included() -> list[Path]:
    """The included files, in the order in which they were named."""
    return [Path(file).absolute() for file in os.environ.get(INCLUDE, "").split(os.pathsep) if file]


def include(file: str | Path) -> ModuleType:
    """Make the models and the data set of a Python file known, in this process and in those that it starts.

    Raises:
        InputError: no such file, a name that no module can have, or the file cannot be imported.
    """
    path, others = Path(file).expanduser().absolute(), included()
    if path in others:
        return _imported(path)
    if not path.is_file():
        raise InputError("no such file to include", where=file, fix="Give a Python file: --include my_model.py")
    if path.suffix != ".py" or not path.stem.isidentifier() or os.pathsep in str(path):
        fix = "Call it as a module of Python is called, such as my_model.py."
        raise InputError("cannot be included under this name", where=file, fix=fix)
    if same := [other for other in others if other.stem == path.stem]:
        raise InputError(f"is called as {same[0]} is, which is included, too", where=file, fix="Rename one of them.")
    os.environ[INCLUDE] = os.pathsep.join(map(str, [*others, path]))
    try:
        return _imported(path)
    except InputError:
        os.environ[INCLUDE] = os.pathsep.join(map(str, others))
        raise


def included_modules() -> list[ModuleType]:
    """The modules of the included files, imported now if they were not.

    Raises:
        InputError: one cannot be imported.
    """
    return [_imported(file) for file in included()]


@functools.cache
def installed_modules(group: str) -> Sequence[ModuleType]:
    """The modules that installed packages name as entry points of a group, by name.

    Raises:
        InputError: one cannot be imported, or is no module.
    """
    from importlib.metadata import entry_points  # slow to import

    found = []
    for entry in sorted(entry_points(group=group), key=lambda entry: entry.name):
        where = f"entry point {entry.name} = {entry.value} of {group}"
        fix = f"Mend or uninstall the package {entry.dist.name if entry.dist else 'that names it'}."
        try:
            module = entry.load()
        except Exception as error:  # whatever a stranger's module may raise
            raise InputError(f"cannot be imported ({_reason(error)})", where=where, fix=fix) from error
        if not isinstance(module, ModuleType):
            raise InputError("is no module", where=where, fix=fix)
        found.append(module)
    return found


def origins(*kinds: type) -> Mapping[str, str]:
    """The SHA-256 of each file that defines one of these classes, by its name; those of this repository are left out.

    >>> origins(InputError)
    {}
    """
    return dict(sorted(found for kind in kinds if (found := _origin(kind.__module__)) is not None))


def _origin(name: str) -> tuple[str, str] | None:
    if name.partition(".")[0] in OURS and not name.startswith(f"{__name__}."):
        return None
    module = sys.modules.get(name)
    file = getattr(module, "__file__", None)
    if file is None:  # typed at a prompt
        return None
    loader = getattr(module, "__loader__", None)
    content = loader.content if isinstance(loader, _Loader) else Path(file).read_bytes()
    return Path(file).name, hashlib.sha256(content).hexdigest()


class _Loader(SourceFileLoader):
    """Keeps what it has read, and neither reads nor writes files of compiled code, which may be of an older version."""

    content = b""

    def path_stats(self, path: str) -> Mapping[str, float]:
        raise OSError

    def get_data(self, path: str) -> bytes:
        self.content = super().get_data(path)
        return self.content


class _Finder(MetaPathFinder):
    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        package, _, stem = fullname.rpartition(".")
        for file in included() if package == __name__ else ():
            if file.stem == stem:
                return spec_from_file_location(fullname, file, loader=_Loader(fullname, str(file)))
        return None


sys.meta_path.append(_Finder())


def _imported(file: Path) -> ModuleType:
    try:
        return importlib.import_module(f"{__name__}.{file.stem}")
    except Exception as error:  # whatever a stranger's file may raise
        fix = f"Mend it, or leave it out of --include and {INCLUDE}."
        line = next(_lines(error, file), None)
        place = "" if line is None else f"line {line}: "
        raise InputError(f"cannot be included ({place}{_reason(error)})", where=file, fix=fix) from error


def _lines(error: Exception, file: Path) -> Iterator[int]:
    """Where in a file an error comes from, the innermost line first."""
    if isinstance(error, SyntaxError) and error.filename == str(file) and error.lineno:
        yield error.lineno
    for frame in reversed(traceback.extract_tb(error.__traceback__)):
        if frame.filename == str(file) and frame.lineno:
            yield frame.lineno


def _reason(error: Exception) -> str:
    if isinstance(error, InputError):
        return str(error)
    text = error.msg if isinstance(error, SyntaxError) else str(error)
    return f"{type(error).__name__}: {text}" if text else type(error).__name__
