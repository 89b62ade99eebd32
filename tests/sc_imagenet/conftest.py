"""What the tests of this package share."""

from __future__ import annotations

from pathlib import Path

import pytest


@pytest.fixture
def own_caches(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Empty caches of ours and of ``datasets``, and no images found through the environment."""
    import datasets

    monkeypatch.setenv("SC_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "hf")
    monkeypatch.delenv("IMAGENET_ROOT", raising=False)
    monkeypatch.delenv("VOC_ROOT", raising=False)
