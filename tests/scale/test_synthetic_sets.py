"""The maker of large data on a small scale: what it makes is read, and the rates hold there too."""

from __future__ import annotations

from pathlib import Path

import pytest
import synthetic

from sc_imagenet.data.convert import convert


def test_a_release_of_pair_files_converts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SC_CACHE", str(tmp_path / "cache"))
    synthetic.write_release(tmp_path / "release", 300)
    record = convert("sc-imagenet", "train", tmp_path / "release")
    assert (record.rows, record.points) == (300, 300 * synthetic.POINTS)


def test_parquet_opens_streams_and_gives_random_rows(tmp_path: Path) -> None:
    synthetic.write_parquet(tmp_path / "shards", 3_000)
    figures = synthetic.measure(tmp_path / "shards")
    assert figures["pairs"] == 3_000
    assert figures["open_resident_mb"] < 500
    # Random rows cost about what rows in order do, whatever else the machine has to do: neither is a search.
    assert figures["random_rows_per_second_without_images"] > figures["stream_rows_per_second"] / 20
