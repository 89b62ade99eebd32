"""Numbers that papers print, each with where it stands and how far it can be trusted; and what the methods are.

``results/published.csv`` has a row a number. ``protocol`` is ``name@version`` of ``scbench protocols``, empty where the
source does not let it be told: such numbers stand in tables of their own. ``confidence``: "paper", read in the paper's
table; "author", in its abstract or in the authors' repository; "secondary", as another group prints it.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from importlib.resources import as_file, files
from pathlib import Path

from benchmark.scoring.protocols import protocol_named
from sc_imagenet.core.errors import InputError, check_name, unknown_name
from sc_imagenet.core.files import read_text
from sc_imagenet.data.catalog import catalog, info

CONFIDENCES = ("paper", "author", "secondary")
SUPERVISIONS = ("none", "self", "weak", "semi", "keypoints")
SUBSETS = ("geo",)  # of a data set, beside its splits
OWN_TRAINING = "target"  # in ``trained_on``: the training split of what it is tested on


@dataclass(frozen=True)
class Published:
    """One printed number; ``alpha`` None: the source does not say."""

    paper: str
    method: str
    data: str  # data set, data set:split or data set:subset
    protocol: str
    alpha: float | None
    value: float  # percent
    source: str
    confidence: str


@dataclass(frozen=True)
class Method:
    """What is known of a method; "" where nothing is."""

    method: str
    supervision: str
    backbone: str
    trained_on: tuple[str, ...]
    licence: str
    speed: str


PUBLISHED_COLUMNS, METHOD_COLUMNS = (tuple(each.name for each in fields(kind)) for kind in (Published, Method))


def published() -> tuple[Published, ...]:
    """All printed numbers.

    Raises:
        InputError: a row is not of the form.
    """
    return tuple(read_published(_rows("published.csv", PUBLISHED_COLUMNS)))


def methods() -> dict[str, Method]:
    """All methods by name."""
    found = {}
    for row in _rows("methods.csv", METHOD_COLUMNS):
        trained = tuple(name for name in row.pop("trained_on").split(";") if name)
        found[row["method"]] = Method(**row, trained_on=trained)
    return found


def read_published(rows: Iterable[Mapping[str, str]]) -> list[Published]:
    """Rows of the CSV as numbers, each checked.

    Raises:
        InputError: a row names an unknown data set, protocol or confidence, a number that is none, or stands twice.
    """
    found: list[Published] = []
    seen = set()
    for line, row in enumerate(rows, start=2):
        where = f"published.csv line {line}"
        _check_data(row["data"], where)
        if row["protocol"] and str(protocol_named(row["protocol"])) != row["protocol"]:
            raise InputError(f"protocol {row['protocol']!r} has no version", where=where)
        if row["confidence"] not in CONFIDENCES:
            raise unknown_name("confidence", row["confidence"], CONFIDENCES)
        if not (row["paper"] and row["method"] and row["source"]):
            raise InputError("has no paper, method or source", where=where)
        try:
            alpha = float(row["alpha"]) if row["alpha"] else None
            value = float(row["value"])
        except ValueError as error:
            raise InputError(str(error), where=where) from error
        if not 0 <= value <= 100 or (alpha is not None and not 0 < alpha < 1):
            raise InputError(f"has {row['value']} percent at alpha {row['alpha']}", where=where)
        for name in ("paper", "method", "source"):
            check_name(name, row[name], where)
        key = tuple(row[name] for name in ("paper", "method", "data", "protocol", "alpha", "source"))
        if key in seen:
            raise InputError("stands there twice", where=where)
        seen.add(key)
        found.append(Published(**{**row, "alpha": alpha, "value": value}))  # type: ignore[arg-type]
    return found


def _check_data(data: str, where: str) -> None:
    name, _, split = data.partition(":")
    if name not in catalog():
        raise unknown_name("data set", name, catalog())
    if split and split not in (*info(name).splits, *SUBSETS):
        raise InputError(f"names a split {split!r} that {name} has not", where=where)


def rows_of(path: Path, columns: Sequence[str]) -> list[dict[str, str]]:
    """The rows of a CSV file with these columns, in their order.

    Raises:
        InputError: not there, no such file, or a row with more or fewer values.
    """
    try:
        head, *rows = csv.reader(io.StringIO(read_text(path), newline=""), strict=True)
    except (csv.Error, ValueError) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(f"is not a CSV file ({error})", where=path) from error
    if head != list(columns):
        raise InputError(f"has not the columns {', '.join(columns)}", where=path)
    for line, row in enumerate(rows, start=2):
        if len(row) != len(columns):
            raise InputError(f"line {line} has {len(row)} values where {len(columns)} are expected", where=path)
    return [dict(zip(columns, row)) for row in rows]


def _rows(name: str, columns: Sequence[str]) -> list[dict[str, str]]:
    with as_file(files("benchmark.report") / "results" / name) as path:
        return rows_of(path, columns)
