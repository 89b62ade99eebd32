"""Looking a data set through: is all there, can all be read, does it agree with what was published.

Damage is what a loader would refuse or could not read: a missing or unreadable image or annotation, a pair
listed twice, points outside their image (where the data set does not allow them). A number that differs from
the published one is reported but is no damage: a copy may hold a part of the data set on purpose.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

from sc_imagenet import shards
from sc_imagenet.catalog import canonical, info
from sc_imagenet.checks import check_entry, check_pair
from sc_imagenet.convert import available_splits
from sc_imagenet.errors import InputError, unknown_name
from sc_imagenet.images import image_header, open_image
from sc_imagenet.orientation import Stored
from sc_imagenet.sources import Annotation, Entry, Options, Source, open_source
from sc_imagenet.workers import in_order, processes_for

State = Literal["ok", "partial", "differs", "damaged", "counted", "unchecked"]
Report = Callable[[str, int, int], None]  # what is being looked at, how many are done, of how many

CHUNK = 64  # images handed to a process at once
EXAMPLES = 20  # faults kept in words, of each kind
FAULTS = (
    "missing images",
    "unreadable images",
    "unreadable annotations",
    "points outside their image",
    "duplicate pair ids",
)


@dataclass(frozen=True)
class Line:
    """One thing counted."""

    what: str
    found: int
    published: int | None
    state: State

    def __str__(self) -> str:
        """The finding in words.

        >>> str(Line("pairs", 540, 900, "partial"))
        'partial: 540 of 900'
        """
        if self.state == "partial":
            return f"partial: {self.found:,} of {self.published:,}"
        if self.state == "differs":
            return f"differs: {self.found:,}, published {self.published:,}"
        return self.state


@dataclass(frozen=True)
class SplitReport:
    """What was found in one split."""

    split: str
    lines: tuple[Line, ...]
    faults: tuple[str, ...]  # in words, each one line; at most ``EXAMPLES`` of each kind


@dataclass(frozen=True)
class VerifyReport:
    """What was found in a data set."""

    dataset: str
    root: Path
    splits: tuple[SplitReport, ...]
    lines: tuple[Line, ...]  # of all splits together
    absent: dict[str, str] = field(default_factory=dict)  # splits that are not here, and why

    @property
    def damaged(self) -> bool:
        """Whether anything is missing or corrupt."""
        return any(line.state == "damaged" for split in self.splits for line in split.lines)

    def as_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return {**asdict(self), "root": str(self.root), "damaged": self.damaged}


def verify(
    name: str,
    split: str | None = None,
    root: str | Path | None = None,
    num_proc: int | None = None,
    report: Report | None = None,
) -> VerifyReport:
    """Look through a data set on this machine; every image is decoded, every annotation opened.

    Args:
        name: a data set of the catalogue.
        split: one of its splits; all that are here by default.
        root: its folder, or a folder that holds it; else ``SC_DATA_ROOT``.
        num_proc: processes that decode images; by default all cores where there are many.
        report: called with what is looked at, how many are done, and of how many.

    Raises:
        InputError: unknown name or split, or nothing of it is here. Damage is not raised but reported.
    """
    name = canonical(name)
    entry = info(name)
    if split is not None and split not in entry.splits:
        raise unknown_name(f"split of {name}", split, entry.splits)
    source = open_source(name, root, Options(outside="keep"))
    reasons = {each: why for each, why in available_splits(source).items() if split in (None, each)}
    here = [each for each, why in reasons.items() if why is None]
    absent = {each: why for each, why in reasons.items() if why is not None}
    if not here:
        raise InputError(
            f"{entry.title} cannot be looked through: {next(iter(absent.values()))}",
            fix=f"'scbench data info {name}' tells the layout and how to get it.",
        )
    looked = [_Split(source, each, num_proc, report or _silent) for each in here]
    images = set().union(*(each.images for each in looked))
    classes = set().union(*(each.classes for each in looked))
    whole = not absent and split is None
    lines = (
        _line("images", len(images), entry.images if whole else None),
        _line("classes", len(classes), entry.classes if whole else None),
    )
    splits = tuple(each.report() for each in looked)
    return VerifyReport(name, source.root, splits, lines, absent)


class _Split:
    """One split being looked through."""

    def __init__(self, source: Source, split: str, num_proc: int | None, report: Report) -> None:
        self.source, self.name = source, split
        self.counts: Counter[str] = Counter()
        self.faults: dict[str, list[str]] = {fault: [] for fault in FAULTS}
        self.images: set[str] = set()
        self.classes: set[str] = set()
        self.sizes: dict[str, Stored | None] = {}
        try:
            pairs = list(_pairs(source, split))
            for pair, _ in pairs:
                check_entry(pair, source.root)
        except InputError as error:  # the list itself is damaged: there is nothing else to look at
            self._fault("unreadable annotations", str(error))
            return
        self.images = {image for pair, _ in pairs for image in (pair.source, pair.target)}
        self.images_at_hand = self._look_at_images(num_proc, report)
        seen: set[str] = set()
        for number, (pair, annotation) in enumerate(pairs, start=1):
            self.counts["pairs"] += 1
            self.classes.add(pair.category)
            if pair.pair_id in seen:
                self._fault("duplicate pair ids", f"pair {pair.pair_id} is listed twice")
            seen.add(pair.pair_id)
            self._look_at_pair(pair, annotation)
            if number % 256 == 0 or number == len(pairs):
                report(f"{split} pairs", number, len(pairs))

    def _look_at_images(self, num_proc: int | None, report: Report) -> bool:
        root = self.source.image_root()
        if root is None:
            return False
        names = sorted(self.images)
        chunks = [names[start : start + CHUNK] for start in range(0, len(names), CHUNK)]
        done = 0
        processes = processes_for(len(names), num_proc, few=400)
        with closing(in_order(_decode, chunks, processes, _start, (root,))) as decoded:
            for found in decoded:
                for name, (size, fault) in found.items():
                    self.sizes[name] = size
                    if fault is not None:
                        missing = not (root / name).exists()
                        self._fault("missing images" if missing else "unreadable images", fault)
                done += len(found)
                report(f"{self.name} images", done, len(names))
        return True

    def _look_at_pair(self, pair: Entry, known: Annotation | None) -> None:
        stored = self.sizes.get(pair.source), self.sizes.get(pair.target)
        if self.images_at_hand and None in stored:
            return  # its image was reported; without its size some data sets' points have no meaning
        # Points that lie in Parquet are those of upright images (see ``schema``), published ones of images as stored.
        source, target = (None if each is None else each.stored_size if known is None else each.size for each in stored)
        sizes = source, target
        try:
            annotation = known or self.source.annotation(pair, *sizes)
            outside = check_pair(pair, annotation, *sizes, outside="keep")
        except InputError as error:
            self._fault("unreadable annotations", str(error))
            return
        self.counts["points"] += len(annotation.source_points)
        if outside:
            line = f"{annotation.where}: pair {pair.pair_id} has {outside} points outside their image"
            self._fault("points outside their image", line, outside)

    def _fault(self, kind: str, line: str, count: int = 1) -> None:
        self.counts[kind] += count
        if len(self.faults[kind]) < EXAMPLES:
            self.faults[kind].append(line)

    def report(self) -> SplitReport:
        published = info(self.source.name).pairs.get(self.name)
        lines = [
            _line("pairs", self.counts["pairs"], published),
            _line("images", len(self.images), None),
            _line("classes", len(self.classes), None),
            _line("points", self.counts["points"], None),
        ]
        for kind in FAULTS:
            count = self.counts[kind]
            state: State = "damaged" if count else "ok"
            if kind == "points outside their image" and self.source.outside == "keep" and count:
                state = "counted"
            if "images" in kind and not self.sizes and self.images:
                state = "unchecked"
            lines.append(Line(kind, count, 0 if state != "unchecked" else None, state))
        faults = tuple(line for kind in FAULTS for line in self.faults[kind])
        return SplitReport(self.name, tuple(lines), faults)


def _line(what: str, found: int, published: int | None) -> Line:
    if published is None:
        return Line(what, found, None, "counted")
    state: State = "ok" if found == published else "partial" if found < published else "differs"
    return Line(what, found, published, state)


def _pairs(source: Source, split: str) -> Iterator[tuple[Entry, Annotation | None]]:
    """The pairs of a split; with their points where these lie in Parquet beside them."""
    shipped = getattr(source, "shards", None)
    paths = shipped("pairs", split) if shipped is not None else []
    if not paths:
        yield from ((entry, None) for entry in source.entries(split))
        return
    for path in paths:
        parquet = shards.open_parquet(path)
        names = shards.category_names(parquet.schema_arrow, path)
        schema = shards.features_of("pairs", names).arrow_schema
        for table in shards.read_batches(parquet, schema, path):
            for row in table.to_pylist():
                images = row["source"]["path"], row["target"]["path"]
                yield (
                    Entry(row["pair_id"], names[row["category"]], *images, None),
                    Annotation(row["source_points"] or [], row["target_points"] or [], path),
                )


_root: Path


def _start(root: Path) -> None:
    global _root
    _root = root


def _decode(names: list[str]) -> dict[str, tuple[Stored | None, str | None]]:
    """How each image is stored, or why it cannot be decoded."""
    found: dict[str, tuple[Stored | None, str | None]] = {}
    for name in names:
        try:
            open_image(_root / name)
            found[name] = image_header(_root / name), None
        except InputError as error:
            found[name] = None, str(error)
    return found


def _silent(what: str, done: int, total: int) -> None:
    pass
