"""The tables of a report, each built once for every format, and the sentences around them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from benchmark.report import run_details
from benchmark.report.ablation_table import HEADINGS, LEGEND, AblationRow, AblationTable, words
from benchmark.report.contents import GeneratedSet, Report
from benchmark.report.leaderboard import Leaderboard, MeanScore, Setting, filters
from benchmark.report.paper_tables import PaperColumn, PaperTable
from benchmark.report.reproduction import MeasuredRow, MeasuredTable, PaperCell
from benchmark.report.run_details import ProtocolTable
from benchmark.report.table import Cell, Column, Format, Row, Table
from benchmark.scoring.details import CURVE_ALPHAS
from sc_imagenet.data.catalog import info

TITLE = "Semantic correspondence: paper and measured"
TRUE_ERRORS = "How far its labels lie from the truth, which the renderer knows and the labelling did not see."
HOW_TO_READ = (
    "Measured values come from runs whose recipe, data, backbone and direction are the paper's, under the "
    "protocol its authors used; several seeds are averaged and their intervals joined. All other runs are "
    "below, under the strict protocol. Intervals are 95 %, bootstrapped over pairs."
)
SEEDS_GROUPED = (
    "Runs that differ in their seeds alone are one row: mean \N{PLUS-MINUS SIGN} standard deviation over the n seeds; "
    "a single run has its 95 % interval over pairs."
)
TEXT: tuple[Format, ...] = ("md", "tex", "terminal")


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


# The paper's tables, and what was measured beside them.


def paper_table(table: MeasuredTable) -> Table:
    """A table of the paper: measured figures beside its own, and the commands that fill empty cells."""
    paper = table.paper
    columns = [Column("Method")]
    if paper.number == 2:
        columns.append(Column("Supervision", style="soft wide", left_out=TEXT))
    columns += [_paper_column(paper, column) for column in paper.columns]
    rows = [_paper_row(paper, row, before) for row, before in zip(table.rows, (None, *table.rows))]
    return Table(paper.title, tuple(columns), tuple(rows), number=paper.number)


def _paper_column(paper: PaperTable, column: PaperColumn) -> Column:
    if paper.by_category:
        return Column(column.category or "all", kind="paper")
    return Column(f"@{column.alpha:.2f}", info(column.dataset).title, "paper")


def _paper_row(paper: PaperTable, row: MeasuredRow, before: MeasuredRow | None) -> Row:
    known = row.row
    cells = [Cell(known.method, tag=known.tag)]
    if paper.number == 2:
        cells.append(Cell(known.supervision or "pre-train, fine-tune"))
    cells += map(_paper_cell, row.cells)
    return Row(
        tuple(cells),
        divided=bool(known.pretrain) and not (before and before.row.pretrain),
        commands=tuple(map(str, row.commands)),
        filters={"model": known.model},
    )


def _paper_cell(cell: PaperCell) -> Cell:
    measured = cell.measured
    if measured is None:
        note = "the paper has no figure here" if cell.paper is None else f"fill with: {cell.command}"
        return Cell(paper=cell.paper, note=note)
    found = Cell(measured.value, cell.paper, measured.low, measured.high, runs=measured.runs)
    paper = "" if cell.paper is None else f"Paper {found.printed}, "
    several = f" (mean of {len(measured.runs)} runs)" if len(measured.runs) > 1 else ""
    interval = f", {found.interval}" if found.interval else ""
    note = f"{paper}measured {measured.value:.2f}{several}{interval}, {measured.metric}"
    return Cell(measured.value, cell.paper, measured.low, measured.high, runs=measured.runs, note=note)


def ablation_grid(table: AblationTable) -> Table:
    """The ablations beside the paper's, and how many of its directions are found."""
    styles = {4: "soft", 5: "soft right", 7: "soft right"}
    columns = (Column(head, style=styles.get(n, "right" if n else "")) for n, head in enumerate(HEADINGS))
    about = "Tables 4 and 5 in miniature: the full generator and the same with one thing changed. None measured yet."
    if table.measured:
        about = f"PCK, {table.metric}: {table.about}. {table.verdict} {LEGEND}"
    return Table("Ablations of the generator", tuple(columns), tuple(map(_ablation_row, table.rows)), about, dense=True)


