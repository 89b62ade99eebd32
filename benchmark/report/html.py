"""The report as one HTML file: no server, no network, light and dark, readable on a phone and without scripts."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.resources import files

from jinja2 import BaseLoader, Environment, StrictUndefined, TemplateNotFound
from markupsafe import Markup

from benchmark.report import ablation_table, charts, run_details, tables
from benchmark.report.pictures import Figure, described
from benchmark.report.reproduction import Report, TableView
from benchmark.scoring.curves import ALPHAS
from sc_imagenet.data.catalog import info


def to_html(report: Report, figures: Sequence[Figure | None] = ()) -> str:
    """The whole report; every text from data is escaped. ``figures`` are those of its boards, in their order."""
    environment = Environment(
        loader=_Templates(), autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    return environment.get_template("page.html").render(
        report=report,
        boards=list(zip(report.boards, [*figures] or [None] * len(report.boards))),
        number_of={sheet.result.run: number for number, sheet in enumerate(report.sheets)},
        options=_options(report),
        style=Markup(_file("style.css")),
        script=Markup(_file("script.js")),
        text=tables,
        run_text=run_details,
        charts=charts,
        described=described,
        groups=_groups,
        ablation=ablation_table,
        alphas=ALPHAS,
        bars=charts.COLOURED,
    )


class _Templates(BaseLoader):
    """Templates from the package, however it is installed."""

    def get_source(self, environment: Environment, template: str) -> tuple[str, None, None]:
        try:
            return _file(template), None, None
        except FileNotFoundError as error:
            raise TemplateNotFound(template) from error


def _file(name: str) -> str:
    return (files("benchmark.report") / "page" / name).read_text(encoding="utf-8")


def _options(report: Report) -> list[tuple[str, str, list[str]]]:
    """The filters that have anything to choose from: attribute, label, values."""
    results = [sheet.result for sheet in report.sheets]
    found = (
        ("model", "Model", {result.model for result in results}),
        ("data", "Data", {board.key for board in report.boards}),
        ("supervision", "Supervision", {result.supervision for result in results}),
        ("backbone", "Backbone", {result.backbone for result in results}),
    )
    return [(attribute, label, sorted(values)) for attribute, label, values in found if len(values) > 1]


def _groups(view: TableView) -> list[tuple[str, int]]:
    """The data sets of neighbouring columns and how many columns each spans."""
    groups: list[tuple[str, int]] = []
    for column in view.paper.columns:
        title = info(column.dataset).title
        if groups and groups[-1][0] == title:
            groups[-1] = (title, groups[-1][1] + 1)
        else:
            groups.append((title, 1))
    return groups
