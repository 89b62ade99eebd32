"""The one exception for a person's own mistake."""

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
