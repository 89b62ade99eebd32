"""Files are written whole or not at all."""

from __future__ import annotations

import os

import pytest

from sc_imagenet.errors import InputError
from sc_imagenet.files import atomic_path, read_json, write_json


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
        pytest.raises(InputError, match=r"w\.bin: cannot be written \(No space left on device\).*make room"),
        atomic_path(tmp_path / "w.bin"),
    ):
        raise error
    assert not os.listdir(tmp_path)


@pytest.mark.parametrize("content", ["", '{"a": 1', "[" * 100_000])
def test_damaged_json_is_one_line(tmp_path, content):
    path = tmp_path / "a.json"
    path.write_text(content)
    with pytest.raises(InputError, match=r"a\.json: is not valid JSON"):
        read_json(path)
