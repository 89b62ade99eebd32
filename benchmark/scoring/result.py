"""result.json: what a run did and what it measured, one versioned file a run."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Any

from baselines.protocol import PublishedProtocol
from sc_imagenet.core.errors import InputError, check_name
from sc_imagenet.core.files import read_json, write_json
from sc_imagenet.data.catalog import catalog

RESULT_VERSION = 1
_LARGEST = 1e18  # of any number of a result
RESULT_FILE = "result.json"
ADDED_ENTRIES = {
    "arguments",
    "trained_on",
    "trained_with",
    "backbone_weights",
    "pretrain_recipe",
    "protocol",
    "files",
}  # entries that the first results of this version do not have

MetricTable = dict[str, dict[str, dict[str, float]]]  # data: metric: value, low, high in percent
PerCategory = dict[str, dict[str, dict[str, float]]]  # data: metric: category: value in percent


@dataclass(frozen=True)
class EvaluatedData:
    """A split that a run was evaluated on."""

    name: str  # hyphenated
    split: str
    manifest_sha256: str
    pairs: int
    form: str | None = None  # the data set of the catalogue that a generated one is like
    published: int | None = None  # pairs that the split has as published; None where no number is
    without_box: int = 0  # of the pairs: those whose points lie in one place, which bbox-kp leaves out
    mark: str = ""  # the beginning of the manifest where the run saw another set of this name before, else ""

    @property
    def counted(self) -> str:
        """How many pairs of how many: ``12 of 12,234 pairs``."""
        return count_of_pairs(self.pairs, self.published, self.without_box)

    @property
    def scored_as(self) -> str:
        """The data set of the catalogue whose protocol these pairs are scored under."""
        return self.form or self.name

    @property
    def key(self) -> str:
        """How metrics name it: ``spair-71k``, or with its split where that is not the test split.

        >>> EvaluatedData("toy", "validation", "", 10).key
        'toy:validation'
        """
        return data_key(self.name, self.split, self.mark)


@dataclass(frozen=True)
class Result:
    """Everything a report needs to know of a run."""

    run: str  # run id
    model: str  # the registry's name
    title: str  # as the paper's tables print it
    supervision: str  # of the model: "none", "weak", "keypoints", "semi"
    backbone: str
    pretrain: str | None  # data set it was pre-trained on, None for none
    finetune: str | None
    preset: str  # of the recipe
    recipe: Mapping[str, Any]
    seed: int
    direction: str
    size: int  # side of the model's frame
    data: tuple[EvaluatedData, ...]
    metrics: MetricTable
    per_category: PerCategory
    seconds: float  # of training, all stages
    checkpoint: str | None = None  # of weights that were loaded instead of trained: file name, or OWNER/NAME of the Hub
    weights_sha256: str | None = None
    peak_memory: int | None = None  # bytes
    changes: tuple[str, ...] = field(default=())  # what departs from the preset: "--limit 100", "recipe.lr=0.1"
    arguments: Mapping[str, Any] = field(default_factory=dict)  # of the model's constructor; {} in older results
    trained_on: str | None = None  # what loaded weights say of themselves, None if they say nothing
    protocol: PublishedProtocol | None = None  # how the model is scored in its paper; None in older results
    files: Mapping[str, str] = field(default_factory=dict)  # SHA-256 of others' files: model, data
    trained_with: Mapping[str, Any] = field(default_factory=dict)  # what they say of their training; {} if nothing
    backbone_weights: str | None = None  # "timm", "ibot", "file" or "random"; None where it is not known
    pretrain_recipe: Mapping[str, Any] = field(default_factory=dict)  # of the first of two trainings

    @property
    def trained(self) -> bool:
        """Whether any weights beyond the backbone's were learnt or loaded."""
        return bool(self.pretrain or self.finetune or self.checkpoint)


def data_key(name: str, split: str, mark: str = "") -> str:
    """The key of a split among a run's metrics; the test split goes by the data set's name alone.

    >>> data_key("my-set", "validation", "1a2b3c4d")
    'my-set:validation@1a2b3c4d'
    """
    return (name if split == "test" else f"{name}:{split}") + (f"@{mark}" if mark else "")


def published_pairs(name: str, split: str, form: str | None = None) -> int | None:
    """How many pairs a split has as published; None where no number is, or the set is a generated one.

    >>> published_pairs("spair-71k", "test"), published_pairs("my-set", "test", "sc-imagenet")
    (12234, None)
    """
    entry = catalog().get(name) if form is None else None
    return None if entry is None else entry.pairs.get(split)


def count_of_pairs(pairs: int, published: int | None, without_box: int = 0) -> str:
    """How many pairs of how many, and how many of them bbox-kp leaves out.

    >>> count_of_pairs(35, 12_234), count_of_pairs(12_234, 12_234), count_of_pairs(4, None, 1)
    ('35 of 12,234 pairs', '12,234 pairs', '4 pairs, 1 of them without bbox-kp')
    """
    of = f" of {published:,}" if published is not None and pairs < published else ""
    return f"{pairs:,}{of} pairs" + (f", {without_box:,} of them without bbox-kp" if without_box else "")


