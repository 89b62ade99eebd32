"""Imported by the process that workers are forked from: a worker whose pool has ended while it started says nothing.

Such a worker finds the locks gone that it was to share. Were the pool still there, it would tell that a worker died.
"""

from __future__ import annotations

import sys
from types import TracebackType


def _say(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    if not issubclass(kind, (FileNotFoundError, EOFError)):
        sys.__excepthook__(kind, error, trace)


sys.excepthook = _say
