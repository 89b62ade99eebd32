"""The card of a generated data set: ``card.md`` filled with its counts."""

from __future__ import annotations

import json
from collections.abc import Mapping
from importlib.resources import files
from pathlib import Path
from string import Template

from sc_imagenet.core.files import atomic_path
from sc_imagenet.data.data_card import data_files, size_category
from sc_imagenet.data.record import Record
from sc_imagenet.generation.options import GenerationOptions
from sc_imagenet.generation.statistics import Statistics, median

LISTED = 20  # classes that fall short, by name


def write_card(path: Path, statistics: Statistics, records: Mapping[str, Record], options: GenerationOptions) -> None:
    """Write the card."""
    template = Template((files("sc_imagenet.generation") / "card.md").read_text(encoding="utf-8"))
    counts = {name: f"{getattr(statistics, name):,}" for name in ("images", "single", "kept", "points")}
    text = template.substitute(
        counts,
        title=f"SC-{path.absolute().parent.name}",
        pretty_name=json.dumps(f"SC-{path.absolute().parent.name}"),
        size=size_category(statistics.pairs),
        configs=json.dumps([data_files(list(records))]),
        splits="\n".join(f"| {split} | {record.rows:,} |" for split, record in records.items()),
        classes=f"{len(statistics.classes):,}",
        matched=median(statistics.matched),
        selected=median(statistics.selected),
        method=describe(options),
        side=options.size,
        shortfalls=shortfalls(statistics),
    )
    with atomic_path(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def describe(options: GenerationOptions) -> str:
    """The method in words."""
    how = f"the trained cascade {Path(options.network).name}" if options.network else "raw features and Hough scores"
    loops = (
        "110 closed loops an image in groups of 12"
        if options.loops == "clique"
        else "100 closed loops an image, drawn independently"
    )
    return (
        f"Backbone {options.backbone} at {options.size} px; matches by {how}; saliency: {Path(options.saliency).name}; "
        f"objects counted by: {Path(options.counts).name}. Images are scored by {loops}; of each class the best "
        f"{100 * options.share:g} % are kept, each the source of its {options.pairs} best pairs, with "
        f"{options.points} points each. Seed {options.seed}."
    )


def shortfalls(statistics: Statistics) -> str:
    """A line for each class that has less than the rules ask for, or nothing."""
    lines = [f"- {name}: no pairs; {reason}" for name, reason in statistics.left_out.items()]
    lines += [f"- {name}: {reason}" for name, reasons in statistics.shortfalls.items() for reason in reasons]
    if len(lines) > LISTED:
        lines = lines[:LISTED] + [f"- and {len(lines) - LISTED:,} more lines in generation.json"]
    return "\n".join(lines) or "Nowhere."
