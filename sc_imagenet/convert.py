"""Converting a data set's annotations, once, to Parquet in the cache.

What was converted is found again by the content of the data set's lists, the version of its reader and the
modification times of its annotation folders; the files in them are not looked at one by one, so a single
annotation edited in place goes unseen until ``force=True``.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from sc_imagenet import shards
from sc_imagenet.catalog import canonical, info
from sc_imagenet.checks import check_entry, check_pair, check_unique, known_size
from sc_imagenet.errors import InputError, unknown_name
from sc_imagenet.files import sha256_of
from sc_imagenet.image_sizes import image_sizes
from sc_imagenet.roots import cache_folder
from sc_imagenet.schema import pair_features
from sc_imagenet.shards import Record
from sc_imagenet.slow_files import watched
from sc_imagenet.sources import Entry, Options, Source, open_source
from sc_imagenet.sources.source import Size
from sc_imagenet.workers import in_order, processes_for

logger = logging.getLogger(__name__)

Progress = Callable[[int, int], None]  # pairs done, pairs in all


def convert(
    name: str,
    split: str,
    root: str | Path | None = None,
    num_proc: int | None = None,
    force: bool = False,
    progress: Progress | None = None,
    config: str = "pairs",
    **options: Any,
) -> Record:
    """The split in Parquet: converted now, or found in the cache, or as the data set itself ships it.

    Two processes may call this at once; one converts, the other waits and uses the result. What is there is
    whole or not there at all.

    Args:
        name: a data set of the catalogue.
        split: one of its splits.
        root: its folder, or a folder that holds it; else ``SC_DATA_ROOT``.
        num_proc: processes; by default all cores where there are thousands of pairs.
        force: convert again even if it was done.
        progress: called with (pairs done, pairs in all).
        config: "pairs", or for SC-ImageNet also "images".
        options: fields of ``sources.Options``.

    Raises:
        InputError: data missing (the message says how to get it), or a file or pair that cannot be used.
    """
    source = open_source(name, root, _options(options))
    return convert_source(source, split, config, num_proc, force, progress)


def convert_source(
    source: Source,
    split: str,
    config: str = "pairs",
    num_proc: int | None = None,
    force: bool = False,
    progress: Progress | None = None,
) -> Record:
    """As ``convert``, for an opened source."""
    if split not in info(source.name).splits:
        raise unknown_name(f"split of {source.name}", split, info(source.name).splits)
    shipped = getattr(source, "shards", None)
    if shipped is not None and shipped(config, split):
        return _shipped_record(source, config, split, force)
    if config == "images":
        pairs = convert_source(source, split, "pairs", num_proc, force, progress)
        return _cached(_key(pairs.content_sha256), source.name, config, split, force, _images(source, pairs))
    with watched(source.root):
        reason = source.missing(split)
    if reason is not None:
        raise InputError(f"'{split}' of {info(source.name).title} cannot be read: {reason}", fix=_how(source.name))
    with watched(source.root):
        key = lookup_key(source, split)
    return _cached(key, source.name, config, split, force, _pairs(source, split, num_proc, progress))


def lookup_key(source: Source, split: str) -> str:
    """What a conversion is found again by; opens the split lists and stats some folders, nothing else."""
    hashed, dated = source.fingerprint(split)
    images = source.image_root()
    content = {
        "reader": [source.name, source.version, shards.FORMAT],
        "options": asdict(source.options),
        "lists": [[path.name, sha256_of(path)] for path in hashed],
        "dates": [[path.name, path.stat().st_mtime_ns] for path in dated if path.exists()],
        "images": str(images) if images is not None and source.options.imagenet_dir else images is not None,
    }
    return _key(json.dumps(content, sort_keys=True))


def available_splits(source: Source) -> dict[str, str | None]:
    """Every split of a data set with the reason why it cannot be read from this root, None if it can."""
    return {split: source.missing(split) for split in info(source.name).splits}


def _options(options: dict[str, Any]) -> Options:
    unknown = sorted(set(options) - set(Options.__dataclass_fields__))
    if unknown:
        raise unknown_name("option", unknown[0], ["root", *Options.__dataclass_fields__])
    return Options(**{name: None if value is None else str(value) for name, value in options.items()})  # type: ignore[arg-type]


def _how(name: str) -> str:
    name = canonical(name)
    return f"'scbench data download {name}' gets it, or says how; 'scbench data info {name}' tells more."


def _key(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:24]


def _shipped_record(source: Source, config: str, split: str, force: bool) -> Record:
    """The record of Parquet that the root itself holds; made in the cache where it came without one."""
    folder = source.root / config
    record = shards.read_record(folder, split)
    if record is not None and not force:
        return record
    stats = [[p.name, p.stat().st_size, p.stat().st_mtime_ns] for p in sorted(folder.glob(f"{split}-*.parquet"))]
    key = _key(json.dumps([str(folder.resolve()), stats]))
    home = cache_folder() / "records" / f"{source.name}-{split}-{key}.json"
    known = shards.load_record(home, folder) if home.exists() and not force else None
    if known is not None:
        return known
    record = shards.scan(folder, source.name, config, split)
    shards.save_record(record, home)
    return record


Writer = Callable[[Path], int]  # writes shards into a folder; returns how many points lie outside


def _cached(key: str, name: str, config: str, split: str, force: bool, write: Writer) -> Record:
    """The record of a converted split, written into the cache by ``write`` if it is not there."""
    folder = cache_folder() / "converted" / name / f"{split}-{config}-{key}"
    record = None if force else shards.read_record(folder, split)
    if record is not None:
        return record
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with _alone(folder.with_suffix(".lock"), f"{name}:{split}"):
            record = None if force else shards.read_record(folder, split)
            if record is not None:  # another process converted it while this one waited
                return record
            for stale in folder.parent.glob(f".{folder.name}.*.tmp"):
                shutil.rmtree(stale, ignore_errors=True)  # left by a process that was killed
            temporary = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", suffix=".tmp", dir=folder.parent))
            try:
                outside = write(temporary)
                shards.make_record(temporary, name, config, split, outside)
                if folder.exists():
                    shutil.rmtree(folder)
                os.replace(temporary, folder)
            finally:
                shutil.rmtree(temporary, ignore_errors=True)
    except OSError as error:
        raise InputError(
            f"cannot be written ({error.strerror or error})", where=folder, fix="Nothing was lost; run again."
        ) from error
    record = shards.read_record(folder, split)
    assert record is not None
    return record


@contextmanager
def _alone(path: Path, what: str) -> Iterator[None]:
    lock = FileLock(path)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        logger.warning("%s is being converted by another process: waiting for it", what)
        lock.acquire()
    try:
        yield
    finally:
        lock.release()


def _pairs(source: Source, split: str, num_proc: int | None, progress: Progress | None) -> Writer:
    def write(folder: Path) -> int:
        entries = source.entries(split)
        if not entries:
            raise InputError(f"'{split}' of {info(source.name).title} has no pairs here", where=source.root)
        check_unique(entries, f"{source.name} {split}")
        for entry in entries:
            check_entry(entry, f"{source.name} {split}")
        categories = source.categories()
        root = source.image_root()
        sizes: dict[str, Size | str] = {}
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
        return outside

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
        sizes: dict[str, Size | str],
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
            known_size(entry, image, work.root, work.sizes) if work.root is not None else None
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
            }
        )
    name = shards.shard_name(work.split, start // work.step, work.count)
    shards.write_shard(work.folder / name, rows, work.schema)
    return len(rows), outside


def _images(source: Source, pairs: Record) -> Writer:
    """The listing of the distinct images of a split's pairs, in the order of their paths."""

    def write(folder: Path) -> int:
        found: dict[str, tuple[int, Any]] = {}
        for path, category, size in _image_columns(pairs):
            found[path] = (category, size)
        names = sorted(found)
        step = shards.shard_rows(len(names))
        count = -(-len(names) // step)
        schema = shards.features_of("images", pairs.categories).arrow_schema
        for index in range(count):
            rows = [
                {
                    "image_id": Path(name).stem,
                    "dataset": source.name,
                    "category": found[name][0],
                    "image": {"bytes": None, "path": name},
                    "size": found[name][1],
                }
                for name in names[index * step : (index + 1) * step]
            ]
            shards.write_shard(folder / shards.shard_name(pairs.split, index, count), rows, schema)
        return 0

    return write


def _image_columns(pairs: Record) -> Iterator[tuple[str, int, Any]]:
    schema = pair_features(pairs.categories).arrow_schema
    for path in pairs.files:
        for table in shards.read_batches(shards.open_parquet(path), schema, path):
            category = table["category"].to_pylist()
            for side in ("source", "target"):
                images, sizes = table[side].to_pylist(), table[f"{side}_size"].to_pylist()
                yield from ((image["path"], number, size) for image, number, size in zip(images, category, sizes))
