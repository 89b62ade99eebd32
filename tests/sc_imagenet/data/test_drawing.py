"""Marks lie where the points are, in the colours that mean something."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from sc_imagenet.data.drawing import MARGIN, PALETTE, PAPER, RADIUS, RIGHT, TITLE, WRONG, contact_sheet, draw_pair

GREY = (128, 128, 128)


def blank(width: int, height: int) -> Image.Image:
    return Image.new("RGB", (width, height), GREY)


def beside(picture: Image.Image, x: float, y: float) -> tuple[int, int, int]:
    """The colour inside a disc, left of its number."""
    return picture.getpixel((round(x - RADIUS + 2.5), round(y)))


def test_size_is_that_of_the_images_margins_and_title():
    plain = draw_pair(blank(300, 200), blank(100, 100), [], [], height=400)
    assert plain.size == (600 + 400 + 3 * MARGIN, 400 + 2 * MARGIN)
    titled = draw_pair(blank(300, 200), blank(100, 100), [], [], height=400, title="A pair")
    assert titled.size == (plain.width, plain.height + TITLE)


def test_points_lie_at_their_scaled_places_in_their_own_colours():
    points = [[49.5, 49.5], [149.5, 149.5]]  # the middle of the first and of the last quarter
    picture = draw_pair(blank(200, 200), blank(100, 100), points, np.array(points) / 2 - 0.25, height=400)
    for k, (x, y) in enumerate([(100, 100), (300, 300)]):
        for left in (MARGIN, 2 * MARGIN + 400):
            assert beside(picture, left + x, MARGIN + y) == PALETTE[k]


def test_correct_is_green_and_wrong_is_red():
    points = [[10, 10], [30, 30]]
    picture = draw_pair(blank(40, 40), blank(40, 40), points, points, correct=[True, False], height=400)
    top = MARGIN + TITLE
    assert beside(picture, MARGIN + 105, top + 105) == RIGHT
    assert beside(picture, MARGIN + 305, top + 305) == WRONG


def test_truth_is_crossed_in_the_target_only():
    pair = (blank(40, 40), blank(40, 40), [[10, 10]], [[10, 10]])
    plain = np.asarray(draw_pair(*pair, height=400), dtype=int)
    crossed = np.asarray(draw_pair(*pair, truth=[[30, 30]], height=400), dtype=int)
    _, columns = np.nonzero((plain != crossed).any(axis=-1))
    assert columns.min() > 400 + MARGIN
    assert crossed[MARGIN + 305, 2 * MARGIN + 400 + 305].tolist() == list(PALETTE[0])


def test_points_outside_are_hollow_at_the_edge_and_nan_is_left_out():
    image = blank(40, 40)
    plain = np.asarray(draw_pair(image, image, [], [], height=400))
    gone = np.asarray(draw_pair(image, image, [[np.nan, 1]], [[5, 5]], height=400))
    assert np.array_equal(plain, gone)
    picture = draw_pair(image, image, [[20, 20]], [[500, 20]], height=400)
    assert beside(picture, 2 * MARGIN + 800, MARGIN + 205) == PAPER


@pytest.mark.parametrize(("width", "height"), [(1, 500), (500, 1), (5000, 40)])
def test_extreme_shapes_stay_drawable(width, height):
    picture = draw_pair(blank(width, height), blank(50, 50), [[0, 0]], [[1, 1]], height=100)
    assert picture.width <= 2 * 160 + 3 * MARGIN
    assert picture.height == 100 + 2 * MARGIN


def test_greyscale_and_long_titles_are_fine():
    picture = draw_pair(Image.new("L", (40, 40)), blank(40, 40), [[1, 1]], [[2, 2]], title="word " * 400)
    assert picture.size == (800 + 3 * MARGIN, 400 + 2 * MARGIN + TITLE)


def test_inputs_are_not_drawn_on():
    image = blank(40, 40)
    draw_pair(image, image, [[20, 20]], [[20, 20]])
    assert image.getcolors() == [(1600, GREY)]


def test_different_lengths_are_an_error():
    with pytest.raises(ValueError, match="differ in length"):
        draw_pair(blank(9, 9), blank(9, 9), [[1, 1]], [])


def test_contact_sheet_reduces_but_never_enlarges():
    sheet = contact_sheet([blank(900, 300), blank(300, 300), blank(300, 100)], columns=2, width=1200)
    assert sheet.size == (1200, 300 + 100)
    assert sheet.getpixel((300, 100)) == GREY  # the first is reduced to 600 x 200
    assert sheet.getpixel((300, 250)) == PAPER
    assert sheet.getpixel((900, 150)) == GREY
    assert sheet.getpixel((700, 150)) == PAPER
