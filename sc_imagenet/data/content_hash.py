"""A hash of a table's content that does not depend on how the table is cut into files, groups or batches."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc


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
