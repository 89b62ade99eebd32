"""The record of a split in Parquet: what is known of it without opening it, one JSON file beside its shards."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

from sc_imagenet.core.errors import InputError, check_inside, check_names
from sc_imagenet.core.files import read_json, write_json

FORMAT = 1


@dataclass(frozen=True)
class Shard:
    """One Parquet file of a split."""

    file: str
    rows: int
    bytes: int


@dataclass(frozen=True)
class Record:
    """What is known of a split in Parquet without opening it.

    ``manifest_sha256`` identifies the pairs and their annotations: the same on every machine, whether the
    images are at hand or not and however the rows are cut into files. ``content_sha256`` also covers image
    paths and sizes.
    """

    dataset: str
    config: str
    split: str
    rows: int
    images: int
    points: int
    points_outside: int
    categories: tuple[str, ...]
    manifest_sha256: str
    content_sha256: str
    shards: tuple[Shard, ...]
    folder: Path = field(compare=False)
    format: int = FORMAT

    @property
    def files(self) -> list[Path]:
        """The Parquet files, in order."""
        return [self.folder / shard.file for shard in self.shards]


def save_record(record: Record, path: Path) -> None:
    """Write a record as JSON."""
    content = asdict(record)
    del content["folder"]
    write_json(path, content)


def read_record(folder: Path, split: str) -> Record | None:
    """The record beside a split's shards, or None if there is none of today's format."""
    path = folder / f"{split}.json"
    return load_record(path, folder) if path.exists() else None


def load_record(path: Path, folder: Path) -> Record | None:
    """Read a record of the shards in ``folder``; None if it is of another format.

    Raises:
        InputError: it is damaged, or a shard it names is missing or not of the size written then.
    """
    content = read_json(path)
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        return None
    try:
        shards = tuple(Shard(**shard) for shard in content.pop("shards"))
        content["categories"] = tuple(content["categories"])
        record = Record(**content, folder=folder, shards=shards)
        _check_record(record, path)
    except (KeyError, TypeError) as error:
        raise InputError(f"is not a record of Parquet shards ({error})", where=path) from error
    for shard, file in zip(shards, record.files):
        size = file.stat().st_size if file.exists() else None
        if size != shard.bytes:
            state = "is missing" if size is None else f"has {size:,} bytes, {shard.bytes:,} were written"
            raise InputError(
                f"{state}; {path.name} names it",
                where=file,
                fix="Get the file again, or convert again with force (scbench data convert NAME --force).",
            )
    return record


def _check_record(record: Record, path: Path) -> None:
    """A record may come with a stranger's data set: its numbers are numbers, its files lie beside it."""
    texts = (record.dataset, record.config, record.split, record.manifest_sha256, record.content_sha256)
    numbers = (record.rows, record.images, record.points, record.points_outside)
    sizes = [number for shard in record.shards for number in (shard.rows, shard.bytes)]
    if not all(type(number) is int and 0 <= number < 1 << 63 for number in (*numbers, *sizes)):
        raise TypeError("a count is not a number")
    check_names("text", texts, path)
    check_categories(record.categories, path)
    for shard in record.shards:
        if "/" in check_inside(shard.file, path):
            raise InputError(f"names a shard in another folder, {shard.file[:100]!r}", where=path)


def check_categories(names: Sequence[object], where: object) -> None:
    """Raise InputError unless class names can be printed and are different from one another."""
    check_names("class", names, where)
    if not names or len(set(names)) < len(names):
        raise InputError("has no classes, or one of them twice", where=where)
