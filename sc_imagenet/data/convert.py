"""Converting a data set's annotations, once, to Parquet in the cache.

What was converted is found again by the content of the data set's lists, the version of its reader and the state of
every annotation and image (see ``files``). Of folders with more than ``MANY`` files, such as ImageNet's, only their own
times are looked at: a file edited in place there goes unseen until ``force=True``.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from sc_imagenet.core.errors import InputError, unknown_name
from sc_imagenet.core.files import cache_folder, read_json, sha256_of, state_of, states_below, write_json
from sc_imagenet.core.locks import watched
from sc_imagenet.core.plugins import origins
from sc_imagenet.data.catalog import canonical, info
from sc_imagenet.data.record import FORMAT, Record, load_record, read_record, save_record
from sc_imagenet.data.roots import open_source
from sc_imagenet.data.shard_writing import Progress, Writer, image_writer, pair_writer
from sc_imagenet.data.shards import make_record, scan_shards
from sc_imagenet.sources.source import Source, SourceOptions

logger = logging.getLogger(__name__)
FRAME = "upright"  # of points; what was converted before images were turned is converted again
MADE_OF = "made_of.json"  # beside converted shards: of which folder, and hashes of what it held
MANY = 100_000  # files; to ask for the states of more would take seconds whenever a data set is opened


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
        return _cached({"pairs": pairs.content_sha256}, source, config, split, force, image_writer(source, pairs))
    with watched(source.root):
        reason = source.missing(split)
    if reason is not None:
        raise InputError(f"'{split}' of {info(source.name).title} cannot be read: {reason}", fix=_how(source.name))
    with watched(source.root):
        parts = looked_up(source, split)
    return _cached(parts, source, config, split, force, pair_writer(source, split, num_proc, progress))


def looked_up(source: Source, split: str) -> dict[str, str]:
    """What a conversion is found again by, each part a hash; opens the split lists and asks for states of files."""
    hashed, looked_at = source.fingerprint(split)
    images = source.image_root()
    content = {
        "reader": [source.name, source.version, FORMAT, FRAME, *origins(type(source)).values()],
        "options": asdict(source.options),
        "lists": [[path.name, sha256_of(path)] for path in hashed],
        "annotations or images": [[path.name, _state(path)] for path in looked_at if path.exists()],
        "folder of images": str(images) if images is not None and source.options.imagenet_dir else images is not None,
    }
    return {name: _key(json.dumps(value, sort_keys=True)) for name, value in content.items()}


def _state(path: Path) -> Any:
    """The state of a file; of a folder those of all files below it, or where they are many its own."""
    return (states_below(path, MANY) if path.is_dir() else None) or state_of(path)


def available_splits(source: Source) -> dict[str, str | None]:
    """Every split of a data set with the reason why it cannot be read from this root, None if it can."""
    return {split: source.missing(split) for split in info(source.name).splits}


def why_none(reasons: Mapping[str, str]) -> str:
    """Why none of the splits can be read, in one line; a reason that several have is said once.

    >>> why_none({"train": "trn.txt is not there", "test": "test.txt is not there"})
    'train: trn.txt is not there; test: test.txt is not there'
    """
    by_reason: dict[str, list[str]] = {}
    for split, reason in reasons.items():
        by_reason.setdefault(reason, []).append(split)
    if len(by_reason) == 1:
        return next(iter(by_reason))
    return "; ".join(f"{', '.join(splits)}: {reason}" for reason, splits in by_reason.items())


def _options(options: dict[str, Any]) -> SourceOptions:
    unknown = sorted(set(options) - set(SourceOptions.__dataclass_fields__))
    if unknown:
        raise unknown_name("option", unknown[0], ["root", *SourceOptions.__dataclass_fields__])
    return SourceOptions(**{name: None if value is None else str(value) for name, value in options.items()})  # type: ignore[arg-type]


def _how(name: str) -> str:
    name = canonical(name)
    return f"'scbench data download {name}' gets it, or says how; 'scbench data info {name}' tells more."


def _key(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:24]


def _shipped_record(source: Source, config: str, split: str, force: bool) -> Record:
    """The record of Parquet that the root itself holds, read through once: a shard may be another than it was."""
    folder = source.root / config
    own = read_record(folder, split)
    states = [[path.name, state_of(path)] for path in sorted(folder.glob(f"{split}-*.parquet"))]
    key = _key(json.dumps([str(folder.resolve()), states]))
    home = cache_folder() / "records" / f"{source.name}-{split}-{key}.json"
    known = load_record(home, folder) if home.exists() and not force else None
    if known is not None:
        return known
    record = scan_shards(folder, source.name, config, split)
    if own is not None:
        record = replace(record, points_outside=own.points_outside)
        if own.content_sha256 != record.content_sha256:
            logger.warning("%s: its shards are not those that %s.json tells of: read as they are", folder, split)
    with suppress(InputError):  # where nothing may be written they are read through again the next time
        save_record(record, home)
    return record


def _cached(parts: dict[str, str], source: Source, config: str, split: str, force: bool, write: Writer) -> Record:
    """The record of a converted split, written into the cache by ``write`` if none was made of the same ``parts``."""
    name = source.name
    folder = cache_folder() / "converted" / name / f"{split}-{config}-{_key(json.dumps(parts, sort_keys=True))}"
    record = None if force else read_record(folder, split)
    if record is not None:
        return record
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with _alone(folder.with_suffix(".lock"), f"{name}:{split}"):
            record = None if force else read_record(folder, split)
            if record is not None:  # another process converted it while this one waited
                return record
            for stale in folder.parent.glob(f".{folder.name}.*.tmp"):
                shutil.rmtree(stale, ignore_errors=True)  # left by a process that was killed
            _say_why_again(folder.parent, f"{split}-{config}-*", source, split, parts)
            temporary = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", suffix=".tmp", dir=folder.parent))
            try:
                written = write(temporary)
                write_json(temporary / MADE_OF, {"root": str(source.root.absolute()), "parts": parts})
                make_record(temporary, name, config, split, written.outside, written.manifest)
                if folder.exists():
                    shutil.rmtree(folder)
                os.replace(temporary, folder)
            finally:
                shutil.rmtree(temporary, ignore_errors=True)
    except OSError as error:
        raise InputError(
            f"cannot be written ({error.strerror or error})", where=folder, fix="Nothing was lost; run again."
        ) from error
    record = read_record(folder, split)
    assert record is not None
    return record


def _say_why_again(folder: Path, kept: str, source: Source, split: str, parts: dict[str, str]) -> None:
    """Say what has changed since the same split of the same folder was converted last, if it was."""
    before = []
    for path in folder.glob(f"{kept}/{MADE_OF}"):
        with suppress(InputError):
            content = read_json(path)
            if isinstance(content, dict) and content.get("root") == str(source.root.absolute()):
                before.append((path.stat().st_mtime_ns, content.get("parts") or {}))
    if before:
        _, last = max(before, key=lambda each: each[0])
        changed = [name for name, value in parts.items() if last.get(name) != value]
        if changed:
            logger.warning("%s:%s is converted again: other %s", source.name, split, " and ".join(changed))


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
