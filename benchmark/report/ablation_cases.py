"""What ``scbench ablate`` trains and measures: the full cascade, and the same with one thing changed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from benchmark.report.paper_tables import PaperTable, table_4, table_5

FULL = "full"


@dataclass(frozen=True)
class Case:
    """One row.

    name      as typed after --only
    paper     its row in the paper: the table's number and the case's numeral; None: not in it
    changes   options of the training; ``network`` holds those of the network
    size      side of the input, as a share of the full model's
    trained   False reads the untrained network
    nearest   read without PMPS: nearest neighbours by v_f alone
    """

    name: str
    paper: tuple[int, str] | None = None
    changes: Mapping[str, Any] = field(default_factory=dict)
    size: float = 1.0
    trained: bool = True
    nearest: bool = False


LITERAL = {"hough_scales": [1.0], "reading": "similarity", "votes": "relu"}
NEAREST = {"hough": False, "reading": "similarity"}

CASES = (
    Case("untrained-nearest", changes={"network": NEAREST}, trained=False),
    Case("untrained-hough", changes={"network": LITERAL}, trained=False),
    Case("untrained-full", trained=False),
    Case("trained-nearest", nearest=True),
    Case(FULL, (4, "(I)")),
    Case("without-saliency", (4, "(II)"), {"network": {"saliency": False}}),
    Case("without-hough", (4, "(III)"), {"network": {"hough": False}}),
    Case("length-3", (4, "(IV)"), {"network": {"hough_length": 3}}),
    Case("length-7", (4, "(VI)"), {"network": {"hough_length": 7}}),
    Case("shared-attention", (4, "(VII)"), {"network": {"shared_attention": True}}),
    Case("half-size", (5, "(II)"), size=1 / 2),
    Case("three-quarter-size", (5, "(III)"), size=3 / 4),
    Case("without-stage-3", (5, "(V)"), {"network": {"stages": "region"}}),
    Case("without-stages-2-3", (5, "(VI)"), {"network": {"stages": "image"}}),
)


def case_called(name: str) -> Case:
    """The case of that name.

    Raises:
        KeyError: there is none.
    """
    return {case.name: case for case in CASES}[name]


def paper_figures(case: Case, dataset: str = "pf-willow") -> dict[float, float]:
    """PCK by alpha that the paper prints for a case on a data set; {} where it has none.

    >>> paper_figures(case_called("shared-attention"))
    {0.05: 53.6, 0.1: 78.5}
    """
    if case.paper is None:
        return {}
    number, numeral = case.paper
    table: PaperTable = {4: table_4, 5: table_5}[number]()
    row = next(row for row in table.rows if row.method.startswith(f"{numeral} "))
    found = ((column, value) for column, value in zip(table.columns, row.values) if column.dataset == dataset)
    return {column.alpha: value for column, value in found if value is not None}
