"""Files: written so that a reader sees the old content or the new one, never a part of it; and known by content.

What was made of a file is found again by the file's content, never by its name: by the SHA-256 of its bytes. A file is
not read again for that while its state is the one in which it was hashed: its size, and the times at which its content
and anything else of it were last changed, of which no program can set back the second. Where what was made is cheap to
make again (a conversion), the states themselves are what it is found by.
"""

from __future__ import annotations

import codecs
import hashlib
import json
import os
import re
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from sc_imagenet.core.errors import InputError
from sc_imagenet.core.locks import watched

CACHE = "SC_CACHE"  # the environment's name of the cache folder
PROBE = 64 * 1024  # bytes that a disk that is not full takes
MARKS = {  # the longer first: a mark of UTF-32 begins with one of UTF-16
    codecs.BOM_UTF32_LE: "utf-32",
    codecs.BOM_UTF32_BE: "utf-32",
    codecs.BOM_UTF16_LE: "utf-16",
    codecs.BOM_UTF16_BE: "utf-16",
}
SETTLED = 2 * 10**9  # ns after which another change shows in a file's times, however coarse the disk's clock

FileState = tuple[int, int, int]  # bytes; ns at which the content, and at which anything of the file, was last changed

_hashed: dict[str, tuple[FileState, str]] = {}  # by path, of files that had settled


def cache_folder() -> Path:
    """Where converted annotations, the rendered toy set and downloads are kept (``SC_CACHE``)."""
    default = Path(os.environ.get("XDG_CACHE_HOME", "~/.cache")) / "sc_imagenet"
    return Path(os.environ.get(CACHE) or default).expanduser()


