"""What goes to standard output: JSON that every reader takes, and text for terminals of any encoding."""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Mapping
from io import TextIOWrapper
from typing import Any


def print_what_can_be_printed() -> None:
    """From now on a sign that standard output's encoding does not have is printed as "?", and ends nothing."""
    if isinstance(sys.stdout, TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")


def print_json(content: Any) -> None:
    """Print indented JSON, in signs that standard output has; numbers that are not finite are null."""
    unicode = (getattr(sys.stdout, "encoding", None) or "").lower().startswith("utf")
    print(json.dumps(_finite(content), indent=2, ensure_ascii=not unicode, allow_nan=False))


def _finite(content: Any) -> Any:
    if isinstance(content, float):
        return content if math.isfinite(content) else None
    if isinstance(content, Mapping):
        return {key: _finite(value) for key, value in content.items()}
    if isinstance(content, (list, tuple)):
        return [_finite(value) for value in content]
    return content
