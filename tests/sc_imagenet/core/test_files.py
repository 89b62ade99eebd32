"""Files are written whole or not at all."""

from __future__ import annotations

import os
import resource

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from safetensors.torch import save_file

from sc_imagenet.core.errors import InputError
from sc_imagenet.core.files import atomic_path, read_json, write_json


def test_a_failed_write_keeps_what_was_there(tmp_path):
    path = tmp_path / "a.json"
    write_json(path, {"kept": 1})
    with pytest.raises(ZeroDivisionError), atomic_path(path) as temporary:
        temporary.write_text(f"half {1 / 0}")
    assert read_json(path) == {"kept": 1}
    assert os.listdir(tmp_path) == ["a.json"]


@pytest.mark.parametrize(
    "error",
    [
        OSError(28, "No space left on device"),
        RuntimeError("Error while serializing: I/O error: No space left on device (os error 28)"),
    ],
)
def test_a_full_disk_is_one_line(tmp_path, error):
    with (
        pytest.raises(InputError, match=r"w\.bin: cannot be written \(No space left on device\).*free some space"),
        atomic_path(tmp_path / "w.bin"),
    ):
        raise error
    assert not os.listdir(tmp_path)


def save_by_torch(path):
    torch.save({"weights": torch.zeros(2**18)}, path)


def save_by_safetensors(path):
    save_file({"weights": torch.zeros(2**18)}, path)


def save_by_pyarrow(path):
    pq.write_table(pa.table({"numbers": np.random.default_rng(0).random(2**17)}), path)


@pytest.mark.parametrize("save", [save_by_torch, save_by_safetensors, save_by_pyarrow])
def test_a_file_that_may_not_grow_is_one_line_whoever_writes_it(tmp_path, save):
    """A limit on file sizes, as a quota; the old file stays."""
    path = tmp_path / "weights"
    path.write_text("old")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (300_000, hard))
    try:
        with (
            pytest.raises(InputError, match=r"weights: cannot be written \(File too large\)"),
            atomic_path(path) as temp,
        ):
            save(temp)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert path.read_text() == "old"
    assert os.listdir(tmp_path) == ["weights"]


@pytest.mark.parametrize("content", ["", '{"a": 1', "[" * 100_000])
def test_damaged_json_is_one_line(tmp_path, content):
    path = tmp_path / "a.json"
    path.write_text(content)
    with pytest.raises(InputError, match=r"a\.json: is not valid JSON"):
        read_json(path)
