"""Columns of fixed-size lists, as Parquet files keep them so that every Arrow reads them.

Before its version 26 Arrow wrote lists of a fixed size with nulls among them and could not read them back. In files
they are therefore lists like any other; a reader casts them to the schema.
"""

from __future__ import annotations

import numpy as np
import pyarrow as pa


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
