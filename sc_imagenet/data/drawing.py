"""Pictures of image pairs with their points: for the eye, at screen size."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache

import numpy as np
from numpy.typing import ArrayLike, NDArray
from PIL import Image, ImageDraw, ImageFont

from sc_imagenet.data.images import Picture, to_rgb

Colour = tuple[int, int, int]

PAPER: Colour = (255, 255, 255)
INK: Colour = (33, 37, 41)
FRAME: Colour = (206, 212, 218)  # a hairline around each image, for those with a white background
# Okabe and Ito's colours, told apart by people with any colour vision; black is left for outlines.
PALETTE: tuple[Colour, ...] = (
    (230, 159, 0),
    (86, 180, 233),
    (0, 158, 115),
    (240, 228, 66),
    (0, 114, 178),
    (213, 94, 0),
    (204, 121, 167),
)
RIGHT: Colour = (0, 158, 115)
WRONG: Colour = (214, 39, 40)  # wrong points are also square and their lines dashed: not by colour alone

MARGIN = 14  # pixels around and between the images
TITLE = 34  # height of the title's strip
RADIUS = 8.5  # of a point's disc
SHARPNESS = 3  # marks are drawn this much larger and reduced, so that their edges are smooth
BRIGHT = 0.3  # luminance from which a colour is set off by dark rather than by white
WIDEST = 1.6  # an image wider than this many times the height is made smaller instead


def draw_pair(
    source: Picture,
    target: Picture,
    source_points: ArrayLike,
    target_points: ArrayLike,
    *,
    correct: ArrayLike | None = None,
    truth: ArrayLike | None = None,
    title: str | None = None,
    height: int = 400,
) -> Image.Image:
    """Draw two images side by side with their numbered points joined by lines.

    Args:
        source: left image, any size; shown ``height`` pixels high.
        target: right image.
        source_points: (K, 2), original pixels of ``source``; a row with NaN is left out.
        target_points: (K, 2), original pixels of ``target``. A point outside its image is drawn hollow at
            the nearest edge.
        correct: (K,) bool; green discs for correct points, red squares with dashed lines for wrong ones.
            Without it each point has its own colour.
        truth: (K, 2), original pixels of ``target``: where the points should be, marked by a cross.
        title: a line above the images.
        height: of the images, in pixels of the picture; 400 gives pictures about 1200 wide.

    Raises:
        ValueError: arrays of different length.
    """
    source, target = to_rgb(source), to_rgb(target)
    starts, ends = _points(source_points), _points(target_points)
    marks = None if correct is None else np.asarray(correct, dtype=bool).reshape(-1)
    goals = None if truth is None else _points(truth)
    if any(len(other) != len(starts) for other in (ends, marks, goals) if other is not None):
        raise ValueError("source_points, target_points, correct and truth differ in length")

    left, right = _fitted(source, height), _fitted(target, height)
    head = TITLE if title or marks is not None else 0
    size = (left.width + right.width + 3 * MARGIN, max(left.height, right.height) + 2 * MARGIN + head)
    picture = Image.new("RGB", size, PAPER)
    corners = []
    for image, x in ((left, MARGIN), (right, 2 * MARGIN + left.width)):
        y = head + MARGIN + (size[1] - head - 2 * MARGIN - image.height) // 2
        frame = (x - 1, y - 1, x + image.width, y + image.height)
        ImageDraw.Draw(picture).rectangle(frame, outline=FRAME)
        picture.paste(image, (x, y))
        corners.append((x, y))

    layer = _Layer(size)
    panels = (
        _Panel(corners[0], source.size, left.size),
        _Panel(corners[1], target.size, right.size),
    )
    rows = []
    for k in range(len(starts)):
        if np.isfinite(starts[k]).all() and np.isfinite(ends[k]).all():
            wrong = marks is not None and not marks[k]
            colour = PALETTE[k % len(PALETTE)] if marks is None else (WRONG if wrong else RIGHT)
            rows.append((k, panels[0].place(starts[k]), panels[1].place(ends[k]), colour, wrong))
    for _, start, end, colour, wrong in rows:  # all lines lie under all points
        layer.line(start[:2], end[:2], colour, dashed=wrong)
    for k, _, end, colour, _ in rows:
        if goals is not None and np.isfinite(goals[k]).all():
            goal = panels[1].place(goals[k])
            layer.line(end[:2], goal[:2], colour, thin=True)
            layer.cross(goal[:2], colour)
    for k, start, end, colour, wrong in rows:
        layer.point(start, colour, str(k + 1), square=wrong)
        layer.point(end, colour, str(k + 1), square=wrong)
    if head:
        _write_title(picture, title or "", None if marks is None else (int(marks.sum()), len(marks)))
    return layer.onto(picture)


def contact_sheet(images: Sequence[Image.Image], columns: int = 1, width: int = 1200) -> Image.Image:
    """Lay pictures out in rows of ``columns``, each row as high as its highest picture.

    Pictures wider than their column are reduced; none is enlarged. The sheet is at most ``width`` wide.

    >>> contact_sheet([Image.new("RGB", (100, 50))] * 3, columns=2, width=300).size
    (200, 100)
    """
    if not images:
        raise ValueError("no pictures to lay out")
    columns = max(1, min(columns, len(images)))
    column = min(max(image.width for image in images), width // columns)
    cells = []
    for image in images:
        scale = min(1.0, column / image.width)
        wanted = (max(1, round(image.width * scale)), max(1, round(image.height * scale)))
        cells.append(image if scale == 1 else image.resize(wanted, Image.Resampling.LANCZOS))
    rows = [cells[i : i + columns] for i in range(0, len(cells), columns)]
    heights = [max(cell.height for cell in row) for row in rows]
    sheet = Image.new("RGB", (column * columns, sum(heights)), PAPER)
    y = 0
    for row, high in zip(rows, heights):
        for i, cell in enumerate(row):
            sheet.paste(cell, (i * column + (column - cell.width) // 2, y))
        y += high
    return sheet


class _Panel:
    """Where one image lies in the picture."""

    def __init__(self, corner: tuple[int, int], original: tuple[int, int], shown: tuple[int, int]) -> None:
        self.corner, self.original, self.shown = corner, original, shown

    def place(self, point: NDArray[np.float64]) -> tuple[float, float, bool]:
        """Picture coordinates of a point, and whether it lies in the image."""
        inside, place = True, []
        for axis in (0, 1):
            spot = (float(point[axis]) + 0.5) * self.shown[axis] / self.original[axis]  # centres of pixels
            inside &= 0 <= spot <= self.shown[axis]
            place.append(self.corner[axis] + min(max(spot, 0.0), float(self.shown[axis])))
        return place[0], place[1], inside


class _Layer:
    """Marks on a transparent sheet, drawn large and reduced once."""

    def __init__(self, size: tuple[int, int]) -> None:
        self.sheet = Image.new("RGBA", (size[0] * SHARPNESS, size[1] * SHARPNESS), (0, 0, 0, 0))
        self.draw = ImageDraw.Draw(self.sheet)

    def onto(self, picture: Image.Image) -> Image.Image:
        marks = self.sheet.resize(picture.size, Image.Resampling.BOX)
        return Image.alpha_composite(picture.convert("RGBA"), marks).convert("RGB")

    def line(
        self,
        start: tuple[float, float],
        end: tuple[float, float],
        colour: Colour,
        dashed: bool = False,
        thin: bool = False,
    ) -> None:
        pieces = _dashes(start, end) if dashed else [(start, end)]
        halo = INK if _luminance(colour) > BRIGHT else PAPER
        wide = (2.4, 1.1) if thin else (3.6, 1.8)
        for width, ink in zip(wide, ((*halo, 150), (*colour, 255))):
            for piece in pieces:
                ends = [(x * SHARPNESS, y * SHARPNESS) for x, y in piece]
                self.draw.line(ends, fill=ink, width=round(width * SHARPNESS))

    def cross(self, centre: tuple[float, float], colour: Colour) -> None:
        for arm, width, ink in ((6.6, 4.6, (*PAPER, 255)), (5.8, 2.2, (*colour, 255))):
            for slope in (-1, 1):
                x, y = centre
                ends = [((x + s * arm) * SHARPNESS, (y + s * slope * arm) * SHARPNESS) for s in (-1, 1)]
                self.draw.line(ends, fill=ink, width=round(width * SHARPNESS))

    def point(self, place: tuple[float, float, bool], colour: Colour, label: str, square: bool) -> None:
        x, y, inside = place[0] * SHARPNESS, place[1] * SHARPNESS, place[2]
        shape = self.draw.rectangle if square else self.draw.ellipse
        radius = RADIUS * SHARPNESS * (0.9 if square else 1.0)
        for grow, ink in ((2.2, INK), (1.3, PAPER), (0.0, colour if inside else PAPER)):
            r = radius + grow * SHARPNESS
            shape((x - r, y - r, x + r, y + r), fill=(*ink, 255))
        text = colour if not inside else (INK if _luminance(colour) > BRIGHT else PAPER)
        size = 11.5 if len(label) < 3 else 9.0
        self.draw.text((x, y), label, font=_font(size * SHARPNESS), fill=(*text, 255), anchor="mm")


def _points(points: ArrayLike) -> NDArray[np.float64]:
    return np.asarray(points, dtype=np.float64).reshape(-1, 2)


def _fitted(image: Image.Image, height: int) -> Image.Image:
    scale = min(height / image.height, WIDEST * height / image.width)
    wanted = (max(1, round(image.width * scale)), max(1, round(image.height * scale)))
    return image.resize(wanted, Image.Resampling.LANCZOS)


def _dashes(
    start: tuple[float, float], end: tuple[float, float], dash: float = 9.0, gap: float = 6.0
) -> list[tuple[tuple[float, float], tuple[float, float]]]:
    length = math.dist(start, end)
    if length == 0:
        return []

    def at(way: float) -> tuple[float, float]:
        share = min(way, length) / length
        return start[0] + share * (end[0] - start[0]), start[1] + share * (end[1] - start[1])

    return [(at(way), at(way + dash)) for way in np.arange(0.0, length, dash + gap).tolist()]


def _luminance(colour: Colour) -> float:
    """Relative luminance, 0 black to 1 white (WCAG 2)."""
    channels = [(c / 255 / 12.92) if c <= 10 else ((c / 255 + 0.055) / 1.055) ** 2.4 for c in colour]
    return 0.2126 * channels[0] + 0.7152 * channels[1] + 0.0722 * channels[2]


@lru_cache(maxsize=8)
def _font(size: float) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    return ImageFont.load_default(size)


def _write_title(picture: Image.Image, title: str, score: tuple[int, int] | None) -> None:
    draw = ImageDraw.Draw(picture)
    font, middle = _font(17), MARGIN + TITLE / 2 - 4
    left = picture.width - 2 * MARGIN
    if score:
        words = f"{score[0]} of {score[1]} correct"
        left -= round(draw.textlength(words, font=font)) + 2 * MARGIN
        draw.text((picture.width - MARGIN, middle), words, font=font, fill=INK, anchor="rm")
    line = " ".join(title.split())
    while line and draw.textlength(line, font=font) > left:
        line = line[:-2].rstrip() + "…" if len(line) > 2 else ""
    draw.text((MARGIN, middle), line, font=font, fill=INK, anchor="lm")
