"""Numeric matrices of MATLAB's version 5 files (written by MATLAB 5 to 7), read without trusting them.

scipy's reader dies (segmentation fault) of some damaged files, and unpacks whatever a compressed one asks for;
annotations are small matrices of numbers, and those are read here. The format is MathWorks' "MAT-File Format".
"""

from __future__ import annotations

import math
import struct
import zlib
from collections.abc import Iterator
from typing import Literal

import numpy as np

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
