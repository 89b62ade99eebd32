"""What tests of several rooms need."""

from __future__ import annotations

from collections.abc import Iterator

import huggingface_hub
import pytest

from sc_imagenet.core.processes import keep_freed_memory

keep_freed_memory()  # as commands do


@pytest.fixture
def hub_offline(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The Hub's client as HF_HUB_OFFLINE=1 makes it; one that another test has made is dropped, and so is this one."""
    # The function was renamed in version 1.
    drop = getattr(huggingface_hub.utils, "reset_sessions", None) or huggingface_hub.close_session
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    drop()
    yield
    drop()
