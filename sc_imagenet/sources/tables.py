"""Reading the files that several data sets share: text lists, CSV, .mat, SPair-style JSON."""

from __future__ import annotations

import csv
import functools
import io
from pathlib import Path
from typing import Any

import numpy as np

from sc_imagenet.core.errors import InputError
from sc_imagenet.core.files import State, read_json, read_text, state_of
from sc_imagenet.core.slow_files import watched
from sc_imagenet.data.mat_file import LARGEST, read_matrix
from sc_imagenet.sources.source import Annotation, Size

GRADES = ("viewpoint_variation", "scale_variation", "truncation", "occlusion")


def read_lines(path: Path) -> list[str]:
    """The lines of a text file that are not empty, without the blanks around them.

    Raises:
        InputError: missing, empty or not text.
    """
    text = read_text(path)
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    if not lines:
        raise InputError("is empty, one pair a line was expected", where=path, fix="Get the file again.")
    return lines


def read_rows(path: Path, columns: int) -> list[tuple[int, list[str]]]:
    """The rows of a CSV file with their line numbers, without its header if it has one.

    The first two columns are names of images; a first line whose third column is a number is no header but a row.

    Raises:
        InputError: missing, no rows, or a row that is cut short (the message names its line).
    """
    text = "\n".join(read_lines(path))
    try:
        rows = list(enumerate(csv.reader(io.StringIO(text)), start=1))
    except csv.Error as error:
        raise InputError(f"is not a CSV file ({error})", where=path, fix="Get the file again.") from error
    expected = max(columns, len(rows[0][1]))
    if not (len(rows[0][1]) > 2 and _is_number(rows[0][1][2])):
        del rows[0]
    if not rows:
        raise InputError("has no rows after its header", where=path, fix="Get the file again.")
    for number, row in rows:
        if len(row) < expected:
            raise InputError(
                f"line {number} has {len(row)} columns where {expected} are expected; the file is truncated",
                where=path,
                fix="Get the file again.",
            )
    return rows


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def numbers(values: list[str], where: Path, line: int) -> list[float]:
    """Text to floats.

    Raises:
        InputError: one of them is not a number.
    """
    try:
        return [float(value) for value in values]
    except ValueError as error:
        raise InputError(
            f"line {line}: {error}; the file is truncated or damaged", where=where, fix="Get the file again."
        ) from error


def read_mat(path: Path, key: str) -> np.ndarray:
    """One matrix of a MATLAB file, kept so that each file is read once while it stays as it is.

    Raises:
        InputError: missing, truncated, or no such key.
    """
    return _read_mat(path, key, state_of(path))


@functools.lru_cache(maxsize=4096)
def _read_mat(path: Path, key: str, state: State | None) -> np.ndarray:
    try:
        with watched(path), open(path, "rb") as file:
            matrix = read_matrix(file.read(LARGEST + 1), key)
    except FileNotFoundError as error:
        raise InputError("no such file", where=path) from error
    except OSError as error:
        raise InputError(f"cannot be read ({error.strerror})", where=path) from error
    except ValueError as error:
        raise InputError(f"is not a whole .mat file ({error})", where=path, fix="Get the file again.") from error
    if matrix is None:
        raise InputError(f"holds no '{key}'", where=path, fix="Is it an annotation file of this data set?")
    return matrix


def read_pair_json(path: Path) -> Annotation:
    """A pair annotation in SPair-71k's form, which SC-ImageNet's release shares.

    Raises:
        InputError: missing, truncated, or a key is not there or not of its form.
    """
    content: Any = read_json(path)
    try:
        grades = tuple(-1 if (value := content.get(grade)) is None else int(value) for grade in GRADES)
        return Annotation(
            source_points=_points(content["src_kps"]),
            target_points=_points(content["trg_kps"]),
            where=path,
            source_bbox=_box(content["src_bndbox"]),
            target_bbox=_box(content["trg_bndbox"]),
            grades=(grades[0], grades[1], grades[2], grades[3]),
            keypoint_ids=_ids(content.get("kps_ids"), len(content["trg_kps"])),
            annotated_source_size=recorded_size(content.get("src_imsize")),
            annotated_target_size=recorded_size(content.get("trg_imsize")),
        )
    except KeyError as error:
        raise InputError(f"has no key {error}", where=path, fix="Is it a pair annotation?") from error
    except (TypeError, ValueError, AttributeError, OverflowError) as error:
        raise InputError(f"is not a pair annotation ({error})", where=path) from error


def _ids(value: Any, count: int) -> list[int] | None:
    """Ids of a pair's points, each named once."""
    if value is None:
        return None
    ids = [int(number) for number in value]
    if len(ids) != count or len(set(ids)) != count or min(ids, default=0) < 0 or max(ids, default=0) > 9999:
        raise ValueError(f"kps_ids {str(value)[:80]} of {count} points")
    return ids


def recorded_size(value: Any) -> Size | None:
    """(width, height) of a recorded size, which may go on with the number of channels; None where nothing is recorded.

    >>> recorded_size([500, 334, 3])
    (500, 334)

    Raises:
        ValueError, TypeError, OverflowError: it is none.
    """
    if value is None:
        return None
    width, height = (int(side) for side in value[:2])
    return width, height


def _points(value: Any) -> list[list[float]]:
    return [[float(x), float(y)] for x, y in value]


def _box(value: Any) -> list[float] | None:
    if value is None:
        return None
    x_min, y_min, x_max, y_max = value
    return [float(x_min), float(y_min), float(x_max), float(y_max)]
