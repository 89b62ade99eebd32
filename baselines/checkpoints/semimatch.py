"""SemiMatch's checkpoints have the keys of CATs, with which its authors start."""

from __future__ import annotations

from baselines.checkpoints.cats import PUBLISHED

__all__ = ["PUBLISHED"]
