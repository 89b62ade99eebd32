"""Two images on a page: pointing at the one shows the match and the similarities on the other, for several models."""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from markupsafe import Markup
from PIL import Image

from baselines.matcher import Matcher
from benchmark.report.html import templates
from benchmark.running.match import Matches, grid_points, match, similarities
from sc_imagenet.core.files import atomic_path

LONGEST = 900  # pixels of an image on the page
QUALITY = 85  # of its JPEG
POINTS = 32  # along each side of the grid of matches, between which the page interpolates


def write_match_page(
    out: Path,
    source_name: str,
    target_name: str,
    images: tuple[Image.Image, Image.Image],
    matchers: Mapping[str, Matcher],
    sure: Matches,
) -> None:
    """Write the page, one file that asks for nothing.

    Args:
        out: the file.
        source_name, target_name: what the images are called there.
        images: source and target, upright RGB.
        matchers: by name; what a point matches is computed for each of them on a grid.
        sure: points to begin with, in the source's pixels.
    """
    source, target = images
    models = [_model(name, matcher, source, target) for name, matcher in matchers.items()]
    data = {
        "source": _size(source),
        "target": _size(target),
        "grid": POINTS,
        "points": sure.source_points.round(1).tolist(),
        "models": models,
    }
    environment = templates()
    assert environment.loader is not None
    style, script = (Markup(environment.loader.get_source(environment, name)[0]) for name in ("style.css", "match.js"))
    text = environment.get_template("match.html").render(
        title=f"{source_name} \N{RIGHTWARDS ARROW} {target_name}",
        names=(source_name, target_name),
        pictures=[_jpeg(image) for image in images],
        models=list(matchers),
        data=data,
        style=style,
        script=script,
    )
    with atomic_path(out) as temporary:
        temporary.write_text(text, encoding="utf-8")


def _model(name: str, matcher: Matcher, source: Image.Image, target: Image.Image) -> dict[str, Any]:
    """Matches of a grid of points, as 16-bit parts of the target's width and height; similarities as 8-bit ones."""
    found = match(matcher, source, target, grid_points(source.size, POINTS))
    parts = np.clip(found.target_points / np.array(target.size), 0, 1)
    model: dict[str, Any] = {"name": name, "matches": _encoded((parts * 65535).round().astype("<u2"))}
    if matcher.encodes_alone:
        values = similarities(matcher, source, target)
        low, high = float(values.min()), float(values.max())
        scaled = (values - low) / max(high - low, 1e-6) * 255
        model |= {
            "similarities": _encoded(scaled.round().astype(np.uint8)),
            "cells": values.shape[0],
            "low": round(low, 4),
            "high": round(high, 4),
            # A point of an image lies at point * scale + offset of the square, in parts of its side.
            "places": [
                [*(matcher.frame.scale(i.size) / matcher.size), *(matcher.frame.offset(i.size) / matcher.size)]
                for i in (source, target)
            ],
        }
    return model


def _size(image: Image.Image) -> list[int]:
    return [image.width, image.height]


def _encoded(values: np.ndarray) -> str:
    return base64.b64encode(np.ascontiguousarray(values).tobytes()).decode()


def _jpeg(image: Image.Image) -> str:
    shown = image.copy()
    shown.thumbnail((LONGEST, LONGEST))
    file = io.BytesIO()
    shown.save(file, "JPEG", quality=QUALITY)
    return "data:image/jpeg;base64," + base64.b64encode(file.getvalue()).decode()
