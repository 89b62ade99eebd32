"""Parquet files: opened although a stranger wrote them, lists that every Arrow reads, a hash of the content."""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from sc_imagenet.core.errors import InputError

# Opening a Parquet file that a stranger may have written.
#
# Equal values pack so well that a file of a kilobyte can hold a billion of them, and reading them would fill the
# memory. How many there are stands in the footer; it is read here, because pyarrow ends the process (an exception in
# C++ that nobody catches) when its own view of a damaged footer is asked for it.

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


# Columns of fixed-size lists, as Parquet files keep them so that every Arrow reads them.
#
# Before its version 26 Arrow wrote lists of a fixed size with nulls among them and could not read them back. In files
# they are therefore lists like any other; a reader casts them to the schema.


def with_plain_lists(table: pa.Table) -> pa.Table:
    """The same values in lists of no fixed size; metadata stays.

    >>> boxes = pa.table({"box": pa.array([[0.0, 1.0], None], pa.list_(pa.float32(), 2))})
    >>> with_plain_lists(boxes).schema.types
    [ListType(list<element: float>)]
    >>> with_fixed_lists(with_plain_lists(boxes), boxes.schema).equals(boxes)
    True
    """
    schema = pa.schema([_plain_field(field) for field in table.schema], metadata=table.schema.metadata)
    columns = [_plain(table.column(name).combine_chunks(), schema.field(name).type) for name in table.column_names]
    return pa.table(columns, schema=schema)


def with_fixed_lists(table: pa.Table, schema: pa.Schema) -> pa.Table:
    """The inverse: the columns that ``with_plain_lists`` made of those of ``schema`` become theirs again.

    Raises:
        pyarrow.ArrowException: a list is not of its column's size.
    """
    wanted = {field.name: field.type for field in schema}
    fields = [
        field.with_type(wanted[field.name])
        if field.name in wanted and field.type == _plain_type(wanted[field.name])
        else field
        for field in table.schema
    ]
    return table.cast(pa.schema(fields, metadata=table.schema.metadata))


def _plain_field(field: pa.Field) -> pa.Field:
    return field.with_type(_plain_type(field.type))


def _plain_type(kind: pa.DataType) -> pa.DataType:
    if pa.types.is_fixed_size_list(kind) or pa.types.is_list(kind):
        return pa.list_(pa.field("element", _plain_type(kind.value_type)))
    return kind


def _plain(values: pa.Array, kind: pa.DataType) -> pa.Array:
    if not pa.types.is_fixed_size_list(values.type):
        return values.cast(kind) if kind != values.type else values
    valid = values.is_valid().to_numpy(zero_copy_only=False)
    ends = np.concatenate([[0], np.cumsum(valid) * values.type.list_size])
    # A null where a list begins marks it; the last offset is the end of all.
    offsets = pa.array(ends.astype(np.int32), mask=np.concatenate([~valid, [False]]))
    return pa.ListArray.from_arrays(offsets, values.flatten().cast(kind.value_type)).cast(kind)


# A hash of a table's content that does not depend on how the table is cut into files, groups or batches.


class ContentHash:
    """One running SHA-256 for every column leaf (values, lengths, which are null)."""

    def __init__(self) -> None:
        self._leaves: dict[str, dict[str, Any]] = {}

    def add(self, table: pa.Table) -> None:
        """Add rows; images count by their path, not by their bytes."""
        for name in table.column_names:
            self._add(self._leaves.setdefault(name, {}), "", table[name].combine_chunks())

    def hexdigest(self, header: Sequence[str] = (), without: Sequence[str] = ()) -> str:
        """The hash of a header and all columns but some."""
        total = hashlib.sha256("\n".join(header).encode())
        for column in sorted(set(self._leaves) - set(without)):
            for leaf, digest in sorted(self._leaves[column].items()):
                total.update(f"{column}{leaf}={digest.hexdigest()}\n".encode())
        return total.hexdigest()

    def _add(self, leaves: dict[str, Any], leaf: str, array: pa.Array) -> None:
        def update(part: str, content: bytes) -> None:
            leaves.setdefault(f"{leaf}/{part}", hashlib.sha256()).update(content)

        update("valid", array.is_valid().to_numpy(zero_copy_only=False).tobytes())
        kind = array.type
        if pa.types.is_struct(kind):
            self._add(leaves, f"{leaf}.path", pc.struct_field(array, "path"))
        elif pa.types.is_list(kind):
            lengths = pc.fill_null(pc.list_value_length(array), -1)
            update("length", lengths.to_numpy(zero_copy_only=False).astype("<i4").tobytes())
            self._add(leaves, f"{leaf}[]", array.flatten())
        elif pa.types.is_fixed_size_list(kind):
            self._add(leaves, f"{leaf}[]", array.flatten())
        elif pa.types.is_string(kind):
            texts = [text or "" for text in array.to_pylist()]
            update("text", "".join(f"{len(text)}:{text}" for text in texts).encode())
        else:
            filled = pc.fill_null(array, False if pa.types.is_boolean(kind) else 0)
            values = filled.to_numpy(zero_copy_only=False)
            update("value", values.astype(values.dtype.newbyteorder("<")).tobytes())
