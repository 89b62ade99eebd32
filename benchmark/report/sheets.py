"""The report as CSV: one line a figure, for a person's own plots and tables."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Sequence

from benchmark.report import text
from benchmark.report.build import Report
from benchmark.result import Result


def tables_csv(report: Report) -> str:
    """Every cell of the paper's tables: paper, measured, interval, difference, the runs behind it."""
    heads = ["table", "method", "pretrain", "supervision", "dataset", "category", "alpha", "paper"]
    heads += ["measured", "low", "high", "difference", "runs", "command"]
    lines = (
        [
            view.paper.number,
            row.row.method,
            row.row.pretrain,
            row.row.supervision,
            column.dataset,
            column.category,
            column.alpha,
            cell.paper,
            *(
                (cell.measured.value, cell.measured.low, cell.measured.high, cell.difference)
                if cell.measured
                else (None,) * 4
            ),
            " ".join(cell.measured.runs) if cell.measured else None,
            cell.command,
        ]
        for view in report.tables
        for row in view.rows
        for column, cell in zip(view.paper.columns, row.cells)
    )
    return _sheet(heads, lines)


def runs_csv(results: Sequence[Result]) -> str:
    """Every metric of every run."""
    heads = ["run", "model", "backbone", "pretrain", "finetune", "checkpoint", "preset", "changes", "seed"]
    heads += ["direction", "seconds", "training", "data", "metric", "value", "low", "high"]
    lines = (
        [
            result.run,
            result.model,
            result.backbone,
            result.pretrain,
            result.finetune,
            result.checkpoint,
            result.preset,
            " ".join(result.changes),
            result.seed,
            result.direction,
            result.seconds,
            text.training(result),
            data,
            metric,
            score["value"],
            score["low"],
            score["high"],
        ]
        for result in results
        for data, metrics in result.metrics.items()
        for metric, score in metrics.items()
    )
    return _sheet(heads, lines)


def _sheet(heads: Sequence[str], lines: Iterable[Sequence[object]]) -> str:
    sheet = io.StringIO()
    writer = csv.writer(sheet, lineterminator="\n")
    writer.writerow(heads)
    writer.writerows(lines)
    return sheet.getvalue()
