"""Small trainings of the cascade: what they are made of, and what they leave."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
from PIL import Image

from sc_imagenet.generation.cascade.options import TrainingOptions

SMALL = {"attention_width": 16, "volume_width": 8, "fold": 2}


def options(**changes) -> TrainingOptions:
    values = {
        "backbone": "resnet10t",
        "pretrained": False,
        "size": 96,
        "pooling": 1.0,
        "batch": 4,
        "warmup": 1,
        "views": 3,
    }
    stages = {"image_share": 0.25, "region_share": 0.15}  # some steps of few for each
    return TrainingOptions.from_dict({**values, **stages, "candidates": 6, "pairs": 4, "network": SMALL, **changes})


def discs_and_crosses(root: Path, count: int = 6) -> Path:
    """Two classes of noisy photographs: a bright disc on dark stripes, a dark cross on a bright plain."""
    draw = np.random.default_rng(0)
    y, x = np.mgrid[:80, :80]
    for number in range(count):
        cx, cy = draw.uniform(30, 50, 2)
        disc = np.where((x - cx) ** 2 + (y - cy) ** 2 < 350, 220, 40 + 30 * (x // 6 % 2))
        cross = np.where((abs(x - cx) < 7) | (abs(y - cy) < 7), 30, 180)
        for name, picture in (("disc", disc), ("cross", cross)):
            pixels = picture[..., None] + draw.normal(0, 12, (80, 80, 3))
            (root / name).mkdir(exist_ok=True)
            Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(root / name / f"{number}.png")
    return root


def losses_of(out: Path) -> list[dict[str, float]]:
    """The lines of a log, without rates and seconds."""
    lines = [json.loads(line) for line in (out / "log.jsonl").read_text().splitlines()]
    return [{name: value for name, value in line.items() if name not in ("lr", "seconds")} for line in lines]
