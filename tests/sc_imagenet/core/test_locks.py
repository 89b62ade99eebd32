"""A folder is worked on by one process at a time."""

from __future__ import annotations

import pytest

from sc_imagenet.core.errors import InputError
from sc_imagenet.core.locks import held


def test_a_second_process_is_told(tmp_path):
    with held(tmp_path, "data set"):
        with pytest.raises(InputError, match="another process is working on this data set"), held(tmp_path, "data set"):
            pass
        with held(tmp_path / "training", "training"):
            pass
    with held(tmp_path, "data set"):
        pass


def test_what_a_killed_process_left_is_removed_but_not_what_another_is_writing(tmp_path):
    left, kept = tmp_path / "work/.shard.parquet.x1.tmp", tmp_path / "network/.model.y2.tmp"
    for path in (left, kept):
        path.parent.mkdir()
        path.touch()
    with held(kept.parent, "training"):
        kept.touch()
        with held(tmp_path, "data set"):
            assert not left.exists()
            assert kept.exists()
    with held(kept.parent, "training"):
        assert not kept.exists()
