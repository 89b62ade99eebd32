"""SemiMatch's checkpoints have the keys of CATs, with which its authors start."""

from __future__ import annotations

from dataclasses import replace

from baselines.checkpoints import cats

PUBLISHED = replace(cats.PUBLISHED, settings=("temperature",))
