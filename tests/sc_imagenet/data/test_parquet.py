"""The footer that is read here says what pyarrow says, and a damaged one ends in a line."""

from __future__ import annotations

import random
from contextlib import suppress

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from sc_imagenet.core.errors import InputError
from sc_imagenet.data.parquet import _footer, _largest, parquet_file


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "a.parquet"
    table = pa.table(
        {
            "name": [f"n{i}" for i in range(1000)],
            "points": [[[1.0, 2.0]] * (i % 7) for i in range(1000)],
            "flag": [True, None] * 500,
        }
    )
    pq.write_table(table, path, row_group_size=300, write_page_index=True)
    return path


def test_the_footer_is_pyarrows(file):
    metadata = pq.ParquetFile(file).metadata
    columns = [[metadata.row_group(g).column(n) for g in range(4)] for n in range(metadata.num_columns)]
    values = max(sum(column.num_values for column in group) for group in columns)
    unpacked = max(column.total_uncompressed_size for group in columns for column in group)
    assert _largest(_footer(file, file.stat().st_size)) == (values, unpacked)
    assert parquet_file(file).read().num_rows == 1000


def test_what_packs_well_is_still_read(tmp_path):
    """A million equal values in some kilobytes are no bomb."""
    path = tmp_path / "a.parquet"
    pq.write_table(pa.table({"a": np.zeros(1_000_000)}), path)
    assert parquet_file(path).read().num_rows == 1_000_000


def test_damaged_footers_end_in_a_line(file):
    content = file.read_bytes()
    length = int.from_bytes(content[-8:-4], "little")
    rng = random.Random(0)
    refused = 0
    for _ in range(300):
        spoilt = bytearray(content)
        spoilt[len(content) - 8 - rng.randrange(1, length)] = rng.randrange(256)
        file.write_bytes(spoilt)
        with suppress(InputError):
            parquet_file(file)
            continue
        refused += 1
    assert refused > 50
