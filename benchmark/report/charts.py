"""The charts of a report as inline SVG: no script, no font, no network."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from markupsafe import Markup, escape

from benchmark.report import run_details
from benchmark.report.leaderboard import Leaderboard, Setting, filters
from benchmark.report.run_details import RunDetails
from benchmark.scoring.details import CURVE_ALPHAS

# Line charts as inline SVG: no script, no font, no network; colours come from the page's style.

WIDTH, HEIGHT = 460, 300
LEFT, RIGHT, TOP, BOTTOM = 44, 14, 28, 42


@dataclass(frozen=True)
class Line:
    """One line of a chart; ``style`` names its class, ``data`` its data-attributes."""

    label: str
    points: Sequence[tuple[float, float]]
    style: str
    data: Mapping[str, str] = field(default_factory=dict)


def chart(title: str, lines: Sequence[Line], x_label: str, y_label: str, floor: float | None = None) -> Markup:
    """A chart of lines over common axes; ``title`` is what is read out in its place.

    Args:
        title: in words.
        lines: drawn in this order, the last on top.
        x_label: below the axis.
        y_label: above the axis.
        floor: least value of the y axis; without it the axis is as long as the values need.
    """
    drawn = [line for line in lines if len(line.points) > 1]
    if not drawn:
        return Markup("")
    xs = [x for line in drawn for x, _ in line.points]
    ys = [y for line in drawn for _, y in line.points]
    x_ticks = ticks(min(xs), max(xs), 5)
    y_ticks = ticks(min(ys) if floor is None else floor, max(ys), 5)
    x_range, y_range = (min(xs), max(xs)), (y_ticks[0], y_ticks[-1])

    def at(x: float, y: float) -> tuple[float, float]:
        across = (x - x_range[0]) / ((x_range[1] - x_range[0]) or 1)
        up = (y - y_range[0]) / ((y_range[1] - y_range[0]) or 1)
        return LEFT + across * (WIDTH - LEFT - RIGHT), HEIGHT - BOTTOM - up * (HEIGHT - TOP - BOTTOM)

    parts = [f'<svg class="chart" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{escape(title)}">']
    for tick in y_ticks:
        _, y = at(x_range[0], tick)
        parts.append(f'<path class="grid" d="M{LEFT} {y:.1f}H{WIDTH - RIGHT}"/>')
        parts.append(f'<text x="{LEFT - 7}" y="{y + 4:.1f}" text-anchor="end">{tick:g}</text>')
    for tick in x_ticks:
        if x_range[0] <= tick <= x_range[1]:
            x, _ = at(tick, y_range[0])
            parts.append(f'<text x="{x:.1f}" y="{HEIGHT - BOTTOM + 18}" text-anchor="middle">{tick:g}</text>')
    middle = (LEFT + WIDTH - RIGHT) / 2
    parts.append(f'<text class="axis" x="{middle}" y="{HEIGHT - 5}" text-anchor="middle">{escape(x_label)}</text>')
    parts.append(f'<text class="axis" x="{LEFT}" y="{TOP - 12}">{escape(y_label)}</text>')
    for line in drawn:
        path = "L".join(f"{x:.1f} {y:.1f}" for x, y in (at(*point) for point in line.points))
        data = "".join(f' data-{key}="{escape(value)}"' for key, value in line.data.items())
        parts.append(f'<path class="line {line.style}"{data} d="M{path}"><title>{escape(line.label)}</title></path>')
    return Markup("".join(parts) + "</svg>")


def ticks(low: float, high: float, about: int) -> list[float]:
    """Round numbers from at most ``low`` to at least ``high``, about so many steps apart.

    >>> ticks(0, 97.3, 5)
    [0, 20, 40, 60, 80, 100]
    >>> ticks(2.5, 2.5, 5)
    [2.5, 3.5]
    """
    if high <= low:
        return [low, low + 1]
    rough = (high - low) / about
    power = 10 ** math.floor(math.log10(rough))
    step = power * next(s for s in (1, 2, 5, 10) if s * power >= rough * 0.999)
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [round(k * step, 10) for k in range(first, last + 1)]


# The charts of a report: PCK over alpha of a board's runs, and a run's training.

COLOURED = 6  # settings of a board told apart by colour and dashes; all others are drawn in grey
GREY = "line-grey"


@dataclass(frozen=True)
class CurveChart:
    """A board's curves with their legend."""

    svg: Markup
    legend: tuple[tuple[str, Setting], ...]  # style and runs
    grey: int  # further lines


def style_of(place: int) -> str:
    """The class of a board's setting by its place, from 0; the same in its curve and in its bars."""
    return f"line-{place}" if place < COLOURED else GREY


def curve_chart(board: Leaderboard) -> CurveChart | None:
    """PCK over alpha, the board's best settings in colour, seeds averaged; None without any curve."""
    styled = [(style_of(number), setting) for number, setting in enumerate(board.settings) if setting.curve]
    if not styled:
        return None
    lines = [
        Line(
            f"{setting.result.title}, {run_details.training(setting.result)}, {setting.which_runs}",
            list(zip(CURVE_ALPHAS, setting.curve)),
            style,
            filters(setting.result),
        )
        for style, setting in styled
    ]
    best = styled[0][1]
    title = (
        f"PCK over alpha of {len(styled)} settings on {board.heading}; the best, {best.result.title} "
        f"{run_details.training(best.result)}, from {best.curve[0]:.1f} at {CURVE_ALPHAS[0]:g} "
        f"to {best.curve[-1]:.1f} at {CURVE_ALPHAS[-1]:g}"
    )
    return CurveChart(
        chart(title, lines[::-1], "alpha", "PCK, %", floor=0),
        tuple((style, setting) for style, setting in styled if style != GREY),
        sum(style == GREY for style, _ in styled),
    )


def training_charts(details: RunDetails) -> list[Markup]:
    """Loss and, where it was measured, validation PCK by step."""
    log, found = details.training, []
    for points, what, unit, floor in (
        (log.loss, "Loss", "loss", None),
        (log.validation, "Validation PCK", "validation PCK@0.1, %", None),
    ):
        if len(points) > 1:
            (_, first), (step, last) = points[0], points[-1]
            title = f"{what} of run {details.result.run} from {first:.3g} to {last:.3g} at step {step:g}"
            found.append(chart(title, [Line(what, points, "line-0")], "step", unit, floor))
    return found
