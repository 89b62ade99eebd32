"""Writing a split's pairs, or the listing of its images, as Parquet shards: what a conversion does."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa

from sc_imagenet.core.errors import InputError
from sc_imagenet.core.processes import in_order, processes_for
from sc_imagenet.data import shards
from sc_imagenet.data.catalog import info
from sc_imagenet.data.images import image_header
from sc_imagenet.data.orientation import UPRIGHT, Stored
from sc_imagenet.data.record import Record
from sc_imagenet.data.schema import check_pair, check_unique, known_size, pair_features
from sc_imagenet.sources.source import Annotation, Entry, Source, check_entry

# How many images are stored, from their headers: each file is opened once, however many pairs name it.

CHUNK = 512

_root: Path


def image_sizes(root: Path, names: Sequence[str], processes: int | None = None) -> dict[str, Stored | str]:
    """Size and orientation of every image below ``root``, or in words why it has none."""
    chunks = [list(names[start : start + CHUNK]) for start in range(0, len(names), CHUNK)]
    count = processes_for(len(names), processes)
    sizes: dict[str, Stored | str] = {}
    for found in in_order(_sizes, chunks, count, _start_sizes, (root,)):
        sizes.update(found)
    return sizes


def _start_sizes(root: Path) -> None:
    global _root
    _root = root


def _sizes(names: list[str]) -> dict[str, Stored | str]:
    return {name: _size(_root / name) for name in names}


def _size(path: Path) -> Stored | str:
    try:
        return image_header(path)
    except InputError as error:
        if not path.exists():
            return "is not there"
        return str(error).removeprefix(f"{path}: ")


# Writing a split's pairs, or the listing of its images, as Parquet shards: what a conversion does.
#
# Data sets are annotated in pixels as stored. Their manifest is taken of that, so that it is the same whether the
# images are at hand or not; then the points of images that EXIF turns are turned with them (see ``schema``).

Progress = Callable[[int, int], None]  # pairs done, pairs in all


@dataclass(frozen=True)
class Written:
    """What is known of shards that were written.

    outside   points outside their image
    manifest  hash of the annotations before they were turned, where some were
    """

    outside: int = 0
    manifest: str | None = None


Writer = Callable[[Path], Written]  # writes shards into a folder


def pair_writer(source: Source, split: str, num_proc: int | None, progress: Progress | None) -> Writer:
    """What writes the pairs of a split as shards, checked, by several processes where there are thousands."""

    def write(folder: Path) -> Written:
        entries = source.entries(split)
        if not entries:
            raise InputError(f"'{split}' of {info(source.name).title} has no pairs here", where=source.root)
        check_unique(entries, f"{source.name} {split}")
        for entry in entries:
            check_entry(entry, f"{source.name} {split}")
        categories = source.categories()
        root = source.image_root()
        sizes: dict[str, Stored | str] = {}
        if root is not None:
            names = sorted({image for entry in entries for image in (entry.source, entry.target)})
            sizes = image_sizes(root, names, num_proc)
        step = shards.shard_rows(len(entries))
        jobs = list(range(0, len(entries), step))
        work = _Work(source, split, entries, categories, root, sizes, folder, step, len(jobs))
        done = outside = 0
        processes = processes_for(len(entries), num_proc)
        with closing(in_order(_convert_shard, jobs, processes, _start, (work,))) as converted:
            for rows, found in converted:
                done, outside = done + rows, outside + found
                if progress is not None:
                    progress(done, len(entries))
        turned = {
            name: stored
            for name, stored in sizes.items()
            if isinstance(stored, Stored) and stored.orientation != UPRIGHT
        }
        if not turned:
            return Written(outside)
        manifest = shards.scan_shards(folder, source.name, "pairs", split).manifest_sha256
        for path in sorted(folder.glob(f"{split}-*.parquet")):
            _make_upright(path, turned, work.schema)
        return Written(outside, manifest)

    return write


class _Work:
    """What every process of one conversion needs."""

    def __init__(
        self,
        source: Source,
        split: str,
        entries: list[Entry],
        categories: tuple[str, ...],
        root: Path | None,
        sizes: dict[str, Stored | str],
        folder: Path,
        step: int,
        count: int,
    ) -> None:
        self.source, self.split, self.entries = source, split, entries
        self.numbers = {category: number for number, category in enumerate(categories)}
        self.schema = pair_features(categories).arrow_schema
        self.root, self.sizes = root, sizes
        self.folder, self.step, self.count = folder, step, count
        self.outside = source.options.outside or source.outside


_work: _Work


def _start(work: _Work) -> None:
    global _work
    _work = work


def _convert_shard(start: int) -> tuple[int, int]:
    """Read, check and write the pairs of one shard; (pairs, points outside their image)."""
    work = _work
    rows, outside = [], 0
    for entry in work.entries[start : start + work.step]:
        source_size, target_size = (
            known_size(entry, image, work.root, work.sizes).stored_size if work.root is not None else None
            for image in (entry.source, entry.target)
        )
        found = work.source.annotation(entry, source_size, target_size)
        outside += check_pair(entry, found, source_size, target_size, work.outside)
        viewpoint, scale, truncation, occlusion = found.grades
        rows.append(
            {
                "pair_id": entry.pair_id,
                "dataset": work.source.name,
                "category": work.numbers[entry.category],
                "source": {"bytes": None, "path": entry.source},
                "target": {"bytes": None, "path": entry.target},
                "source_size": source_size,
                "target_size": target_size,
                "source_points": found.source_points,
                "target_points": found.target_points,
                "source_bbox": found.source_bbox,
                "target_bbox": found.target_bbox,
                "mirrored": entry.mirrored,
                "viewpoint_variation": viewpoint,
                "scale_variation": scale,
                "truncation": truncation,
                "occlusion": occlusion,
                **_added(found),
            }
        )
    name = shards.shard_name(work.split, start // work.step, work.count)
    shards.write_shard(work.folder / name, rows, work.schema)
    return len(rows), outside


def _added(found: Annotation) -> dict[str, Any]:
    """The columns that version 2 added, null where nothing is told."""
    azimuths = (None if azimuth < 0 else azimuth for azimuth in found.azimuths)
    added: dict[str, Any] = dict(zip(("source_azimuth", "target_azimuth"), azimuths))
    if found.keypoint_ids is not None:
        added["keypoint_ids"] = found.keypoint_ids
        added["keypoint_names"] = found.keypoint_names
        added["symmetric_ids"] = found.symmetric_ids
        added["unpaired_ids"] = [number for number, *_ in found.unpaired]
        added["unpaired_points"] = [[x, y] for _, x, y, _ in found.unpaired]
        added["unpaired_in_source"] = [in_source for *_, in_source in found.unpaired]
    added["further_targets"] = found.further_targets
    added["source_category"] = found.source_category
    return added


def _make_upright(path: Path, turned: Mapping[str, Stored], schema: pa.Schema) -> None:
    """Turn the points, boxes and sizes of a shard with those of its images that EXIF turns."""
    tables = shards.read_batches(shards.open_parquet(path), schema, path)
    rows = [row for table in tables for row in table.to_pylist()]
    ends = [(row, side, row[side]["path"]) for row in rows for side in ("source", "target")]
    for row, side, name in ends:
        if name in turned:
            row[f"{side}_points"] = turned[name].upright(row[f"{side}_points"])
            row[f"{side}_bbox"] = turned[name].upright_box(row[f"{side}_bbox"])
            row[f"{side}_size"] = turned[name].size
            if side == "target" and row["further_targets"]:
                row["further_targets"] = [turned[name].upright(points) for points in row["further_targets"]]
            if row["unpaired_points"]:
                own = [in_source == (side == "source") for in_source in row["unpaired_in_source"]]
                upright = turned[name].upright(row["unpaired_points"])
                row["unpaired_points"] = [a if mine else b for mine, a, b in zip(own, upright, row["unpaired_points"])]
    if any(name in turned for _, _, name in ends):
        shards.write_shard(path, rows, schema)


def image_writer(source: Source, pairs: Record) -> Writer:
    """What writes the listing of the distinct images of a split's pairs, in the order of their paths."""

    def write(folder: Path) -> Written:
        found: dict[str, tuple[int, Any]] = {}
        for path, category, size in _image_columns(pairs):
            found[path] = (category, size)
        names = sorted(found)
        ids = _image_ids(names)
        step = shards.shard_rows(len(names))
        count = -(-len(names) // step)
        schema = shards.features_of("images", pairs.categories).arrow_schema
        for index in range(count):
            rows = [
                {
                    "image_id": ids[name],
                    "dataset": source.name,
                    "category": found[name][0],
                    "image": {"bytes": None, "path": name},
                    "size": found[name][1],
                }
                for name in names[index * step : (index + 1) * step]
            ]
            shards.write_shard(folder / shards.shard_name(pairs.split, index, count), rows, schema)
        return Written()

    return write


def _image_ids(names: Sequence[str]) -> dict[str, str]:
    """The stem of each image's name, or where others have it too its path.

    >>> _image_ids(["cat/1.jpg", "dog/1.jpg", "dog/2.png"])
    {'cat/1.jpg': 'cat/1.jpg', 'dog/1.jpg': 'dog/1.jpg', 'dog/2.png': '2'}
    """
    stems = Counter(Path(name).stem for name in names)
    return {name: stem if stems[stem := Path(name).stem] == 1 else name for name in names}


def _image_columns(pairs: Record) -> Iterator[tuple[str, int, Any]]:
    schema = pair_features(pairs.categories).arrow_schema
    for path in pairs.files:
        for table in shards.read_batches(shards.open_parquet(path), schema, path):
            category = table["category"].to_pylist()
            for side in ("source", "target"):
                images, sizes = table[side].to_pylist(), table[f"{side}_size"].to_pylist()
                yield from ((image["path"], number, size) for image, number, size in zip(images, category, sizes))
