"""The report as one HTML file: no server, no network, light and dark, readable on a phone."""

from __future__ import annotations

from importlib.resources import files

from jinja2 import Environment, StrictUndefined

from benchmark.report import text
from benchmark.report.build import Report, TableView
from sc_imagenet.catalog import info


def to_html(report: Report) -> str:
    """The whole report; every text from data is escaped."""
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    page = (files("benchmark.report") / "page.html").read_text(encoding="utf-8")
    return environment.from_string(page).render(
        report=report, text=text, groups=_groups, title_of=lambda name: info(name).title
    )


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
