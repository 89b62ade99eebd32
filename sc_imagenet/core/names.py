"""Names that come in with somebody's data: what may be printed, and what may be joined to a folder."""

from __future__ import annotations

import re
from collections.abc import Iterable

from sc_imagenet.core.errors import InputError, visible

LONGEST = 4096  # signs; no file system takes more
# Absolute, with a drive letter or a protocol in front, or with a part "..", written for whichever system.
# RE2 (pyarrow) and Python read it alike.
LEADS_OUT = r"^[/\\~]|^[A-Za-z]:|^[A-Za-z][A-Za-z0-9+.\-]*:/|(^|[/\\])\.\.([/\\]|$)"


def check_name(kind: str, name: object, where: object) -> str:
    """A name that can be printed, compared and stored.

    >>> check_name("class", "car (side)", "list.txt")
    'car (side)'

    Raises:
        InputError: it is no text, empty, longer than any name, or holds control characters.
    """
    if not isinstance(name, str):
        raise InputError(f"has the {kind} {str(name)[:80]}, which is not text", where=where)
    if not name or len(name) > LONGEST:
        raise InputError(f"has a {kind} of {len(name):,} characters", where=where)
    if visible(name) != name:
        raise InputError(f"has the {kind} {name[:80]!r} with control characters", where=where)
    return name


def check_names(kind: str, names: Iterable[object], where: object) -> None:
    """Each of the names by ``check_name``."""
    for name in names:
        check_name(kind, name, where)


def check_inside(path: object, where: object) -> str:
    """The path of a file inside a data set, relative to its root.

    >>> check_inside("cat/2008_000001.jpg", "list.txt")
    'cat/2008_000001.jpg'

    Raises:
        InputError: it leads out of the root (absolute, "..", a drive, an address), or is no name.
    """
    name = check_name("file name", path, where)
    if re.search(LEADS_OUT, name):
        raise InputError(
            f"names a file outside the data set, {name[:100]!r}",
            where=where,
            fix="Do not trust this file; get it from its authors.",
        )
    return name


def is_file_name(name: str) -> bool:
    """Whether a file or folder may be called so on any system.

    >>> is_file_name("my set 2"), is_file_name("../set"), is_file_name("C:set"), is_file_name("")
    (True, False, False, False)
    """
    return re.fullmatch(r"[^./\\:*?\"<>|][^/\\:*?\"<>|]{0,200}", name) is not None and visible(name) == name
