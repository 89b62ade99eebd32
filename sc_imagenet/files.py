"""Writing files so that a reader sees the old content or the new one, never a part of it."""

from __future__ import annotations

import codecs
import hashlib
import json
import os
import re
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sc_imagenet.errors import InputError
from sc_imagenet.slow_files import watched

PROBE = 64 * 1024  # bytes that a disk with room takes
MARKS = {  # the longer first: a mark of UTF-32 begins with one of UTF-16
    codecs.BOM_UTF32_LE: "utf-32",
    codecs.BOM_UTF32_BE: "utf-32",
    codecs.BOM_UTF16_LE: "utf-16",
    codecs.BOM_UTF16_BE: "utf-16",
}


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
            fix="What was there is kept; make room and run again.",
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


def sha256_of(path: Path | str) -> str:
    """SHA-256 of a file's content, in hexadecimal."""
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()
