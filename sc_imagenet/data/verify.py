"""Looking a data set through: is all there, can all be read, does it agree with what was published.

Damage is what a loader would refuse or could not read: a missing or unreadable image or annotation, an image of
another size than was annotated, a pair listed twice, points outside their image (where the data set does not allow
them). A number that differs from the published one is reported but is no damage: a copy may hold a part of the data
set on purpose. Nor are things among its files that are not its data.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

from sc_imagenet.core.errors import InputError, unknown_name
from sc_imagenet.core.processes import in_order, processes_for
from sc_imagenet.data import shards
from sc_imagenet.data.catalog import canonical, info
from sc_imagenet.data.convert import available_splits, why_none
from sc_imagenet.data.images import image_header, open_image
from sc_imagenet.data.orientation import Stored
from sc_imagenet.data.roots import open_source
from sc_imagenet.data.schema import check_pair, check_size
from sc_imagenet.sources.source import Annotation, Entry, Source, SourceOptions, check_entry
from sc_imagenet.sources.tables import recorded_size

SplitState = Literal["ok", "partial", "differs", "damaged", "counted", "unchecked"]
Verification = Callable[[str, int, int], None]  # what is being looked at, how many are done, of how many

CHUNK = 64  # images handed to a process at once
EXAMPLES = 20  # faults kept in words, of each kind
OF_IMAGES = ("missing images", "unreadable images", "images of another size")
FAULTS = (
    *OF_IMAGES,
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
    state: SplitState

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
    more: dict[str, int]  # how many there are beside them, by kind


@dataclass(frozen=True)
class VerifyReport:
    """What was found in a data set."""

    dataset: str
    root: Path
    splits: tuple[SplitReport, ...]
    lines: tuple[Line, ...]  # of all splits together
    absent: dict[str, str] = field(default_factory=dict)  # splits that are not here, and why
    damage: dict[str, int] = field(default_factory=dict)  # faults by kind; an image that several splits use counts once
    strays: tuple[str, ...] = ()  # what lies among its files and is not read, relative to the root

    @property
    def damaged(self) -> bool:
        """Whether anything is missing or corrupt."""
        return bool(self.damage)

    def as_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return {**asdict(self), "root": str(self.root), "damaged": self.damaged}


def verify(
    name: str,
    split: str | None = None,
    root: str | Path | None = None,
    num_proc: int | None = None,
    report: Verification | None = None,
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
    source = open_source(name, root, SourceOptions(outside="keep"))
    reasons = {each: why for each, why in available_splits(source).items() if split in (None, each)}
    here = [each for each, why in reasons.items() if why is None]
    absent = {each: why for each, why in reasons.items() if why is not None}
    if not here:
        raise InputError(
            f"{entry.title} cannot be looked through: {why_none(absent)}",
            fix=f"'scbench data info {name}' tells the layout and how to get it.",
        )
    tell = report or _silent
    looked = [_Split(source, each) for each in here]
    images = set().union(*(each.images for each in looked))
    found = _look_at_images(source.image_root(), sorted(images), num_proc, tell)
    for each in looked:
        each.look(found, tell)
    classes = set().union(*(each.classes for each in looked))
    whole = not absent and split is None
    lines = (
        _line("images", len(images), entry.images if whole else None),
        _line("classes", len(classes), entry.classes if whole else None),
    )
    splits = tuple(each.report() for each in looked)
    strays = tuple(str(path.relative_to(source.root)) for path in source.strays())
    return VerifyReport(name, source.root, splits, lines, absent, _damage(splits, looked), strays)


def _damage(splits: tuple[SplitReport, ...], looked: list[_Split]) -> dict[str, int]:
    damage = {}
    for kind in FAULTS:
        counts = [line.found for each in splits for line in each.lines if (line.what, line.state) == (kind, "damaged")]
        total = len(set().union(*(each.bad[kind] for each in looked))) if kind in OF_IMAGES else sum(counts)
        if counts:
            damage[kind] = total
    return damage


Found = dict[str, tuple[Stored | None, str | None]]  # by image: as it is stored, or why not


def _look_at_images(root: Path | None, names: list[str], num_proc: int | None, report: Verification) -> Found | None:
    """Decode every image, once however many splits use it; None where no images are at hand."""
    if root is None:
        return None
    chunks = [names[start : start + CHUNK] for start in range(0, len(names), CHUNK)]
    looked: Found = {}
    with closing(in_order(_decode, chunks, processes_for(len(names), num_proc, few=400), _start, (root,))) as decoded:
        for part in decoded:
            looked.update(part)
            report("images", len(looked), len(names))
    return looked


class _Split:
    """One split being looked through."""

    def __init__(self, source: Source, split: str) -> None:
        self.source, self.name = source, split
        self.counts: Counter[str] = Counter()
        self.told: Counter[str] = Counter()  # lines a kind, whatever each counts
        self.faults: dict[str, list[str]] = {fault: [] for fault in FAULTS}
        self.bad: dict[str, set[str]] = {kind: set() for kind in OF_IMAGES}
        self.classes: set[str] = set()
        self.images_at_hand = False
        self.pairs: list[_Listed] = []
        try:
            pairs = list(_pairs(source, split))
            for pair in pairs:
                check_entry(pair.entry, source.root)
        except InputError as error:  # the list itself is damaged: there is nothing else to look at
            self._fault("unreadable annotations", str(error))
            return
        self.pairs = pairs

    @property
    def images(self) -> set[str]:
        return {image for pair in self.pairs for image in (pair.entry.source, pair.entry.target)}

    def look(self, images: Found | None, report: Verification) -> None:
        """Look at every pair, with what is known of the images."""
        if images is not None:
            self.images_at_hand = True
            for name in sorted(self.images):
                if (why := images[name][1]) is not None:
                    missing = not (self.source.image_root() / name).exists()  # type: ignore[operator]
                    self._fault_of_image("missing images" if missing else "unreadable images", name, why)
        seen: set[str] = set()
        for number, pair in enumerate(self.pairs, start=1):
            self.counts["pairs"] += 1
            self.classes.add(pair.entry.category)
            if pair.entry.pair_id in seen:
                self._fault("duplicate pair ids", f"pair {pair.entry.pair_id} is listed twice")
            seen.add(pair.entry.pair_id)
            self._look_at_pair(pair, images or {})
            if number % 256 == 0 or number == len(self.pairs):
                report(f"{self.name} pairs", number, len(self.pairs))

    def _look_at_pair(self, pair: _Listed, images: Found) -> None:
        entry = pair.entry
        stored = (images.get(name, (None, None))[0] for name in (entry.source, entry.target))
        # Points that lie in Parquet are those of upright images (see ``schema``), published ones of images as stored.
        source_size, target_size = (
            None if each is None else each.stored_size if pair.annotation is None else each.size for each in stored
        )
        try:
            annotation = pair.annotation or self.source.annotation(entry, source_size, target_size)
        except InputError as error:
            self._fault("unreadable annotations", str(error))
            return
        self.counts["points"] += len(annotation.source_points)
        other = False
        for name, size, annotated in (
            (entry.source, source_size, annotation.annotated_source_size),
            (entry.target, target_size, annotation.annotated_target_size),
        ):
            try:
                if size is not None and annotated is not None:
                    check_size(name, size, annotated, f"pair {entry.pair_id}")
            except InputError as error:
                other = True
                self._fault_of_image("images of another size", name, str(error))
        if other:
            return  # where its points would lie says nothing
        try:
            outside = check_pair(entry, annotation, source_size, target_size, outside="keep")
        except InputError as error:
            self._fault("unreadable annotations", str(error))
            return
        if outside:
            line = f"{annotation.where}: pair {entry.pair_id} has {outside} points outside their image"
            self._fault("points outside their image", line, outside)

    def _fault_of_image(self, kind: str, name: str, line: str) -> None:
        """As ``_fault``, once an image."""
        if name not in self.bad[kind]:
            self.bad[kind].add(name)
            self._fault(kind, line)

    def _fault(self, kind: str, line: str, count: int = 1) -> None:
        self.counts[kind] += count
        self.told[kind] += 1
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
            state: SplitState = "damaged" if count else "ok"
            if kind == "points outside their image" and self.source.outside == "keep" and count:
                state = "counted"
            if kind in OF_IMAGES and not self.images_at_hand and self.pairs:
                state = "unchecked"
            lines.append(Line(kind, count, 0 if state != "unchecked" else None, state))
        faults = tuple(line for kind in FAULTS for line in self.faults[kind])
        more = {kind: rest for kind in FAULTS if (rest := self.told[kind] - len(self.faults[kind])) > 0}
        return SplitReport(self.name, tuple(lines), faults, more)


def _line(what: str, found: int, published: int | None) -> Line:
    if published is None:
        return Line(what, found, None, "counted")
    state: SplitState = "ok" if found == published else "partial" if found < published else "differs"
    return Line(what, found, published, state)


@dataclass(frozen=True)
class _Listed:
    """A pair of a list; with its points where these lie in Parquet beside it."""

    entry: Entry
    annotation: Annotation | None = None


def _pairs(source: Source, split: str) -> Iterator[_Listed]:
    shipped = getattr(source, "shards", None)
    paths = shipped("pairs", split) if shipped is not None else []
    if not paths:
        yield from map(_Listed, source.entries(split))
        return
    for path in paths:
        parquet = shards.open_parquet(path)
        names = shards.category_names(parquet.schema_arrow, path)
        schema = shards.features_of("pairs", names).arrow_schema
        for table in shards.read_batches(parquet, schema, path):
            for row in table.to_pylist():
                yield _Listed(
                    Entry(row["pair_id"], names[row["category"]], row["source"]["path"], row["target"]["path"], None),
                    Annotation(
                        row["source_points"] or [],
                        row["target_points"] or [],
                        path,
                        annotated_source_size=recorded_size(row["source_size"]),
                        annotated_target_size=recorded_size(row["target_size"]),
                    ),
                )


_root: Path


def _start(root: Path) -> None:
    global _root
    _root = root


def _decode(names: list[str]) -> Found:
    """How each image is stored, or why it cannot be decoded."""
    found: Found = {}
    for name in names:
        try:
            open_image(_root / name)
            found[name] = image_header(_root / name), None
        except InputError as error:
            found[name] = None, str(error)
    return found


def _silent(what: str, done: int, total: int) -> None:
    pass