def _ablation_row(row: AblationRow) -> Row:
    note = "" if row.seeds else f"fill with: {row.command}"
    return Row(tuple(Cell(text, note=note) for text in words(row)), commands=() if row.seeds else (row.command,))


# Generated data sets.


def generated_tables(made: GeneratedSet) -> tuple[Table, ...]:
    """What a generated data set holds and, where it is known, how far its labels lie from the truth."""
    counts = _two_columns(f"Generated data set {made.name}", "count", made.counts, f"{made.how}.")
    if not made.errors:
        return (counts,)
    return counts, _two_columns(f"True errors of the labels of {made.name}", "labels", made.errors, TRUE_ERRORS)


def _two_columns(title: str, head: str, lines: Mapping[str, str], caption: str = "") -> Table:
    rows = (Row((Cell(name), Cell(value))) for name, value in lines.items())
    return Table(title, (Column(""), Column(head, style="right")), tuple(rows), caption, dense=True)


# Runs side by side.


def leaderboard_table(board: Leaderboard) -> Table:
    """The settings of a leaderboard, best first."""
    against = (
        ""
        if board.direction == "forward"
        else (
            " These models predict into the source image; they are not ranked with those that predict into the target."
        )
    )
    caption = f"PCK, {board.protocol}; best at {board.metrics[1].alpha:.2f} first.{against}"
    return _settings(board, board.settings, board.heading, caption)


def single_runs_table(board: Leaderboard) -> Table | None:
    """Each run of a leaderboard by itself; None where none shares a row with another."""
    if not board.singles:
        return None
    return _settings(board, board.singles, f"The {len(board.entries)} runs one by one")


def _settings(board: Leaderboard, settings: Sequence[Setting], title: str, caption: str = "") -> Table:
    columns = (
        Column("Model"),
        Column("Backbone", below=True),
        Column("Training", style="wrap"),
        Column("Recipe", below=True),
        Column("", kind="interval", style="wide", left_out=TEXT),
        *(Column(f"PCK@{metric.alpha:.2f}", kind="figure") for metric in board.metrics),
        Column("Direction", left_out=("html",)),
        Column("Seeds", style="right"),
        Column("Trained for", style="right"),
        Column("Peak memory", style="right", left_out=("terminal",)),
        Column("Run", kind="runs"),
    )
    rows = (
        Row(
            (
                Cell(setting.result.title),
                Cell(setting.result.backbone),
                Cell(run_details.training(setting.result)),
                Cell(run_details.recipe(setting.result)),
                _score(setting.scores[1]),
                *map(_score, setting.scores),
                Cell(run_details.arrow(setting.result)),
                Cell(setting.seeds_in_words),
                Cell(run_details.duration(setting.seconds)),
                Cell(run_details.size(setting.peak_memory)),
                Cell(runs=tuple(entry.result.run for entry in setting.entries)),
            ),
            filters=filters(setting.result),
        )
        for setting in settings
    )
    return Table(title, columns, tuple(rows), caption)


def _score(score: MeanScore | None) -> Cell:
    return Cell() if score is None else Cell(score.value, None, score.low, score.high, score.spread)


def category_table(board: Leaderboard, most: int | None = None) -> Table | None:
    """The categories of a leaderboard by its best settings; None where it has none."""
    if not board.categories:
        return None
    settings = board.settings[:most]
    best = f", the best {most} settings" if len(settings) < len(board.settings) else ""
    columns = (Column(each.result.title, kind="bar", detail=each.which_runs) for each in settings)
    rows = (Row((Cell(name), *(Cell(each.categories.get(name)) for each in settings))) for name in board.categories)
    return Table(f"By category, {board.metrics[1]}{best}", (Column("Category"), *columns), tuple(rows))


