"""Counts of a generated data set, and a picture of them like the paper's Figure 1."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from sc_imagenet.core.files import atomic_path
from sc_imagenet.generation.labelling import BINS
from sc_imagenet.generation.pipeline import read_shard


@dataclass
class Statistics:
    """What came of every class.

    images     photographs that were looked at
    single     of these, with exactly one object
    kept       sources of pairs
    classes    pairs by class, of those that gave any
    left_out   why the other classes gave none
    masks      how masks of a folder were read, in words, each with how many were
    shortfalls where a class has fewer pairs or points than the rules ask for
    matched, selected  histograms over ``BINS`` of the loop offsets of all matched and of the selected points
    kept_scores, other_scores  loop offsets of images, pixels of the network's input
    """

    images: int = 0
    single: int = 0
    kept: int = 0
    points: int = 0
    matchings: int = 0
    loops: int = 0
    classes: dict[str, int] = field(default_factory=dict)
    left_out: dict[str, str] = field(default_factory=dict)
    masks: Counter[str] = field(default_factory=Counter)
    shortfalls: dict[str, list[str]] = field(default_factory=dict)
    matched: np.ndarray = field(default_factory=lambda: np.zeros(len(BINS) - 1, np.int64))
    selected: np.ndarray = field(default_factory=lambda: np.zeros(len(BINS) - 1, np.int64))
    kept_scores: list[float] = field(default_factory=list)
    other_scores: list[float] = field(default_factory=list)
    areas: list[float] = field(default_factory=list)

    @property
    def pairs(self) -> int:
        """Pairs of all classes."""
        return sum(self.classes.values())

    def as_dict(self) -> dict[str, Any]:
        """Plain values."""
        return {
            "images": self.images,
            "images_of_one_object": self.single,
            "kept_images": self.kept,
            "classes": len(self.classes),
            "pairs": self.pairs,
            "points": self.points,
            "matchings": self.matchings,
            "loops": self.loops,
            "mean_area": round(float(np.mean(self.areas)), 4) if self.areas else None,
            "median_offset_matched": median(self.matched),
            "median_offset_selected": median(self.selected),
            "left_out": self.left_out,
            "shortfalls": self.shortfalls,
            "masks": dict(self.masks),
        }


def gather(labels: Mapping[str, Path], selected: Mapping[str, Path]) -> Statistics:
    """Count what the shards of all classes hold."""
    total = Statistics()
    for name in sorted(selected):
        table, about = read_shard(labels[name])
        total.images += about["images"]
        total.single += about["single"]
        total.matchings += about.get("matchings", 0)
        total.loops += about.get("loops", 0)
        total.areas += table["area"].to_pylist()
        total.masks.update(about.get("masks", {}))
        scores = table["score"].to_pylist()
        table, about = read_shard(selected[name])
        if about["left_out"]:
            total.left_out[name] = about["left_out"]
            continue
        sources = set(table["source"].to_pylist())
        total.kept += len(sources)
        total.classes[name] = len(table)
        total.points += sum(map(len, table["loop_offset"].to_pylist()))
        total.matchings += about["matchings"]
        total.matched += np.array(about["offsets"]["matched"])
        total.selected += np.array(about["offsets"]["selected"])
        if about["shortfalls"]:
            total.shortfalls[name] = about["shortfalls"]
        for number, score in enumerate(scores):
            if score is not None:
                (total.kept_scores if number in sources else total.other_scores).append(score)
    return total


def median(counts: np.ndarray) -> float | None:
    """The median of a histogram over ``BINS``, as if a bin's values lay evenly in it; pixels.

    >>> median(np.eye(1, len(BINS) - 1, 2, dtype=int)[0] * 10)
    5.0
    """
    total = counts.sum()
    if not total:
        return None
    before = np.cumsum(counts) - counts
    index = int(np.searchsorted(np.cumsum(counts), total / 2))
    low, high = BINS[index], min(BINS[index + 1], 2 * BINS[-2])
    return round(float(low + (high - low) * (total / 2 - before[index]) / counts[index]), 2)


def draw_statistics(statistics: Statistics, path: Path) -> None:
    """Four panels: pairs by class, loop offsets of points and of images, and the objects' areas."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(11, 7), layout="constrained")
    FigureCanvasAgg(figure)
    (pairs, points), (images, areas) = figure.subplots(2, 2)
    counts = sorted(statistics.classes.values(), reverse=True)
    pairs.bar(range(len(counts)), counts, width=1.0, color="#0072b2")
    pairs.set(title=f"{statistics.pairs:,} pairs of {len(counts):,} classes", xlabel="class, by size", ylabel="pairs")
    edges = np.append(BINS[:33], 68)
    for name, histogram, colour in (
        ("all matched", statistics.matched, "#adb5bd"),
        ("selected", statistics.selected, "#d55e00"),
    ):
        shown = np.append(histogram[:32], histogram[32:].sum())
        points.stairs(shown / max(histogram.sum(), 1), edges, fill=True, alpha=0.7, label=name, color=colour)
    points.set(
        title=f"{statistics.points:,} points",
        xlabel="loop offset, pixels of the network's input (last bar: more)",
        ylabel="share",
    )
    points.legend(frameon=False)
    scores = [statistics.other_scores, statistics.kept_scores]
    images.hist(scores, bins=40, stacked=True, color=["#adb5bd", "#009e73"], label=["not kept", "kept"])
    images.set(
        title=f"{statistics.kept:,} of {statistics.single:,} images are kept",
        xlabel="mean loop offset of an image, pixels",
        ylabel="images",
    )
    images.legend(frameon=False)
    areas.hist(statistics.areas, bins=40, range=(0, 1), color="#56b4e9")
    areas.set(title="Objects", xlabel="share of the image that is foreground", ylabel="images")
    with atomic_path(path) as temporary:
        figure.savefig(temporary, format="png", dpi=110, metadata={"Software": None})
