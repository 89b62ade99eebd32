"""The paper's tables as data: rows, columns, printed figures, and what each row was trained on and switched."""

from __future__ import annotations

import csv
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib.resources import files

from sc_imagenet.data.catalog import info
from sc_imagenet.generation.classes import FILTERED_IMAGENET

# Names in this repository of the methods as the tables print them.
MODELS = {
    "ProposalFlow": "proposalflow",
    "CNNGeo": "cnngeo",
    "A2Net": "a2net",
    "Weakalign": "weakalign",
    "NC-Net": "ncnet",
    "DHPF (weak)": "dhpf-weak",
    "DHPF": "dhpf",
    "CATs": "cats",
    "TransforMatcher": "transformatcher",
    "VAT": "vat",
    "CATs+SemiMatch": "semimatch",
    "SCorrSAN": "scorrsan",
}
# What models are pre-trained and trained on that do not simply learn of the pairs of a column's data set.
TRAINING: Mapping[str, tuple[str | None, str | None]] = {
    "proposalflow": (None, None),
    "cnngeo": (None, "synthetic:{data}"),
    "a2net": (None, "synthetic:{data}"),
    "weakalign": ("synthetic:{data}", "{data}"),
}
GENERATOR = "cascade"
BACKBONE = "resnet101"  # of every row of Tables 2 and 3
IBOT = "ibot.pth"  # in commands: iBOT's released teacher of ViT-B/16
GENERATOR_BACKBONE = "vit_base_patch16_224"  # Table 1 on: iBOT's ViT-B/16

# Arguments of the generator that Tables 4 and 5 switch, as the full procedure has them.
FULL_PROCEDURE: Mapping[str, object] = {
    "network.saliency": True,
    "network.hough": True,
    "network.hough_length": 5,
    "network.shared_attention": False,
    "network.stages": "pixel",
    "size": 512,
}
TABLE_4: Mapping[str, Mapping[str, object]] = {
    "(I)": {},
    "(II)": {"network.saliency": False},
    "(III)": {"network.hough": False},
    "(IV)": {"network.hough_length": 3},
    "(V)": {"network.hough_length": 5},
    "(VI)": {"network.hough_length": 7},
    "(VII)": {"network.shared_attention": True},
}
TABLE_5: Mapping[str, Mapping[str, object]] = {
    "(I)": {},
    "(II)": {"size": 256},
    "(III)": {"size": 384},
    "(IV)": {"size": 512},
    "(V)": {"network.stages": "region"},
    "(VI)": {"network.stages": "image"},
}

NOTES = (
    "CATs + SC-ImageNet on SPair-71k is 54.6 in Table 2 and 54.5 in Table 3 of the paper.",
    "VAT on SPair-71k is 55.5 in the paper; VAT's own code release says 54.2.",
    "NC-Net's PF-WILLOW row fits no released script; its threshold is presumably bbox-padded.",
    "The PF-WILLOW columns use the authors' padded threshold (d is the largest coordinate, about 10 points "
    "kinder at 0.10 than the box around the points); a run's bbox-kp value stands with the other runs.",
    "PF-PASCAL leaks: 95 of its 299 test pairs are also training pairs; pf-pascal:test_clean leaves them out.",
    f"{IBOT} in a command stands for iBOT's released teacher of ViT-B/16; a run whose weights do not say what the "
    "generator was trained with, and on which backbone's weights, fills no cell.",
    "ProposalFlow is our reading of it: its authors' proposals are random and their gradient statistics cannot be had; "
    "its card tells what differs.",
    "CNNGeo, A2Net and Weakalign learn here of warps of the images of the column's data set, all of them and without "
    "labels; their authors took PASCAL VOC's.",
    "Tables 4 and 5 mark the full procedure's own values with an asterisk; those rows repeat row (I).",
)


@dataclass(frozen=True)
class PaperColumn:
    """A column of figures: a data set's PCK, of all pairs or of one category."""

    dataset: str
    alpha: float
    category: str | None = None

    @property
    def finetune(self) -> str:
        """The data set that the models of this column are fine-tuned on; PF-WILLOW has no training split."""
        return "spair-71k" if self.dataset == "spair-71k" else "pf-pascal"


@dataclass(frozen=True)
class PaperRow:
    """A method's row; ``values`` has None where the paper has none."""

    method: str  # as printed
    tag: str  # what it was pre-trained or trained on, where that sets rows of one method apart
    model: str  # the registry's name
    pretrain: str | None
    supervision: str  # "none", "self", "weak", "keypoints", "semi"; "" where the table does not say
    values: tuple[float | None, ...]
    train_set: str | None = None  # where it does not follow from the column
    settings: Mapping[str, object] = field(default_factory=dict)  # arguments that depart from the full procedure

    @property
    def backbone(self) -> str:
        """The backbone that the paper used."""
        if self.model == "proposalflow":
            return "none"
        return GENERATOR_BACKBONE if self.model == GENERATOR else BACKBONE

    def trained_on(self, column: PaperColumn) -> tuple[str | None, str | None]:
        """What a run of the row is pre-trained and fine-tuned on for a column's figures."""
        known = TRAINING.get(self.model, (self.pretrain, self.train_set or "{data}"))
        pretrain, finetune = (None if each is None else each.format(data=column.finetune) for each in known)
        return pretrain, finetune


