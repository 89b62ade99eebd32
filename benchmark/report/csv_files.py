"""The report as CSV: one line a figure, for a person's own plots and tables."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Sequence

from benchmark.report import run_details
from benchmark.report.reproduction import Report
from benchmark.scoring.curves import ALPHAS


def tables_csv(report: Report) -> str:
    """Every cell of the paper's tables: paper, measured, interval, difference, the runs behind it."""
    heads = ["table", "method", "pretrain", "train_set", "supervision", "dataset", "category", "alpha", "paper"]
    heads += ["measured", "low", "high", "difference", "metric", "runs", "command"]
    lines = (
        [
            view.paper.number,
            row.row.method,
            row.row.pretrain,
            row.row.train_set,
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
            *((cell.measured.metric, " ".join(cell.measured.runs)) if cell.measured else (None, None)),
            cell.command,
        ]
        for view in report.tables
        for row in view.rows
        for column, cell in zip(view.paper.columns, row.cells)
    )
    return _sheet(heads, lines)


def runs_csv(report: Report) -> str:
    """Every metric of every run."""
    heads = ["run", "model", "backbone", "pretrain", "finetune", "checkpoint", "preset", "changes", "seed"]
    heads += [
        "direction",
        "seconds",
        "peak_memory",
        "training",
        "data",
        "pairs",
        "published",
        "metric",
        "value",
        "low",
        "high",
    ]
    counts = {(sheet.result.run, data.key): data for sheet in report.sheets for data in sheet.result.data}
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
            result.peak_memory,
            run_details.training(result),
            data,
            *((found.pairs, found.published) if (found := counts.get((result.run, data))) else (None, None)),
            metric,
            score["value"],
            score["low"],
            score["high"],
        ]
        for result in (sheet.result for sheet in report.sheets)
        for data, metrics in result.metrics.items()
        for metric, score in metrics.items()
    )
    return _sheet(heads, lines)


def curves_csv(report: Report) -> str:
    """PCK over alpha of every run under its board's protocol."""
    heads = ["run", "model", "data", "direction", "protocol", *(f"{alpha:g}" for alpha in ALPHAS)]
    lines = (
        [entry.result.run, entry.result.model, board.key, board.direction, board.metrics[1].protocol, *entry.curve]
        for board in report.boards
        for entry in board.entries
        if entry.curve
    )
    return _sheet(heads, lines)


def _cell(value: object) -> object:
    """Text that no spreadsheet takes for a formula; numbers as they are.

    >>> _cell("=HYPERLINK(A1)"), _cell(-1.5)
    ("'=HYPERLINK(A1)", -1.5)
    """
    return f"'{value}" if isinstance(value, str) and value.startswith(("=", "+", "-", "@")) else value


def _sheet(heads: Sequence[str], lines: Iterable[Sequence[object]]) -> str:
    sheet = io.StringIO()
    writer = csv.writer(sheet, lineterminator="\n")
    writer.writerow(heads)
    writer.writerows([_cell(value) for value in line] for line in lines)
    return sheet.getvalue()
