"""Opening a Parquet file that a stranger may have written.

Equal values pack so well that a file of a kilobyte can hold a billion of them, and reading them would fill the
memory. How many there are stands in the footer; it is read here, because pyarrow ends the process (an exception in
C++ that nobody catches) when its own view of a damaged footer is asked for it.
"""

from __future__ import annotations

import struct
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from sc_imagenet.core.errors import InputError

MAGIC = b"PAR1"
FREE = 1 << 22  # values of a column that any file may have, however small
PER_BYTE = 64  # further ones for each byte of the file: what repeats packs well, but a bomb packs far better
MOST_BYTES = 1 << 28  # of a column in one row group, unpacked; ours have a hundredth of that
MOST_FOOTER = 1 << 26
DEEPEST = 32  # structures within structures; a footer has six

# Fields of parquet.thrift, and the kinds of Thrift's compact protocol.
ROWS, ROW_GROUPS, COLUMNS, METADATA, VALUES, UNPACKED = 3, 4, 1, 3, 5, 6
TRUE, FALSE, BYTE, DOUBLE, BINARY, LIST, SET, MAP, STRUCT = 1, 2, 3, 7, 8, 9, 10, 11, 12


def parquet_file(path: Path, memory_map: bool = False, fix: str = "Get or make the file again.") -> pq.ParquetFile:
    """Open a Parquet file; nothing but its footer is read. ``fix`` is what an error tells to do.

    Raises:
        InputError: missing, truncated, not Parquet, or of more values or larger columns than its bytes can hold.
    """
    try:
        parquet = pq.ParquetFile(path, memory_map=memory_map)
        size = path.stat().st_size
        values, unpacked = _largest(_footer(path, size))
    except FileNotFoundError as error:
        raise InputError("no such file", where=path) from error
    except Exception as error:  # a decoder given malformed bytes may raise anything at all
        raise InputError(f"is not a readable Parquet file ({str(error)[:200]})", where=path, fix=fix) from error
    if values > FREE + PER_BYTE * size or unpacked > MOST_BYTES:
        raise InputError(
            f"claims columns of {values:,} values and {unpacked:,} bytes in {size:,} bytes, which looks like a bomb",
            where=path,
            fix="Do not trust this file; get it from its authors.",
        )
    return parquet


def _largest(footer: dict[int, Any]) -> tuple[int, int]:
    """The most values of a column over all row groups, and the most bytes of one in a row group."""
    values: dict[int, int] = {}
    unpacked = 0
    for group in footer.get(ROW_GROUPS, []):
        for number, column in enumerate(group.get(COLUMNS, [])):
            about = column.get(METADATA, {})
            values[number] = values.get(number, 0) + abs(about.get(VALUES, 0))
            unpacked = max(unpacked, abs(about.get(UNPACKED, 0)))
    return max([abs(footer.get(ROWS, 0)), *values.values()]), unpacked


def _footer(path: Path, size: int) -> dict[int, Any]:
    with open(path, "rb") as file:
        file.seek(max(0, size - 8))
        length, magic = struct.unpack("<I4s", file.read(8))
        if magic != MAGIC or length > min(size - 8, MOST_FOOTER):
            raise ValueError("its footer is damaged")
        file.seek(size - 8 - length)
        return _Thrift(file.read(length)).structure()


class _Thrift:
    """Thrift's compact protocol: structures as dicts by field number, lists as lists."""

    def __init__(self, content: bytes) -> None:
        self.content, self.place = content, 0

    def structure(self, depth: int = 0) -> dict[int, Any]:
        if depth > DEEPEST:
            raise ValueError("its footer is nested too deeply")
        fields: dict[int, Any] = {}
        number = 0
        while (head := self._byte()) != 0:
            number = number + (head >> 4) if head >> 4 else self._signed()
            kind = head & 15
            fields[number] = kind == TRUE if kind in (TRUE, FALSE) else self._value(kind, depth)
        return fields

    def _value(self, kind: int, depth: int) -> Any:
        if kind in (TRUE, FALSE, BYTE):  # as a field a truth value has no byte of its own, in a list it has
            return self._byte()
        if kind in (4, 5, 6):  # whole numbers of 16, 32 and 64 bits
            return self._signed()
        if kind == DOUBLE:
            return self._take(8)
        if kind == BINARY:
            return self._take(self._unsigned())
        if kind in (LIST, SET):
            head = self._byte()
            count = head >> 4 if head >> 4 < 15 else self._unsigned()
            return self._list(head & 15, count, depth)
        if kind == MAP:
            count = self._unsigned()
            kinds = self._byte() if count else 0
            return [(self._value(kinds >> 4, depth), self._value(kinds & 15, depth)) for _ in range(self._fits(count))]
        if kind == STRUCT:
            return self.structure(depth + 1)
        raise ValueError("its footer is damaged")

    def _list(self, kind: int, count: int, depth: int) -> list[Any]:
        if depth > DEEPEST:
            raise ValueError("its footer is nested too deeply")
        return [self._value(kind, depth + 1) for _ in range(self._fits(count))]

    def _fits(self, count: int) -> int:
        if count > len(self.content) - self.place:
            raise ValueError("its footer is damaged")
        return count

    def _unsigned(self) -> int:
        number = shift = 0
        while True:
            byte = self._byte()
            number |= (byte & 127) << shift
            shift += 7
            if byte < 128:
                return number
            if shift > 63:
                raise ValueError("its footer is damaged")

    def _signed(self) -> int:
        number = self._unsigned()
        return (number >> 1) ^ -(number & 1)

    def _byte(self) -> int:
        return self._take(1)[0]

    def _take(self, count: int) -> bytes:
        taken = self.content[self.place : self.place + self._fits(count)]
        self.place += count
        return taken