@contextmanager
def atomic_path(path: Path | str) -> Iterator[Path]:
    """Yield a temporary path in the same folder; on success it is synced and renamed to ``path``.

    On any exception the temporary file is removed and ``path`` keeps what it had.

    Raises:
        InputError: the folder cannot be written (read-only, no space left).
    """
    path = Path(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(prefix=f".{path.name}.", suffix=".tmp", dir=path.parent)
        os.close(handle)
    except OSError as error:
        raise InputError(f"cannot write here ({error.strerror})", where=path) from error
    temporary = Path(name)
    try:
        yield temporary
        with open(temporary, "rb") as written:
            os.fsync(written.fileno())
        os.chmod(temporary, 0o644)
        os.replace(temporary, path)
    except InputError:
        raise
    except Exception as error:
        # Libraries that write through C++ report a full disk or quota in errors of their own.
        why = error if isinstance(error, OSError) else _refusal(temporary, str(error))
        if why is None:
            raise
        raise InputError(
            f"cannot be written ({os.strerror(why.errno) if why.errno else why})",
            where=path,
            fix="What was there is kept; free some space and run again.",
        ) from error
    finally:
        temporary.unlink(missing_ok=True)


def _refusal(path: Path, told: str) -> OSError | None:
    """Why a file cannot grow, as a library told or as the disk tells; None where it can."""
    number = re.search(r"\(os error (\d+)\)", told)
    if number:
        return OSError(int(number[1]), os.strerror(int(number[1])))
    try:
        with open(path, "ab") as file:
            file.write(bytes(PROBE))
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        return error
    return None


def write_json(path: Path | str, content: Any) -> None:
    """Write ``content`` as indented JSON, atomically."""
    with atomic_path(path) as temporary:
        temporary.write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def read_json(path: Path | str) -> Any:
    """Read a JSON file.

    Raises:
        InputError: the file is missing, truncated or not JSON.
    """
    try:
        with watched(path):
            content = Path(path).read_bytes()
        return json.loads(content)
    except FileNotFoundError as error:
        raise InputError("no such file", where=path) from error
    except (ValueError, RecursionError) as error:
        raise InputError(f"is not valid JSON ({error})", where=path) from error
    except OSError as error:
        raise InputError(f"cannot be read ({error.strerror})", where=path) from error


def read_text(path: Path | str) -> str:
    """A text file that any program may have written: UTF-8, or UTF-16 or UTF-32 that begins with its byte order mark.

    Byte order marks are dropped, wherever they stand: joined files have some inside.

    Raises:
        InputError: the file is missing or is not text.
    """
    try:
        with watched(path):
            content = Path(path).read_bytes()
        text = content.decode(next((name for mark, name in MARKS.items() if content.startswith(mark)), "utf-8"))
    except FileNotFoundError as error:
        raise InputError("no such file", where=path) from error
    except UnicodeDecodeError as error:
        raise InputError(f"is not text ({error})", where=path, fix="Save it as UTF-8.") from error
    except OSError as error:
        raise InputError(f"cannot be read ({error.strerror})", where=path) from error
    return text.replace("\ufeff", "")


def files_in(folder: Path, *endings: str) -> list[Path]:
    """The files of a folder whose names end in one of ``endings``, by name; none where there is no such folder.

    A name that begins with a dot (``._a.mat`` of macOS, ``.DS_Store``) is nobody's data.
    """
    try:
        with os.scandir(folder) as found:
            names = sorted(
                each.name
                for each in found
                if not each.name.startswith(".") and each.name.endswith(endings) and each.is_file()
            )
    except (FileNotFoundError, NotADirectoryError):
        return []
    return [folder / name for name in names]


def state_of(path: Path | str) -> FileState | None:
    """What a change of a file shows in; None where there is none."""
    try:
        found = os.stat(path)
    except (OSError, ValueError):
        return None
    return found.st_size, found.st_mtime_ns, found.st_ctime_ns


def states_below(folder: Path | str, most: int) -> list[tuple[str, FileState]] | None:
    """The files below a folder by their relative paths, sorted, with their states; None if over ``most``."""
    names: list[str] = []
    folders = [os.fspath(folder)]
    while folders:
        try:
            with os.scandir(folders.pop()) as entries:
                for entry in entries:
                    (folders if entry.is_dir() else names).append(entry.path)
                    if len(names) + len(folders) > most:
                        return None
        except OSError:  # a folder that may not be entered, or a link that leads to itself
            continue
    start = len(os.path.join(folder, ""))
    return sorted((name[start:], state) for name in names if (state := state_of(name)) is not None)


def sha256_of(path: Path | str) -> str:
    """SHA-256 of a file's content, in hexadecimal; a process reads a file again only where its state has changed."""
    place, state = os.path.abspath(path), state_of(path)
    known = _hashed.get(place)
    if known is not None and known[0] == state:
        return known[1]
    found = _sha256(path)
    if state is not None and _settled(state) and state_of(path) == state:
        _hashed[place] = state, found
    return found


def sha256_of_all(paths: Sequence[Path], report: Callable[[int, int], None] = lambda done, total: None) -> list[str]:
    """SHA-256 of many files, remembered from one process to the next; "" for one that cannot be read.

    What is remembered lies in the cache, a file a folder, and may be deleted at any time.

    Args:
        paths: of the files.
        report: called with (files hashed, files in all).
    """
    places = [Path(os.path.abspath(path)) for path in paths]
    folders: dict[Path, list[str]] = {}
    for place in places:
        folders.setdefault(place.parent, []).append(place.name)
    found: dict[Path, str] = {}
    for folder, names in folders.items():
        kept = cache_folder() / "hashes" / f"{hashlib.sha256(str(folder).encode()).hexdigest()[:24]}.json"
        known = _remembered(kept)
        fresh: dict[str, tuple[FileState, str]] = {}
        for name in names:
            state, digest = state_of(folder / name), ""
            if name in known and known[name][0] == state:
                digest = known[name][1]
            else:
                with suppress(OSError), watched(folder / name):
                    digest = _sha256(folder / name)
                if digest and state is not None and _settled(state):
                    fresh[name] = state, digest
            found[folder / name] = digest
            report(len(found), len(places))
        if fresh:
            rows = {name: [*state, digest] for name, (state, digest) in {**known, **fresh}.items()}
            with suppress(InputError):  # where nothing may be written they are read again the next time
                write_json(kept, rows)
    return [found[place] for place in places]


def _remembered(path: Path) -> dict[str, tuple[FileState, str]]:
    try:
        rows = read_json(path).items()
        return {name: ((int(a), int(b), int(c)), str(digest)) for name, (a, b, c, digest) in rows}
    except (InputError, AttributeError, TypeError, ValueError):
        return {}


def _settled(state: FileState) -> bool:
    return time.time_ns() - max(state[1:]) > SETTLED


def _sha256(path: Path | str) -> str:
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()
