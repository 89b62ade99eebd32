"""The one exception for a person's own mistake, and the checks of names that come in with somebody's data.

What may be printed, and what may be joined to a folder.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from difflib import get_close_matches

# C0 and C1 controls, line and paragraph separators, marks of the writing direction. RE2 (pyarrow) reads it too.
STEERING = "[\x01-\x1f\x7f-\x9f\u2028\u2029\u200e\u200f\u202a-\u202e\u2066-\u2069]|\\x00"
_HALVES = "[\ud800-\udfff]"  # of surrogate pairs: no encoding takes them


class InputError(ValueError):
    """Something given to us cannot be used; the message is one line: what, where, what to do.

    >>> str(InputError("is truncated", where="pair.json", fix="Download it again."))
    'pair.json: is truncated. Download it again.'
    """

    def __init__(self, what: str, where: object = None, fix: str | None = None) -> None:
        line = f"{where}: {what}" if where is not None else what
        if fix:
            line = f"{line.rstrip('.')}. {fix}"
        super().__init__(visible(" ".join(line.split())))


def visible(text: str) -> str:
    r"""Text with what would steer a terminal or turn its writing direction written out; all else stays.

    >>> print(visible("a \x1b[31mred\x07 cat"))
    a \x1b[31mred\x07 cat
    """
    return re.sub(f"{STEERING}|{_HALVES}", lambda sign: sign[0].encode("unicode_escape").decode(), text)


def unknown_name(kind: str, given: str, valid: Iterable[str]) -> InputError:
    """An error for a name that is not one of the valid ones, with the nearest guess first.

    >>> print(unknown_name("model", "cat", ["cats", "nearest"]))
    unknown model 'cat'. Did you mean 'cats'? Valid: cats, nearest
    """
    names = sorted(valid)
    close = get_close_matches(given, names, n=1)
    hint = f"Did you mean {close[0]!r}? " if close else ""
    return InputError(f"unknown {kind} {given!r}", fix=f"{hint}Valid: {', '.join(names)}")


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
