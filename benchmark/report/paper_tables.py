"""The paper's tables as data, and what a run must be to reproduce one of their cells."""

from __future__ import annotations

import csv
from dataclasses import dataclass
from importlib.resources import files

from benchmark.pck import Metric
from benchmark.protocols import paper, published
from benchmark.result import Result
from sc_imagenet.catalog import info

# Models of this repository by the name that the tables give them.
MODELS = {
    "NC-Net": "ncnet",
    "DHPF": "dhpf",
    "CATs": "cats",
    "TransforMatcher": "transformatcher",
    "VAT": "vat",
    "CATs+SemiMatch": "semimatch",
    "SCorrSAN": "scorrsan",
}
BACKBONE = "resnet101"  # of every row of Tables 2 and 3

NOTES = (
    "CATs + SC-ImageNet on SPair-71k is 54.6 in Table 2 and 54.5 in Table 3 of the paper.",
    "VAT on SPair-71k is 55.5 in the paper; VAT's own code release says 54.2.",
    "NC-Net's PF-WILLOW row fits no released script; its threshold is presumably bbox-padded.",
    "The PF-WILLOW columns use the authors' padded threshold (d is the largest coordinate, about 10 points "
    "kinder at 0.10 than the box around the points); a run's bbox-kp value stands with the other runs.",
    "PF-PASCAL leaks: 95 of its 299 test pairs are also training pairs; pf-pascal:test_clean leaves them out.",
)


@dataclass(frozen=True)
class Column:
    """A column of figures: a data set's PCK, of all pairs or of one category."""

    dataset: str
    alpha: float
    category: str | None = None

    @property
    def finetune(self) -> str:
        """The data set that the models of this column are fine-tuned on; PF-WILLOW has no training split."""
        return "spair-71k" if self.dataset == "spair-71k" else "pf-pascal"


@dataclass(frozen=True)
class Row:
    """A method's row; ``values`` has None where the paper has none."""

    method: str  # as printed
    pretrain: str | None
    supervision: str  # "none", "self", "weak", "keypoints", "semi"; "" where the table does not say
    values: tuple[float | None, ...]

    @property
    def title(self) -> str:
        """The method without its bracketed supervision."""
        return self.method.split(" (")[0]


@dataclass(frozen=True)
class PaperTable:
    """One table of the paper."""

    number: int
    title: str
    columns: tuple[Column, ...]
    rows: tuple[Row, ...]


def table_2() -> PaperTable:
    """PCK of all methods on PF-PASCAL, PF-WILLOW and SPair-71k."""
    lines = _lines("table2_benchmarks.csv")
    names = [name for name in lines[0] if "@" in name]
    columns = tuple(
        Column(dataset.replace("_", "-"), float(alpha)) for dataset, alpha in (name.split("@") for name in names)
    )
    rows = tuple(
        Row(line["method"], line["pretrain"] or None, _supervision(line), _values(line, names)) for line in lines
    )
    return PaperTable(2, "PF-PASCAL, PF-WILLOW and SPair-71k", columns, rows)


def table_3() -> PaperTable:
    """PCK@0.1 on SPair-71k by category."""
    lines = _lines("table3_spair_per_class.csv")
    names = [name for name in lines[0] if name not in ("method", "pretrain")]
    columns = tuple(Column("spair-71k", 0.1, None if name == "all" else name) for name in names)
    rows = tuple(Row(line["method"], line["pretrain"] or None, "", _values(line, names)) for line in lines)
    return PaperTable(3, "SPair-71k by category, PCK@0.10", columns, rows)


def metric_of(column: Column, result: Result) -> Metric:
    """The protocol that the paper's figures of this column and model were taken under."""
    return next(metric for metric in paper(column.dataset, result.model, result.size) if metric.alpha == column.alpha)


def reproduces(result: Result, row: Row, column: Column) -> bool:
    """Whether a run is what the paper did for this cell.

    Same model, pre-training, fine-tuning and backbone; the ``paper`` recipe unchanged; the whole test split,
    predicted in the authors' direction. Anything else stands among the runs only.
    """
    known = published(result.model)
    whole = info(column.dataset).pairs.get("test")
    return (
        result.title == row.title
        and result.pretrain == row.pretrain
        and result.finetune == (None if row.supervision == "none" else column.finetune)
        and ("(weak)" in row.method) == (result.title == "DHPF" and result.supervision == "weak")
        and result.checkpoint is None
        and result.preset == "paper"
        and not result.changes
        and result.backbone.split(".")[0] == BACKBONE
        and (known is None or known.direction == result.direction)
        and any(
            data.name == column.dataset and data.split == "test" and whole in (None, data.pairs) for data in result.data
        )
    )


def command_for(row: Row, column: Column, models: set[str]) -> str | None:
    """The command whose run would fill a cell; None when this repository has no such model."""
    model = MODELS.get(row.method)
    if model not in models:
        return None
    pretrain = f" --pretrain {row.pretrain}" if row.pretrain else ""
    evaluate = "pf-pascal,pf-willow" if column.finetune == "pf-pascal" else column.dataset
    return f"scbench run {model}{pretrain} --finetune {column.finetune} --eval {evaluate}"


def _lines(name: str) -> list[dict[str, str]]:
    text = (files("benchmark.report.paper") / name).read_text(encoding="utf-8")
    return list(csv.DictReader(text.splitlines()))


def _values(line: dict[str, str], names: list[str]) -> tuple[float | None, ...]:
    return tuple(float(line[name]) if line[name] else None for name in names)


def _supervision(line: dict[str, str]) -> str:
    """The rows pre-trained on SC-ImageNet keep their model's supervision, which the run states."""
    return "" if line["supervision"] == "pretrain+finetune" else line["supervision"]
