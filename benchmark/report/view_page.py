"""A run's predictions to look through: pairs by category, keypoint, grade and kind of error, for one run or two."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from markupsafe import Markup

from benchmark.report.html import templates
from benchmark.scoring.comparison import align
from benchmark.scoring.details import kinds_of_error
from benchmark.scoring.evaluation import evaluate_predictions
from benchmark.scoring.predictions import PAIR_GRADES, Predictions
from benchmark.scoring.protocols import protocol_named
from sc_imagenet.core.errors import InputError
from sc_imagenet.core.files import atomic_path
from sc_imagenet.data.images import open_image
from sc_imagenet.data.load import load_dataset

STRICT = "strict@1"
ALPHA = 0.1
IMAGES = ("link", "embed", "none")
LONGEST = 320  # pixels of an embedded image
QUALITY = 80
KINDS = ("hit", "swap", "other part", "near", "background")


def write_view(out: Path, runs: Sequence[Predictions], names: Sequence[str], images: str, root: Path | None) -> int:
    """Write the page of one run's predictions, or of two runs' on the same pairs; gives the number of pairs.

    Args:
        out: the file.
        runs: predictions, the strict protocol's in original pixels.
        names: of the runs.
        images: "link" leads to the files where they lie, "embed" puts small copies into the page, "none" has none.
        root: where the data set lies.

    Raises:
        InputError: the runs are of other pairs, or images are asked for that are not here.
    """
    if len(runs) == 2:
        runs = align(*runs)
    first = runs[0]
    data: dict[str, Any] = {
        "names": list(names),
        "alpha": ALPHA,
        "kinds": list(KINDS),
        "grades": list(PAIR_GRADES),
        "direction": first.info.direction,
        "pairs": first.pair_ids.tolist(),
        **_categories(first),
        "offsets": _packed(first.offsets, "<i4"),
        "ids": _packed(first.ids, "<i2"),
        "mutual": _packed(first.mutual, "u1"),
        "grade": None if first.grades is None else _packed(first.grades, "i1"),
        "sizes": _packed(np.hstack([first.other_sizes, first.sizes]), "<i4"),
        "other": _packed(np.nan_to_num(first.other), "<f4"),
        "true": _packed(np.nan_to_num(first.true), "<f4"),
        "runs": [_run(run) for run in runs],
        **_images(first, images, root),
    }
    environment = templates()
    assert environment.loader is not None
    style, script = (Markup(environment.loader.get_source(environment, name)[0]) for name in ("style.css", "view.js"))
    title = f"{first.info.dataset}, {first.info.split}: {' and '.join(names)}"
    text = environment.get_template("view.html").render(title=title, data=data, style=style, script=script)
    with atomic_path(out) as temporary:
        temporary.write_text(text, encoding="utf-8")
    return len(first)


def _run(predictions: Predictions) -> dict[str, Any]:
    """Predicted points, hits, and of each pair how many points came to what."""
    info = predictions.info
    protocol = protocol_named(STRICT).for_data(predictions.dataset, info.model, info.size, info.protocol)
    if ALPHA not in protocol.alphas:
        raise InputError(f"{STRICT} has no alpha {ALPHA:g} on {info.dataset}")
    evaluation = evaluate_predictions(predictions, protocol)
    hits = np.zeros(len(predictions.true), np.uint8)
    hits[evaluation.rows] = evaluation.hits[:, protocol.alphas.index(ALPHA)]
    found = {quantity.name: quantity.found for quantity in kinds_of_error(predictions, protocol)}
    kinds = [found.get(f"{kind}@{ALPHA:g}/point", np.zeros(len(predictions))) for kind in KINDS]
    return {
        "predicted": _packed(predictions.predicted_in(protocol.frame), "<f4"),
        "hits": _packed(hits, "u1"),
        "found": _packed(np.stack(kinds, 1), "u1"),
    }


def _categories(predictions: Predictions) -> dict[str, Any]:
    names, numbers = np.unique(predictions.categories, return_inverse=True)
    return {"categories": names.tolist(), "category": _packed(numbers, "<i2")}


def _images(predictions: Predictions, images: str, root: Path | None) -> dict[str, Any]:
    """Addresses of the images, and for each pair the numbers of its two; the one with the predictions comes second."""
    if images == "none":
        return {"images": [], "pictured": None}
    info = predictions.info
    rows = load_dataset(info.dataset, split=info.split, root=root).select_columns(["pair_id", "source", "target"])
    table = rows.with_format("arrow")[:].to_pylist()
    paths = {row["pair_id"]: (row["source"]["path"], row["target"]["path"]) for row in table}
    numbers: dict[str, int] = {}
    pictured = []
    for pair in predictions.pair_ids.tolist():
        if pair not in paths:
            raise InputError(f"pair {pair[:60]!r} is not of {info.dataset}:{info.split}", fix="Give --images none.")
        both = paths[pair] if info.direction == "forward" else paths[pair][::-1]
        pictured.append([numbers.setdefault(path, len(numbers)) for path in both])
    address = _linked if images == "link" else _embedded
    return {"images": [address(path) for path in numbers], "pictured": _packed(np.array(pictured), "<i4")}


def _linked(path: str) -> str:
    return Path(path).resolve().as_uri()


def _embedded(path: str) -> str:
    image = open_image(path)
    image.thumbnail((LONGEST, LONGEST))
    file = io.BytesIO()
    image.save(file, "JPEG", quality=QUALITY)
    return "data:image/jpeg;base64," + base64.b64encode(file.getvalue()).decode()


def _packed(values: np.ndarray, kind: str) -> str:
    return base64.b64encode(np.ascontiguousarray(values, dtype=kind).tobytes()).decode()
