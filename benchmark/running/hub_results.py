"""What makes a folder of submissions a data set repository of the Hub: tables of scores, a card that names the files.

The card's front matter has a config for each data set, its splits those that were submitted to, and ``scores``, which
holds a row for each score of each submission. What else a ``README.md`` that is there already says stays as it is.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from sc_imagenet.core.errors import InputError, is_file_name
from sc_imagenet.core.files import atomic_path, read_text
from sc_imagenet.core.hub import LIBRARY
from sc_imagenet.data.parquet import parquet_file

CARD = "README.md"
SCORES = "scores.parquet"
SPLIT = "submitted"  # of the config of scores
ABOUT = ("method", "model", "supervision", "backbone", "licence", "run")
SCORE_SCHEMA = pa.schema(
    [
        *((name, pa.string()) for name in ("data_set", "split", "submission", *ABOUT)),
        ("trained_on", pa.list_(pa.string())),
        ("pairs", pa.int64()),
        ("protocol", pa.string()),  # name@version
        ("score", pa.string()),  # such as pck@0.1/image
        *((name, pa.float64()) for name in ("value", "low", "high")),  # percent, its 95 % interval; null: none
    ]
)
TEXT = """
# Semantic correspondence: submitted results

Predictions of keypoint transfer, and the scores that anybody can compute from them. Each submission is a folder,
`<data set>/<split>/<key>`, named by its content:

    predictions.parquet   every pair of the split with its predicted points, in original pixels
    passport.json         its scores, each with the protocol and its version, and hashes of pairs and predictions
    submission.json       what made them: method, model, supervision, backbone, training data, licence
    scores.parquet        the scores and what made them once more, a row each

`datasets` reads all scores, all predictions of a data set's split, and those of one submission:

```python
from datasets import load_dataset

load_dataset("results", "scores", split="submitted")
load_dataset("results", "spair-71k", split="test")
load_dataset("results", data_files="spair-71k/test/KEY/predictions.parquet")
```

`scbench submit RUN results` adds to them, `scbench board verify results` scores all of them again and refuses what was
changed, `scbench report --board --results results` shows those that hold. The folder is pushed with
`hf upload OWNER/NAME results --repo-type dataset`, or as a Git repository.
"""


def score_table(place: Path, about: Mapping[str, Any], passport: Mapping[str, Any]) -> pa.Table:
    """The scores of a submission in the columns of ``SCORE_SCHEMA``.

    Args:
        place: its folder, ``<data set>/<split>/<key>``.
        about: what its ``submission.json`` says.
        passport: its passport.

    Raises:
        KeyError, TypeError, ValueError, AttributeError: they are of another form.
    """
    common = {
        **dict(zip(("data_set", "split", "submission"), place.parts[-3:])),
        **{name: about[name] for name in (*ABOUT, "trained_on")},
        "pairs": passport["pairs"],
    }
    rows = [
        {**common, "protocol": protocol, "score": name, **{end: each[end] for end in ("value", "low", "high")}}
        for protocol, scores in passport["scores"].items()
        for name, each in scores.items()
    ]
    return pa.Table.from_pylist(rows, schema=SCORE_SCHEMA)


def write_scores(folder: Path, place: Path, about: Mapping[str, Any], passport: Mapping[str, Any]) -> None:
    """Write the table of a submission's scores into a folder that is going to be at ``place``."""
    pq.write_table(score_table(place, about, passport), folder / SCORES)


def same_scores(place: Path, about: Mapping[str, Any], passport: Mapping[str, Any]) -> bool:
    """Whether the table of scores says what the passport and ``submission.json`` beside it say.

    Raises:
        InputError: it is no readable Parquet file.
    """
    path = place / SCORES
    expected = score_table(place, about, passport)
    parquet = parquet_file(path)
    if not parquet.schema_arrow.equals(SCORE_SCHEMA) or parquet.metadata.num_rows != len(expected):
        return False
    try:
        found = parquet.read()
    except Exception as error:  # a decoder given malformed bytes may raise anything at all
        raise InputError(f"is not a readable Parquet file ({str(error)[:200]})", where=path) from error
    return bool(found.equals(expected))


def write_card(folder: Path) -> Path:
    """Write, or bring up to date, the card of a folder of submissions; two at once end with one that has both.

    Raises:
        InputError: the front matter of its ``README.md`` cannot be read.
    """
    path = folder / CARD
    while not path.exists() or read_text(path) != card_of(folder):  # another may submit in the meantime
        text = card_of(folder)
        with atomic_path(path) as temporary:
            temporary.write_text(text, encoding="utf-8")
    return path


def card_of(folder: Path) -> str:
    """The card as it should be: what is there, its configs those of the folders beside it."""
    import yaml

    path = folder / CARD
    given, text = _parts(path) if path.exists() else (_about(), TEXT)
    front = yaml.safe_dump({**given, **_configs(folder)}, sort_keys=False, allow_unicode=True)
    return f"---\n{front}---\n{text}"


def _parts(path: Path) -> tuple[dict[str, Any], str]:
    """The front matter of a card, and the text after it."""
    import yaml

    whole = read_text(path).replace("\r\n", "\n")
    if not whole.startswith("---\n"):
        return _about(), f"\n{whole}"
    front, closed, text = whole[len("---\n") :].partition("\n---\n")
    try:
        found = yaml.safe_load(front) or {}
    except (yaml.YAMLError, RecursionError) as error:
        raise InputError(f"has front matter that is no YAML ({error})", where=path) from error
    if not closed or not isinstance(found, dict):
        raise InputError("has front matter that is not closed or no mapping", where=path, fix="Mend or remove it.")
    return found, text


def _about() -> dict[str, Any]:
    return {
        "pretty_name": "Semantic correspondence: submitted results",
        "task_categories": ["keypoint-detection"],
        "tags": ["semantic-correspondence", LIBRARY],
    }


def _configs(folder: Path) -> dict[str, Any]:
    """What the Hub's front matter says of the files."""
    found: dict[str, list[str]] = {}
    for split in sorted(path for path in folder.glob("*/*") if path.is_dir()):
        named = all(is_file_name(name) for name in (split.parent.name, split.name))
        if named and next(split.glob("*/predictions.parquet"), None) is not None:
            found.setdefault(split.parent.name, []).append(split.name)
    configs: list[dict[str, Any]] = [
        {
            "config_name": name,
            "data_files": [{"split": split, "path": f"{name}/{split}/*/predictions.parquet"} for split in splits],
        }
        for name, splits in found.items()
    ]
    scores = {"split": SPLIT, "path": f"*/*/*/{SCORES}"}
    first = {"config_name": "scores", "default": True, "data_files": [scores]}
    return {"configs": [first, *configs]}
