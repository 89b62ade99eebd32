"""Cards of data sets in the Hub's form: of what the catalogue knows, and of a copy that is published."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from sc_imagenet.core.hub import LIBRARY
from sc_imagenet.data.catalog import DataSet
from sc_imagenet.data.record import Record

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


def facts_table(entry: DataSet) -> str:
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

{facts_table(entry)}

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
