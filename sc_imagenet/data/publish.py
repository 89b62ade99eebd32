"""A data set's annotations as a folder that may be published: Parquet without a single pixel, and a card."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path, PurePath
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from datasets import Image

from sc_imagenet.core.errors import InputError, unknown_name
from sc_imagenet.core.files import atomic_path, read_json, write_json
from sc_imagenet.core.hub import LIBRARY
from sc_imagenet.data.catalog import canonical, info
from sc_imagenet.data.convert import available_splits, convert_source
from sc_imagenet.data.imagenet import image_name
from sc_imagenet.data.parquet import with_plain_lists
from sc_imagenet.data.record import Record
from sc_imagenet.data.roots import open_source
from sc_imagenet.data.schema import GENERATED, pair_features, without_images
from sc_imagenet.data.shards import make_record, open_parquet, read_batches
from sc_imagenet.sources.source import DataSet

# Cards of data sets in the Hub's form: of what the catalogue knows, and of a copy that is published.

TASK = "keypoint-detection"  # the nearest of the Hub's own
CONFIG = "pairs"


def front_matter(entry: DataSet, pairs: Mapping[str, int], licence: str | None = None, files: bool = False) -> str:
    """The card's metadata, YAML without its dashes.

    Args:
        entry: of the catalogue.
        pairs: by split; {} where none are known.
        licence: the Hub's identifier; None: what the catalogue says.
        files: name the Parquet files of each split, for a card that lies beside them.
    """
    from huggingface_hub import DatasetCardData

    given: dict[str, Any] = {"license": licence} if licence else licence_of(entry)
    if files:
        given["configs"] = [data_files(list(pairs))]
    size = [size_category(sum(pairs.values()))] if pairs else None
    tags = ["semantic-correspondence", LIBRARY]
    data = DatasetCardData(pretty_name=entry.title, task_categories=[TASK], tags=tags, size_categories=size, **given)
    return data.to_yaml()


def licence_of(entry: DataSet) -> dict[str, str]:
    """The Hub's fields for the licence of a data set.

    >>> from sc_imagenet.data.catalog import info
    >>> licence_of(info("toy"))
    {'license': 'apache-2.0'}
    >>> licence_of(info("pf-willow"))
    {'license': 'unknown'}
    """
    own = entry.licence.partition(";")[0].lower()  # what follows is said of images, which no card is beside
    if own in ("apache-2.0", "cc0-1.0", "mit"):
        return {"license": own}
    if "none stated" in entry.licence:
        return {"license": "unknown"}
    return {"license": "other", "license_name": f"{entry.name}-terms", "license_link": entry.homepage}


def data_files(splits: Sequence[str]) -> dict[str, Any]:
    """Where the pairs of each split lie, as the Hub wants it told.

    >>> data_files(["train"])["data_files"]
    [{'split': 'train', 'path': 'pairs/train-*.parquet'}]
    """
    found = [{"split": split, "path": f"{CONFIG}/{split}-*.parquet"} for split in splits]
    return {"config_name": CONFIG, "data_files": found}


def size_category(pairs: int) -> str:
    """The Hub's name for so many rows.

    >>> size_category(999), size_category(1_000), size_category(4_536), size_category(794_612)
    ('n<1K', '1K<n<10K', '1K<n<10K', '100K<n<1M')
    """
    names = ("n<1K", "1K<n<10K", "10K<n<100K", "100K<n<1M", "1M<n<10M")
    return names[min(max(len(str(pairs)) - 3, 0), 4)]


def data_facts(entry: DataSet) -> str:
    """What the catalogue says of a data set, as a table."""
    lines = [
        ("paper", entry.paper),
        ("licence", entry.licence),
        ("homepage", entry.homepage or "this repository"),
        ("images", _number(entry.images)),
        ("classes", _number(entry.classes)),
        ("points of a pair", entry.points),
    ]
    return "\n".join(["| | |", "|---|---|", *(f"| {label} | {value} |" for label, value in lines)])


def splits_table(splits: Sequence[str], pairs: Mapping[str, int]) -> str:
    """Pairs by split, as a table."""
    rows = [f"| {split} | {f'{pairs[split]:,}' if split in pairs else 'not published'} |" for split in splits]
    return "\n".join(["| split | pairs |", "|---|---|", *rows])


def published_card(entry: DataSet, records: Mapping[str, Record], repo: str, licence: str | None) -> str:
    """The card of a copy that is published: annotations alone."""
    pairs = {split: record.rows for split, record in records.items()}
    manifests = "\n".join(f"- {split}: `{record.manifest_sha256}`" for split, record in records.items())
    return f"""---
{front_matter(entry, pairs, licence, files=True)}
---

# {entry.title}: annotations

Pairs of images with corresponding points, one row a pair, converted by {LIBRARY}. The images are not part of this
data set: `source` and `target` hold their paths, relative to the folder of images of {entry.title}.

{data_facts(entry)}

{splits_table(list(records), pairs)}

## Use

```python
import datasets

rows = datasets.load_dataset("{repo}", split="{next(iter(records))}")
print(rows[0]["source"]["path"], rows[0]["source_points"])
```

Points are (x, y) in pixels of the image file, 0-based, and only those visible in both images. A row with `mirrored`
asks for both images and their points to be mirrored before use.

The images, in {LIBRARY}'s own form: `scbench data info {entry.name}` says how to get them.

Manifests (SHA-256 of pairs and annotations), as results of {LIBRARY} quote them:

