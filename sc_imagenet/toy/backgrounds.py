"""Cluttered backgrounds: a ground, a horizon, noise of several scales and random flat shapes."""

from __future__ import annotations

import numpy as np
from PIL import Image, ImageDraw

from sc_imagenet.toy.paint import random_colour


def background(rng: np.random.Generator, width: int, height: int) -> np.ndarray:
    """A picture (height, width, 3) of floats in [0, 1]."""
    picture = _mix(random_colour(rng), random_colour(rng), noise(rng, width, height, coarse=2))
    if rng.uniform() < 0.5:
        horizon = rng.uniform(0.35, 0.8) * height + rng.uniform(-0.15, 0.15) * np.arange(width)
        below = np.arange(height)[:, None] > horizon[None]
        floor = _mix(random_colour(rng), random_colour(rng), noise(rng, width, height, coarse=8))
        picture = np.where(below[..., None], floor, picture)
    picture = _shapes(rng, picture, int(rng.integers(2, 12)))
    grain = noise(rng, width, height, coarse=int(rng.integers(6, 24))) - 0.5
    return np.clip(picture + rng.uniform(0.05, 0.4) * grain[..., None], 0, 1)


def noise(rng: np.random.Generator, width: int, height: int, coarse: int) -> np.ndarray:
    """Smooth noise (height, width) in [0, 1]: three octaves from a grid of ``coarse`` cells a side."""
    total = np.zeros((coarse, coarse), np.float32)
    for octave in range(3):
        cells = coarse * 2**octave
        total = _resized(total, cells, cells) + 0.5**octave * rng.uniform(size=(cells, cells)).astype(np.float32)
    return np.clip(_resized(total, width, height) / 1.75, 0, 1)


def _resized(values: np.ndarray, width: int, height: int) -> np.ndarray:
    return np.asarray(Image.fromarray(values).resize((width, height), Image.Resampling.BICUBIC))


def _mix(first: np.ndarray, second: np.ndarray, share: np.ndarray) -> np.ndarray:
    return first.astype(np.float32) + share[..., None] * (second - first).astype(np.float32)


def _shapes(rng: np.random.Generator, picture: np.ndarray, count: int) -> np.ndarray:
    """Random ellipses, polygons and bars drawn on a picture."""
    height, width = picture.shape[:2]
    canvas = Image.fromarray((255 * picture).astype(np.uint8))
    draw = ImageDraw.Draw(canvas)
    for _ in range(count):
        colour = tuple(int(255 * value) for value in random_colour(rng))
        centre = rng.uniform(size=2) * (width, height)
        reach = rng.uniform(0.05, 0.3) * min(width, height)
        kind = rng.integers(3)
        if kind == 0:
            half = reach * rng.uniform(0.4, 1, 2)
            draw.ellipse([*(centre - half), *(centre + half)], fill=colour)
        elif kind == 1:
            angles = np.sort(rng.uniform(0, 2 * np.pi, int(rng.integers(3, 7))))
            outline = centre + reach * np.stack([np.cos(angles), np.sin(angles)], -1)
            draw.polygon([tuple(point) for point in outline], fill=colour)
        else:
            angle = rng.uniform(0, np.pi)
            half = 2 * reach * np.array([np.cos(angle), np.sin(angle)])
            draw.line([*(centre - half), *(centre + half)], fill=colour, width=int(rng.integers(2, 10)))
    return np.asarray(canvas) / np.float32(255)