@dataclass(frozen=True)
class PaperTable:
    """One table of the paper."""

    number: int
    title: str
    columns: tuple[PaperColumn, ...]
    rows: tuple[PaperRow, ...]

    @property
    def by_category(self) -> bool:
        """Whether its columns are categories."""
        return any(column.category for column in self.columns)


def tables() -> tuple[PaperTable, ...]:
    """Tables 1 to 5."""
    return table_1(), table_2(), table_3(), table_4(), table_5()


def table_1() -> PaperTable:
    """The generator beside weakly supervised matchers."""
    lines = _lines("table1_generator.csv")
    names, columns = _columns(lines)
    rows = tuple(
        PaperRow(
            "Cascaded network (ours)" if (ours := line["method"] == "ours") else line["method"],
            "on filtered ImageNet" if line["train_set"] == FILTERED_IMAGENET else f"on {info(line['train_set']).title}",
            GENERATOR if ours else MODELS[line["method"]],
            None,
            "weak",
            _values(line, names),
            train_set=line["train_set"],
        )
        for line in lines
    )
    return PaperTable(1, "the generator and weakly supervised matchers", columns, rows)


def table_2() -> PaperTable:
    """PCK of all methods on PF-PASCAL, PF-WILLOW and SPair-71k."""
    lines = _lines("table2_benchmarks.csv")
    names, columns = _columns(lines)
    rows = tuple(
        PaperRow(
            line["method"],
            _tag(line),
            MODELS[line["method"]],
            line["pretrain"] or None,
            # The rows pre-trained on SC-ImageNet keep their model's supervision, which the run states.
            "" if line["supervision"] == "pretrain+finetune" else line["supervision"],
            _values(line, names),
        )
        for line in lines
    )
    return PaperTable(2, "PF-PASCAL, PF-WILLOW and SPair-71k", columns, rows)


def table_3() -> PaperTable:
    """PCK@0.1 on SPair-71k by category."""
    lines = _lines("table3_spair_per_class.csv")
    names = [name for name in lines[0] if name not in ("method", "pretrain")]
    columns = tuple(PaperColumn("spair-71k", 0.1, None if name == "all" else name) for name in names)
    rows = tuple(
        PaperRow(
            line["method"],
            _tag(line),
            MODELS[line["method"]],
            line["pretrain"] or None,
            "",
            _values(line, names),
        )
        for line in lines
    )
    return PaperTable(3, "SPair-71k by category, PCK@0.10", columns, rows)


def table_4() -> PaperTable:
    """The generator's components, taken out one by one."""
    return _ablation(4, "components of the generator", "table4_components.csv", TABLE_4)


def table_5() -> PaperTable:
    """The generator's stages and the resolution of its input images."""
    return _ablation(5, "stages and input resolution of the generator", "table5_stages_resolution.csv", TABLE_5)


def _ablation(number: int, title: str, file: str, switches: Mapping[str, Mapping[str, object]]) -> PaperTable:
    lines = _lines(file)
    names, columns = _columns(lines)
    rows = tuple(
        PaperRow(
            f"{line['case']} {line['variant']}",
            "",
            GENERATOR,
            None,
            "weak",
            _values(line, names),
            train_set=FILTERED_IMAGENET,
            settings=switches[line["case"]],
        )
        for line in lines
    )
    return PaperTable(number, title, columns, rows)


def _lines(name: str) -> list[dict[str, str]]:
    text = (files("benchmark.report") / "paper" / name).read_text(encoding="utf-8")
    return list(csv.DictReader(text.splitlines()))


def _columns(lines: list[dict[str, str]]) -> tuple[list[str], tuple[PaperColumn, ...]]:
    names = [name for name in lines[0] if "@" in name]
    split = (name.split("@") for name in names)
    return names, tuple(PaperColumn(dataset.replace("_", "-"), float(alpha)) for dataset, alpha in split)


def _tag(line: dict[str, str]) -> str:
    if line["method"] == "ProposalFlow":
        return "our reading"
    return f"+ {info(line['pretrain']).title}" if line["pretrain"] else ""


def _values(line: dict[str, str], names: list[str]) -> tuple[float | None, ...]:
    return tuple(float(line[name]) if line[name] else None for name in names)
