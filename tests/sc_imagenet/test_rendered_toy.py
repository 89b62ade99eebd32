"""The rendered set is rendered once a version and read like any other."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from made_data import image

from sc_imagenet import load_dataset, manifest_sha256

pytestmark = pytest.mark.usefixtures("own_caches")


@pytest.fixture
def rendered(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """A renderer of three pairs a split; the list tells which splits it rendered."""
    calls: list[str] = []

    def render_pairs(folder: Path, split: str) -> Iterator[dict]:
        calls.append(split)
        for number in range(3):
            image(folder / "images" / f"{number}.png")
            yield {
                "pair_id": f"{split}-{number}",
                "category": "lamp",
                "source": f"images/{number}.png",
                "target": f"images/{number}.png",
                "source_points": np.array([[1.5, number], [2, 3]]),
                "target_points": [[4, 5], [6, 7]],
                "source_bbox": [0, 0, 10, 10],
            }

    toy = SimpleNamespace(render_pairs=render_pairs, TOY_VERSION="7", CATEGORIES=("chair", "lamp"))
    monkeypatch.setitem(sys.modules, "sc_imagenet.toy", toy)  # type: ignore[arg-type]
    return calls


def test_toy_is_rendered_once_and_read_by_both_its_names(rendered: list[str]) -> None:
    row = load_dataset("toy", split="test")[2]
    assert (row["pair_id"], row["category"], row["dataset"]) == ("test-2", 1, "toy")
    assert row["source"].size == (40, 30)
    assert row["source_points"] == [[1.5, 2], [2, 3]]
    assert (row["source_bbox"], row["target_bbox"]) == ([0, 0, 10, 10], None)
    assert len(load_dataset("sc_imagenet", "toy", split="test")) == 3
    assert manifest_sha256("toy:test")
    assert rendered == ["test"]


def test_an_interrupted_rendering_leaves_nothing(
    rendered: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stop(folder: Path, split: str) -> Iterator[dict]:
        image(folder / "0.png")
        raise KeyboardInterrupt
        yield {}

    with monkeypatch.context() as patch:
        patch.setattr(sys.modules["sc_imagenet.toy"], "render_pairs", stop)
        with pytest.raises(KeyboardInterrupt):
            load_dataset("toy", split="train")
    assert not list((tmp_path / "cache").rglob("*.png"))
    assert len(load_dataset("toy", split="train")) == 3
