"""Cards say what the code says."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np

from sc_imagenet import load_dataset
from sc_imagenet.catalog import info
from sc_imagenet.toy import CATEGORIES

CARD = (Path(__file__).parents[2] / "cards/datasets/toy.md").read_text(encoding="utf-8")


def test_toy_card_has_the_catalogues_counts_and_categories():
    counts = {split: int(n.replace(",", "")) for split, n in re.findall(r"\| (\w+) \| ([\d,]+) \|", CARD)}
    assert counts == dict(info("toy").pairs)
    assert ", ".join(sorted(CATEGORIES)) in " ".join(CARD.split())


def test_toy_card_tells_the_score_of_copied_coordinates():
    scores = []
    for row in load_dataset("toy", split="test").select_columns(["source_points", "target_points"]):
        source, target = np.array(row["source_points"]), np.array(row["target_points"])
        scores.append((np.linalg.norm(source - target, axis=1) <= 0.1 * np.ptp(target, axis=0).max()).mean())
    told = float(re.search(r"Copying coordinates scores about (\d+)", CARD)[1])
    assert abs(100 * np.mean(scores) - told) < 1
