"""Wording that every format of the report shares."""

from __future__ import annotations

from benchmark.report.build import Board, Cell, Measured, Report
from benchmark.report.paper_tables import Column, Row
from benchmark.result import Result
from sc_imagenet.catalog import info

HOW_TO_READ = (
    "Measured values come from runs whose recipe, data, backbone and direction are the paper's, under the "
    "protocol its authors used; several seeds are averaged and their intervals joined. All other runs are "
    "below, under the strict protocol. Intervals are 95 %, bootstrapped over pairs."
)


def pretrained(row: Row) -> str:
    """The pre-training of a table's row, "" for none."""
    return f"+ {info(row.pretrain).title}" if row.pretrain else ""


def column_title(column: Column) -> str:
    """The head of a column below its data set: its category or alpha."""
    if column.category:
        return column.category
    return f"@{column.alpha:.2f}"


def interval(measured: Measured) -> str:
    """``57.1 - 58.3`` with an en dash, "" where there is none."""
    if measured.low is None or measured.high is None:
        return ""
    return f"{measured.low:.1f}\N{EN DASH}{measured.high:.1f}"


def difference(cell: Cell) -> str:
    """``+0.4`` or ``-0.4``, with a real minus sign; "" where there is nothing to compare."""
    if cell.difference is None:
        return ""
    return f"{cell.difference:+.1f}".replace("-", "\N{MINUS SIGN}")


def training(result: Result) -> str:
    """What a run was trained on, in order."""
    steps = [f"pre-trained on {result.pretrain}"] if result.pretrain else []
    if result.checkpoint:
        steps.append(f"weights {result.checkpoint}")
    if result.finetune:
        steps.append(f"{'fine-tuned' if steps else 'trained'} on {result.finetune}")
    return ", ".join(steps) or "untrained"


def recipe(result: Result) -> str:
    """The preset, and what departs from it."""
    return ", ".join([result.preset, *result.changes])


def one_line(result: Result) -> str:
    """A run without its scores."""
    return f"{result.model}, {training(result)}, recipe {recipe(result)}, seed {result.seed}, run {result.run}"


def arrow(result: Result) -> str:
    """The direction of the predictions."""
    source, target = ("source", "target") if result.direction == "forward" else ("target", "source")
    return f"{source} \N{RIGHTWARDS ARROW} {target}"


def duration(seconds: float) -> str:
    """Seconds in the two largest units, a dash for none.

    >>> duration(0), duration(42), duration(3725), duration(200_000)
    ('-', '42 s', '1 h 2 min', '55 h 33 min')
    """
    if not seconds:
        return "-"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"


def board_title(board: Board) -> str:
    """``Toy, test split, 200 pairs``."""
    return f"{board.title}, {board.split} split, {board.pairs:,} pairs"


def protocol(board: Board) -> str:
    """The board's metric without alpha, in words."""
    metric = board.metrics[0]
    return f"{metric.threshold}, original pixels, {metric.average} average"


def summary(report: Report) -> str:
    """One sentence on what is there."""
    cells = " and ".join(
        f"{table.filled} of {table.printed} cells of Table {table.paper.number}" for table in report.tables
    )
    runs = "1 run" if report.runs == 1 else f"{report.runs} runs"
    return f"{runs} found; {cells} measured."
