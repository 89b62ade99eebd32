"""The report as one HTML file: no server, no network, light and dark, readable on a phone and without scripts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from benchmark.report import run_details, tables
from benchmark.report.charts import COLOURED, CurveChart, curve_chart, training_charts
from benchmark.report.contents import Report
from benchmark.report.leaderboard import Leaderboard, filters
from benchmark.report.pictures import Figure
from benchmark.report.run_details import RunDetails
from benchmark.report.table import Table


@dataclass(frozen=True)
class LeaderboardSection:
    """What the page shows of a leaderboard; None: there is nothing of the kind."""

    key: str  # of its data
    ranking: Table
    one_by_one: Table | None
    curves: CurveChart | None
    categories: Table | None
    categories_by_run: Table | None
    figure: Figure | None


@dataclass(frozen=True)
class RunSection:
    """What the page shows of a run."""

    details: RunDetails
    charts: tuple[Markup, ...]
    protocols: tuple[Table, ...]


def to_html(report: Report, figures: Sequence[Figure | None] = ()) -> str:
    """The whole report; every text from data is escaped. ``figures`` are those of its leaderboards, in their order."""
    environment = templates()
    pictured = [*figures] or [None] * len(report.leaderboards)
    return environment.get_template("page.html").render(
        report=report,
        title=tables.TITLE,
        summary=tables.summary(report),
        how_to_read=tables.HOW_TO_READ,
        seeds_grouped=tables.SEEDS_GROUPED,
        paper_tables=[_on_page(tables.paper_table(table)) for table in report.tables],
        ablations=_on_page(tables.ablation_grid(report.ablations)),
        generated=[tuple(map(_on_page, tables.generated_tables(made))) for made in report.generated],
        not_evaluated=[run_details.one_line(result) for result in report.unscored],
        leaderboards=[_leaderboard(board, figure) for board, figure in zip(report.leaderboards, pictured)],
        runs=[_run(details) for details in report.details],
        number_of={details.result.run: number for number, details in enumerate(report.details)},
        choices=_choices(report),
        style=_verbatim(environment, "style.css"),
        script=_verbatim(environment, "script.js"),
    )


def templates() -> Environment:
    """The page's templates; what they print is escaped, and a name they do not know is an error."""
    loader = PackageLoader("benchmark.report", "page")
    environment = Environment(
        loader=loader, autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters |= {"training": run_details.training, "recipe": run_details.recipe, "filters": filters}
    return environment


def _verbatim(environment: Environment, name: str) -> Markup:
    """A file beside the templates that is no template."""
    assert environment.loader is not None
    return Markup(environment.loader.get_source(environment, name)[0])


def _on_page(table: Table) -> Table:
    return table.written_as("html")


def _leaderboard(board: Leaderboard, figure: Figure | None) -> LeaderboardSection:
    one_by_one, categories = tables.single_runs_table(board), tables.category_table(board, COLOURED)
    all_shown = not board.singles and len(board.entries) <= COLOURED
    return LeaderboardSection(
        board.key,
        _on_page(tables.leaderboard_table(board)),
        _on_page(one_by_one) if one_by_one else None,
        curve_chart(board),
        _on_page(categories) if categories else None,
        None if all_shown or not categories else _on_page(tables.categories_by_run(board)),
        figure,
    )


def _run(details: RunDetails) -> RunSection:
    protocols = (_on_page(tables.protocols_table(scored)) for scored in details.protocols if scored.rows)
    return RunSection(details, tuple(training_charts(details)), tuple(protocols))


def _choices(report: Report) -> list[tuple[str, str, list[str]]]:
    """The filters that have anything to choose from: attribute, label, values."""
    results = [details.result for details in report.details]
    found = (
        ("model", "Model", {result.model for result in results}),
        ("data", "Data", {board.key for board in report.leaderboards}),
        ("supervision", "Supervision", {result.supervision for result in results}),
        ("backbone", "Backbone", {result.backbone for result in results}),
    )
    return [(attribute, label, sorted(values)) for attribute, label, values in found if len(values) > 1]
