"""The rendered set is rendered once a version and read like any other."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

import sc_imagenet.toy
from sc_imagenet.data.load import load_dataset, manifest_sha256

pytestmark = pytest.mark.usefixtures("own_caches")


def test_toy_is_rendered_once_goes_on_after_an_interrupt_and_has_two_names(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    render, calls = sc_imagenet.toy.render_pairs, []

    def interrupted(folder: Path, split: str) -> Iterator[dict]:
        calls.append(split)
        pairs = render(folder, split)
        yield next(pairs)
        if len(calls) == 1:
            raise KeyboardInterrupt
        yield from pairs

    monkeypatch.setattr("sc_imagenet.toy.pairs.render_pairs", interrupted)
    with pytest.raises(KeyboardInterrupt):
        load_dataset("toy", split="validation")
    pictures = {path: path.stat().st_mtime_ns for path in (tmp_path / "cache").rglob("*.jpg")}
    assert pictures
    assert not list((tmp_path / "cache").rglob("*.jsonl"))

    data = load_dataset("toy", split="validation")
    assert all(path.stat().st_mtime_ns == written for path, written in pictures.items())
    assert data.features["category"].names == list(sc_imagenet.toy.CATEGORIES)
    assert data[0]["source"].size == tuple(data[0]["source_size"])
    assert {"toy"} == set(data["dataset"])
    assert len(load_dataset("sc_imagenet", "toy", split="validation")) == len(data)
    assert len(manifest_sha256("toy:validation")) == 64
    assert calls == ["validation"] * 2