def categories_by_run(board: Leaderboard) -> Table:
    """Every run of a leaderboard with all its categories."""
    columns = (Column("Run"), Column("", below=True), *(Column(name, kind="figure") for name in board.categories))
    rows = (
        Row(
            (
                Cell(entry.result.title),
                Cell(entry.result.run),
                *(Cell(entry.categories.get(name)) for name in board.categories),
            ),
            filters=filters(entry.result),
        )
        for entry in board.entries
    )
    return Table(f"Categories of all {len(board.entries)} runs", columns, tuple(rows))


def protocols_table(scored: ProtocolTable) -> Table:
    """A run's scores on one data set under every protocol."""
    columns = (
        Column("Protocol"),
        *(Column(f"@{alpha:.2f}", kind="figure") for alpha in scored.alphas),
        Column("", style="soft"),
    )
    rows = (
        Row((Cell(row.protocol), *(Cell(s[0], None, *s[1:]) if s else Cell() for s in row.scores), Cell(row.label)))
        for row in scored.rows
    )
    return Table(f"{scored.data} under every protocol", columns, tuple(rows), dense=True)


# One line a figure, for a person's own plots and tables.


def figures_table(report: Report) -> Table:
    """Every cell of the paper's tables: paper, measured, interval, difference, the runs behind it."""
    heads = ["table", "method", "pretrain", "train_set", "supervision", "dataset", "category", "alpha", "paper"]
    heads += ["measured", "low", "high", "difference", "metric", "runs", "command"]
    return _plain(
        heads,
        (
            (
                table.paper.number,
                *(row.row.method, row.row.pretrain, row.row.train_set, row.row.supervision),
                *(column.dataset, column.category, column.alpha, cell.paper),
                *_measured(cell),
                str(cell.command),
            )
            for table in report.tables
            for row in table.rows
            for column, cell in zip(table.paper.columns, row.cells)
        ),
    )


def _measured(cell: PaperCell) -> tuple[str | float | None, ...]:
    found = cell.measured
    if found is None:
        return (None,) * 6
    return found.value, found.low, found.high, cell.difference, found.metric, " ".join(found.runs)


def runs_table(report: Report) -> Table:
    """Every metric of every run."""
    heads = ["run", "model", "backbone", "pretrain", "finetune", "checkpoint", "preset", "changes", "seed", "direction"]
    heads += ["seconds", "peak_memory", "training", "data", "pairs", "published", "metric", "value", "low", "high"]
    counts = {
        (of.result.run, data.key): (data.pairs, data.published) for of in report.details for data in of.result.data
    }
    return _plain(
        heads,
        (
            (
                *(result.run, result.model, result.backbone, result.pretrain, result.finetune, result.checkpoint),
                *(result.preset, " ".join(result.changes), result.seed, result.direction, result.seconds),
                *(result.peak_memory, run_details.training(result)),
                *(data, *counts.get((result.run, data), (None, None))),
                *(metric, score["value"], score["low"], score["high"]),
            )
            for result in (of.result for of in report.details)
            for data, metrics in result.metrics.items()
            for metric, score in metrics.items()
        ),
    )


def curves_table(report: Report) -> Table:
    """PCK over alpha of every run under its leaderboard's protocol."""
    heads = ["run", "model", "data", "direction", "protocol", *(f"{alpha:g}" for alpha in CURVE_ALPHAS)]
    return _plain(
        heads,
        (
            (
                entry.result.run,
                entry.result.model,
                board.key,
                board.direction,
                board.metrics[1].protocol,
                *entry.curve,
            )
            for board in report.leaderboards
            for entry in board.entries
            if entry.curve
        ),
    )


def _plain(heads: Sequence[str], lines: Iterable[Sequence[str | float | None]]) -> Table:
    return Table("", tuple(map(Column, heads)), tuple(Row(tuple(map(Cell, line))) for line in lines))
