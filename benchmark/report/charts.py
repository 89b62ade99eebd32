"""The charts of a report: PCK over alpha of a board's runs, and a run's training."""

from __future__ import annotations

from dataclasses import dataclass

from markupsafe import Markup

from benchmark.report import run_text, text
from benchmark.report.boards import Board, Setting
from benchmark.report.sheet import Sheet
from benchmark.report.svg import Line, chart
from benchmark.scoring.curves import ALPHAS
from benchmark.scoring.result import Result

COLOURED = 6  # settings of a board told apart by colour and dashes; all others are drawn in grey
GREY = "line-grey"


@dataclass(frozen=True)
class CurveChart:
    """A board's curves with their legend."""

    svg: Markup
    legend: tuple[tuple[str, Setting], ...]  # style and runs
    grey: int  # further lines


def filters(result: Result) -> dict[str, str]:
    """What a run can be filtered by, as data-attributes."""
    return {"model": result.model, "supervision": result.supervision, "backbone": result.backbone}


def style_of(place: int) -> str:
    """The class of a board's setting by its place, from 0; the same in its curve and in its bars."""
    return f"line-{place}" if place < COLOURED else GREY


def curve_chart(board: Board) -> CurveChart | None:
    """PCK over alpha, the board's best settings in colour, seeds averaged; None without any curve."""
    styled = [(style_of(number), setting) for number, setting in enumerate(board.settings) if setting.curve]
    if not styled:
        return None
    lines = [
        Line(
            f"{setting.result.title}, {run_text.training(setting.result)}, {text.which_runs(setting)}",
            list(zip(ALPHAS, setting.curve)),
            style,
            filters(setting.result),
        )
        for style, setting in styled
    ]
    best = styled[0][1]
    title = (
        f"PCK over alpha of {len(styled)} settings on {text.board_title(board)}; the best, {best.result.title} "
        f"{run_text.training(best.result)}, from {best.curve[0]:.1f} at {ALPHAS[0]:g} "
        f"to {best.curve[-1]:.1f} at {ALPHAS[-1]:g}"
    )
    return CurveChart(
        chart(title, lines[::-1], "alpha", "PCK, %", floor=0),
        tuple((style, setting) for style, setting in styled if style != GREY),
        sum(style == GREY for style, _ in styled),
    )


def training_charts(sheet: Sheet) -> list[Markup]:
    """Loss and, where it was measured, validation PCK by step."""
    log, found = sheet.training, []
    for points, what, unit, floor in (
        (log.loss, "Loss", "loss", None),
        (log.validation, "Validation PCK", "validation PCK@0.1, %", None),
    ):
        if len(points) > 1:
            (_, first), (step, last) = points[0], points[-1]
            title = f"{what} of run {sheet.result.run} from {first:.3g} to {last:.3g} at step {step:g}"
            found.append(chart(title, [Line(what, points, "line-0")], "step", unit, floor))
    return found
