"""Wording that every format of the report shares."""

from __future__ import annotations

from benchmark.report.ablation_table import LEGEND, AblationTable
from benchmark.report.leaderboard import Board, Measured, Setting
from benchmark.report.paper_tables import Column, PaperTable, Row
from benchmark.report.tables import Cell, Report
from benchmark.scoring.result import count_of_pairs
from sc_imagenet.data.catalog import info

TRUE_ERRORS = "How far its labels lie from the truth, which the renderer knows and the labelling did not see:"
HOW_TO_READ = (
    "Measured values come from runs whose recipe, data, backbone and direction are the paper's, under the "
    "protocol its authors used; several seeds are averaged and their intervals joined. All other runs are "
    "below, under the strict protocol. Intervals are 95 %, bootstrapped over pairs."
)
SEEDS_GROUPED = (
    "Runs that differ in their seeds alone are one row: mean \N{PLUS-MINUS SIGN} standard deviation over the n seeds; "
    "a single run has its 95 % interval over pairs."
)


def method(row: Row) -> str:
    """A row's method with what sets it apart from others of its name."""
    return f"{row.method} {row.tag}".strip()


def column_head(table: PaperTable, column: Column) -> str:
    """The head of a column where no second line of heads names the data set."""
    if table.by_category:
        return column.category or "all"
    return f"{info(column.dataset).title} {column_title(column)}"


def ablations(table: AblationTable) -> str:
    """What the ablations are and what came of them."""
    if not table.measured:
        return "Tables 4 and 5 in miniature: the full generator and the same with one thing changed. None measured yet."
    return f"{table.about}. {table.verdict} {LEGEND}"


def empty(cell: Cell, row: Row) -> str:
    """Why a cell has no measured value, or what would fill it."""
    if cell.paper is None:
        return "the paper has no figure here"
    if cell.command:
        return f"fill with: {cell.command}"
    return f"no model of {row.method} in this repository"


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


def spread(measured: Measured) -> str:
    """Of several runs their standard deviation, ``± 0.8``; of one its interval."""
    return interval(measured) if measured.spread is None else f"\N{PLUS-MINUS SIGN} {measured.spread:.1f}"


def difference(cell: Cell) -> str:
    """``+0.4`` or ``-0.4``, with a real minus sign; "" where there is nothing to compare."""
    if cell.difference is None:
        return ""
    return f"{cell.difference:+.1f}".replace("-", "\N{MINUS SIGN}")


def seeds(setting: Setting) -> str:
    """``0``, or ``0, 1, 2 (n = 3)``."""
    listed = ", ".join(map(str, setting.seeds))
    return listed if len(setting.seeds) == 1 else f"{listed} (n = {len(setting.seeds)})"


def which_runs(setting: Setting) -> str:
    """What tells a setting from others of its model and training: its run, or the best of its runs."""
    run = setting.result.run
    if len(setting.seeds) == 1:
        return f"seed {setting.seeds[0]}, {run}"
    return f"mean of {len(setting.seeds)} seeds, best {run}"


def board_title(board: Board) -> str:
    """``Toy, test split, 200 of 300 pairs``, and the direction if it is not the usual one."""
    against = "" if board.direction == "forward" else ", target \N{RIGHTWARDS ARROW} source"
    return f"{board.title}, {board.split} split, {count_of_pairs(board.pairs, board.published)}{against}"


def protocol(board: Board) -> str:
    """The board's metric without alpha, in words."""
    metric = board.metrics[0]
    side = "target" if board.direction == "forward" else "source"
    left_out = board.without_box if metric.threshold == "bbox-kp" else 0
    without = f", {left_out:,} pairs without a box around their points left out" if left_out else ""
    return f"{metric.threshold}, original pixels of the {side}, {metric.average} average{without}"


def summary(report: Report) -> str:
    """One sentence on what is there."""
    runs = "1 run" if report.runs == 1 else f"{report.runs} runs"
    filled, printed = (sum(getattr(table, name) for table in report.tables) for name in ("filled", "printed"))
    full = [
        f"{table.filled} of {table.printed} in Table {table.paper.number}" for table in report.tables if table.filled
    ]
    return f"{runs} found; {filled} of the paper's {printed} figures measured" + (
        f": {', '.join(full)}." if full else "."
    )
