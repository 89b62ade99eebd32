"""How much of a volume is worked on at a time."""

from __future__ import annotations

import torch

GPU_TIMES = 64  # a GPU is kept busy by large pieces, and each piece costs it a launch


def at_once(entries: int, device: torch.device) -> int:
    """Entries to take at a time on ``device``: ``entries``, which fit a processor core's cache, or many more.

    >>> at_once(1024, torch.device("cpu")), at_once(1024, torch.device("cuda"))
    (1024, 65536)
    """
    return entries if device.type == "cpu" else GPU_TIMES * entries
