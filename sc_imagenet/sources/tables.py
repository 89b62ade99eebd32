"""Reading the files that several data sets share: text lists, CSV, .mat, SPair-style JSON."""

from __future__ import annotations

import csv
import functools
import io
import math
import struct
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import numpy as np

from sc_imagenet.core.errors import InputError
from sc_imagenet.core.files import FileState, read_json, read_text, state_of
from sc_imagenet.core.locks import watched
from sc_imagenet.sources.source import Annotation, Size

# Numeric matrices of MATLAB's version 5 files (written by MATLAB 5 to 7), read without trusting them.
#
# scipy's reader dies (segmentation fault) of some damaged files, and unpacks whatever a compressed one asks for;
# annotations are small matrices of numbers, and those are read here. The format is MathWorks' "MAT-File Format".

HEADER = 128  # bytes before the first element
LARGEST = 1 << 20  # bytes of a file, and of what a compressed element unpacks to; annotations have hundreds
MATRIX, COMPRESSED = 14, 15
NUMBERS = {1: "i1", 2: "u1", 3: "i2", 4: "u2", 5: "i4", 6: "u4", 7: "f4", 9: "f8", 12: "i8", 13: "u8"}
NUMERIC = range(6, 16)  # classes of arrays: double, single, and the eight of whole numbers
COMPLEX = 0x0800

Order = Literal["<", ">"]  # of the bytes of a number
Element = tuple[int, bytes]  # type, content


def read_matrix(content: bytes, name: str) -> np.ndarray | None:
    """The matrix of a name in a file's content, as float64; None if there is none of that name.

    Raises:
        ValueError: not such a file, cut, damaged, too large, or the name's value is no real matrix.
    """
    if len(content) > LARGEST:
        raise ValueError(f"{len(content):,} bytes are more than an annotation has")
    order: Order
    if content[126:HEADER] == b"IM":
        order = "<"
    elif content[126:HEADER] == b"MI":
        order = ">"
    else:
        raise ValueError("not a file of MATLAB 5 to 7")
    for kind, inside in _elements(content[HEADER:], order):
        if kind == COMPRESSED:
            kind, inside = next(_elements(_unpacked(inside), order), (0, b""))
        if kind != MATRIX:
            continue
        parts = _elements(inside, order)
        flags, sizes, label = (next(parts, (0, b""))[1] for _ in range(3))
        if label.decode("latin-1") == name:
            return _matrix(flags, sizes, next(parts, (0, b"")), order)
    return None


def _matrix(flags: bytes, sizes: bytes, values: Element, order: Order) -> np.ndarray:
    if len(flags) != 8 or len(sizes) % 4:
        raise ValueError("the head of a matrix is damaged")
    bits = struct.unpack(f"{order}2I", flags)[0]
    if bits & 0xFF not in NUMERIC or bits & COMPLEX:
        raise ValueError("its value is not a matrix of real numbers")
    shape = struct.unpack(f"{order}{len(sizes) // 4}i", sizes)
    kind, content = values
    if kind not in NUMBERS:
        raise ValueError(f"its numbers are of an unknown kind ({kind})")
    width = np.dtype(NUMBERS[kind]).itemsize
    if min(shape, default=-1) < 0 or math.prod(shape) * width != len(content):
        raise ValueError(f"{len(content):,} bytes of numbers are not a matrix of {' x '.join(map(str, shape))}")
    numbers = np.frombuffer(content, np.dtype(NUMBERS[kind]).newbyteorder(order)).astype(np.float64)
    return numbers.reshape(shape, order="F")


def _elements(content: bytes, order: Order) -> Iterator[Element]:
    """The elements that lie one behind the other."""
    place = 0
    while place < len(content):
        if place + 8 > len(content):
            raise ValueError("it breaks off")
        kind, size = struct.unpack_from(f"{order}2I", content, place)
        if kind >> 16:  # a short one: its size and up to four bytes stand in the head
            kind, size, start, after = kind & 0xFFFF, kind >> 16, place + 4, place + 8
            if size > 4:
                raise ValueError("a short element is too long")
        else:
            start = place + 8
            after = start + (size if kind == COMPRESSED else -(-size // 8) * 8)
        if start + size > len(content):
            raise ValueError("it breaks off")
        yield kind, content[start : start + size]
        place = after


def _unpacked(packed: bytes) -> bytes:
    stream = zlib.decompressobj()
    try:
        content = stream.decompress(packed, LARGEST)
    except zlib.error as error:
        raise ValueError(f"a compressed matrix is damaged: {error}") from error
    if stream.unconsumed_tail:
        raise ValueError(f"a matrix unpacks to more than {LARGEST:,} bytes")
    if not stream.eof:
        raise ValueError("it breaks off")
    return content


# Reading the files that several data sets share: text lists, CSV, .mat, SPair-style JSON.

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
def _read_mat(path: Path, key: str, state: FileState | None) -> np.ndarray:
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