def write_result(path: Path | str, result: Result) -> None:
    """Write a run's result, atomically; ``path`` is the file or the run's folder."""
    write_json(_file(path), {"version": RESULT_VERSION, **asdict(result)})


def read_result(path: Path | str) -> Result:
    """Read a run's result; ``path`` is the file or the run's folder.

    Raises:
        InputError: missing, damaged, or of an older or newer version.
    """
    file = _file(path)
    content = read_json(file)
    version = content.pop("version", None) if isinstance(content, dict) else None
    if not isinstance(version, int):
        raise InputError("is not the result of a run", where=file)
    if version != RESULT_VERSION:
        version = max(-1, min(version, 1 << 31))  # a damaged one may have thousands of digits
        older = version < RESULT_VERSION
        fix = "Run again: its predictions and weights are kept." if older else "Update sc-imagenet."
        raise InputError(f"is version {version} of results, this is {RESULT_VERSION}", where=file, fix=fix)
    known = {entry.name for entry in fields(Result)}
    if wrong_names := (set(content) - known) | (known - set(content) - ADDED_ENTRIES):
        wrong = ", ".join(sorted(wrong_names))
        raise InputError(f"has missing or unknown entries: {wrong}", where=file)
    try:
        _check_kinds(content)
        _check_texts(content, file)
        content["data"] = tuple(_evaluated(entry) for entry in content["data"])
        content["changes"] = tuple(content["changes"])
        if content.get("protocol") is not None:
            content["protocol"] = PublishedProtocol.read(content["protocol"], file)
        _check_scores(content["metrics"], {"value", "low", "high"})
        _check_scores(content["per_category"], None)
    except (TypeError, AttributeError, KeyError, OverflowError, RecursionError) as error:
        raise InputError(f"has an entry of another kind ({error})", where=file) from error
    return Result(**content)


def _evaluated(entry: Mapping[str, Any]) -> EvaluatedData:
    data = EvaluatedData(**entry)
    if "published" in entry:
        return data
    return replace(data, published=published_pairs(data.name, data.split, data.form))  # older results do not say it


def _check_kinds(content: Mapping[str, Any]) -> None:
    """What a report prints, sums or sorts must be of its kind."""
    kinds: dict[str, tuple[type, ...]] = {
        **dict.fromkeys(("run", "model", "title", "supervision", "backbone", "preset", "direction"), (str,)),
        **dict.fromkeys(("pretrain", "finetune", "checkpoint", "weights_sha256", "trained_on"), (str, type(None))),
        "backbone_weights": (str, type(None)),
        **dict.fromkeys(("trained_with", "pretrain_recipe"), (dict,)),
        **dict.fromkeys(("seed", "size"), (int,)),
        **{
            "seconds": (int, float),
            "peak_memory": (int, type(None)),
            "recipe": (dict,),
            "arguments": (dict,),
            "files": (dict,),
            "changes": (list,),
        },
    }
    wrong = [name for name, valid in kinds.items() if name in content and not isinstance(content[name], valid)]
    wrong += ["changes"] if not all(isinstance(change, str) for change in content["changes"]) else []
    numbers = [name for name in ("seed", "size", "peak_memory", "seconds") if name not in wrong]
    wrong += [name for name in numbers if not 0 <= (content[name] or 0) < _LARGEST]  # nor is NaN
    if wrong:
        raise TypeError(f"{wrong[0]} is {content[wrong[0]]!r:.80}")
    json.dumps(
        [content.get(name) for name in ("recipe", "arguments", "trained_with", "pretrain_recipe")]
    )  # so nested that it cannot be written: cannot be shown
    if content["direction"] not in ("forward", "backward"):
        raise TypeError(f"direction is {content['direction']!r}")
    for data in content["data"]:
        texts = (data["split"], data["name"], data["manifest_sha256"], data.get("form") or "", data.get("mark", ""))
        if not (all(isinstance(text, str) for text in texts) and type(data["pairs"]) is int):
            raise TypeError(f"data is {data!r:.80}")
        for count in (data["pairs"], data.get("published") or 0, data.get("without_box", 0)):
            if type(count) is not int or not 0 <= count < _LARGEST:
                raise TypeError(f"a number of pairs is {count!r:.80}")


def _check_texts(value: Any, where: Path) -> None:
    """Every text of a result may be printed, and so may hold no control characters."""
    if isinstance(value, str) and value:
        check_name("text", value, where)
    elif isinstance(value, Mapping):
        for key, inside in value.items():
            _check_texts(key, where)
            _check_texts(inside, where)
    elif isinstance(value, (list, tuple)):
        for inside in value:
            _check_texts(inside, where)


def _check_scores(table: Mapping[str, Mapping[str, Mapping[str, float]]], keys: set[str] | None) -> None:
    for metrics in table.values():
        for scores in metrics.values():
            if keys is not None and set(scores) != keys:
                raise TypeError(f"a score has {', '.join(scores)}")
            for value in scores.values():
                if not isinstance(value, (int, float)) or not abs(value) < _LARGEST:  # NaN is not less either
                    raise TypeError(f"a score is {value!r:.80}")


def _file(path: Path | str) -> Path:
    path = Path(path)
    return path / RESULT_FILE if path.suffix != ".json" else path