{manifests}
"""


def _number(count: int | None) -> str:
    return "not published" if count is None else f"{count:,}"


# A data set's annotations as a folder that may be published: Parquet without a single pixel, and a card.
#
# README.md                     the card
# pairs/<split>-*.parquet       columns of ``schema``; image columns are paths, decoded by nobody
# pairs/<split>.json            the record (see ``shards``)
# generation.json               of a generated set: how it was made

CARD = "README.md"


def prepare_data(
    what: str, out: Path, *, repo: str, root: Path | str | None = None, licence: str | None = None
) -> dict[str, Record]:
    """Write what may be published of a data set; the records by split.

    Args:
        what: NAME, NAME:SPLIT, or the folder of a generated set.
        out: the folder to write.
        repo: what the card says it is loaded from.
        root: where the data sets lie; else ``SC_DATA_ROOT``.
        licence: the Hub's identifier for the card; None: what the catalogue says.

    Raises:
        InputError: no such data set, nothing of it is here, or it holds pixels.
    """
    folder = Path(what).expanduser() if Path(what).expanduser().is_dir() and not _is_name(what) else None
    name, _, only = ("sc-imagenet", "", "") if folder else what.partition(":")
    source = open_source(name, folder or root)
    splits = available_splits(source)
    if only and only not in splits:
        raise unknown_name(f"split of {source.name}", only, splits)
    here = [split for split, reason in splits.items() if reason is None and only in ("", split)]
    if not here:
        raise InputError(f"no pairs to publish: {splits[only or next(iter(splits))]}", where=what)
    records = {}
    for split in here:
        records[split] = _write_split(convert_source(source, split), out, source.name)
    made = folder is not None and (folder / GENERATED).is_file() and (folder / CARD).is_file()
    if made and folder is not None:
        write_json(out / GENERATED, without_places(read_json(folder / GENERATED)))
        text = with_licence((folder / CARD).read_text(encoding="utf-8"), licence)
    else:
        text = published_card(info(source.name), records, repo, licence)
    with atomic_path(out / CARD) as temporary:
        temporary.write_text(text, encoding="utf-8")
    return records


def with_licence(card: str, licence: str | None) -> str:
    """A card that states another licence; all else stays.

    >>> print(with_licence("---\\nlicense: unknown\\n---\\nMine.", "cc0-1.0"))
    ---
    license: cc0-1.0
    ---
    Mine.
    """
    from huggingface_hub import DatasetCard

    if licence is None:
        return card
    changed = DatasetCard(card)
    changed.data["license"] = licence
    return str(changed)


def refuse_pixels(table: pa.Table, where: object) -> None:
    """See that no image column of a table of pairs holds anything but paths; ``shards.check_rows`` looks at those.

    Raises:
        InputError: it holds an image's bytes.
    """
    for column in ("source", "target", "image"):
        if column not in table.column_names:
            continue
        images = table[column].combine_chunks()
        paths = pc.struct_field(images, "path")
        embedded = pc.indices_nonzero(pc.is_valid(pc.struct_field(images, "bytes")))
        if len(embedded):
            row = embedded[0].as_py()
            path = paths[row].as_py() or ""
            wnid = info("sc-imagenet").name in table["dataset"].to_pylist() or image_name(path) is not None
            reason = "ImageNet's terms do not let its images be passed on" if wnid else "only annotations are published"
            raise InputError(
                f"row {row} holds the pixels of its {column} image {path}; {reason}",
                where=where,
                fix="Write image columns as {'path': ..., 'bytes': None}.",
            )


def refuse_imagenet(rows: Any) -> None:
    """See that a data set of ``datasets``, or a dict of them, names no image of ImageNet.

    Of one that streams the first row is looked at.

    Raises:
        InputError: it does; uploading it would embed the image.
    """
    for part in rows.values() if isinstance(rows, dict) else [rows]:
        for column, kind in (part.features or {}).items():
            if not isinstance(kind, Image):
                continue
            undecoded = part.select_columns([column]).cast_column(column, Image(decode=False))
            if hasattr(part, "data"):
                cells = (cell for batch in undecoded.with_format(None).iter(1_000) for cell in batch[column])
            else:
                cells = (row[column] for row in undecoded.take(1))
            found = next((cell["path"] for cell in cells if cell and image_name(cell["path"] or "")), None)
            if found is not None:
                raise InputError(
                    f"{found} is ImageNet's, whose terms do not let it be passed on, and push_to_hub would embed it",
                    fix="Give it embed_external_files=False, or use 'scbench push', which uploads annotations alone.",
                )


def without_places(content: Any) -> Any:
    """JSON with absolute paths cut down to the names of their files.

    >>> without_places({"network": "/home/me/my-set/work/network", "seed": 0})
    {'network': 'network', 'seed': 0}
    """
    if isinstance(content, Mapping):
        return {key: without_places(value) for key, value in content.items()}
    if isinstance(content, list):
        return [without_places(value) for value in content]
    return PurePath(content).name if isinstance(content, str) and PurePath(content).is_absolute() else content


def _write_split(record: Record, out: Path, dataset: str) -> Record:
    features = pair_features(record.categories)
    schema, stored = features.arrow_schema, without_images(features).arrow_schema
    for file in record.files:
        tables = list(read_batches(open_parquet(file), schema, file))
        for table in tables:
            refuse_pixels(table, file)
        with atomic_path(out / CONFIG / file.name) as temporary:
            whole = pa.concat_tables(tables).replace_schema_metadata(stored.metadata)
            pq.write_table(with_plain_lists(whole), temporary, row_group_size=2_048)
    return make_record(out / CONFIG, dataset, CONFIG, record.split, record.points_outside)


def _is_name(what: str) -> bool:
    try:
        canonical(what.partition(":")[0])
    except InputError:
        return False
    return True
