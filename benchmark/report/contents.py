"""The report's room for data sets that ``scbench generate`` made below the folder of runs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sc_imagenet.core.errors import InputError
from sc_imagenet.core.files import read_json

FOLDER = "generated"  # of the folder of runs, with a folder for each data set


@dataclass(frozen=True)
class GeneratedSet:
    """A data set made from class names.

    name       of its folder
    how        backbone, side and matcher in words
    counts     label: figure, in reading order
    errors     the same of its labels' true errors; empty where the truth is not known
    """

    name: str
    how: str
    counts: Mapping[str, str]
    errors: Mapping[str, str]


def find_generated(runs: Path) -> tuple[tuple[GeneratedSet, ...], tuple[str, ...]]:
    """All finished data sets below a folder of runs, and a line for each that cannot be read."""
    found, problems = [], []
    for file in sorted(Path(runs).glob(f"{FOLDER}/*/generation.json")):
        try:
            found.append(_read(file.parent))
        except InputError as error:
            problems.append(str(error))
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            problems.append(f"{file}: has an entry of another kind ({error})")
    return tuple(found), tuple(problems)


def _read(folder: Path) -> GeneratedSet:
    content: Any = read_json(folder / "generation.json")
    options, counts = content["options"], content["counts"]
    matcher = "the trained cascade" if options["network"] else "raw features with Hough scores"
    errors = folder / "label_errors.json"
    return GeneratedSet(
        folder.name,
        f"{options['backbone']} at {options['size']} px, {matcher}",
        {
            "photographs": f"{counts['images']:,}",
            "kept": f"{counts['kept_images']:,}",
            "classes": f"{counts['classes']:,}",
            "pairs": f"{counts['pairs']:,}",
            "points": f"{counts['points']:,}",
            "median loop offset, all matched points, pixels": f"{counts['median_offset_matched']:.1f}",
            "median loop offset, selected points, pixels": f"{counts['median_offset_selected']:.1f}",
        },
        {name: figure(value) for name, value in (read_json(errors) if errors.exists() else {}).items()},
    )


def figure(value: float) -> str:
    """A count in full, anything else with one decimal.

    >>> figure(41_483), figure(57.14)
    ('41,483', '57.1')
    """
    return f"{value:,}" if isinstance(value, int) else f"{value:.1f}"
