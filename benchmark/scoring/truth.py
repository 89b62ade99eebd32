"""The true points of a data set's pairs, as its own files have them: what foreign predictions are scored against."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from benchmark.scoring.predictions import PredictionInfo, Predictions
from sc_imagenet.core.errors import InputError, unknown_name
from sc_imagenet.data.catalog import canonical, info
from sc_imagenet.data.roots import open_source
from sc_imagenet.data.schema import check_pair, check_unique, known_size
from sc_imagenet.data.shard_writing import image_sizes
from sc_imagenet.sources.source import Annotation, Entry, Source, check_entry


def read_truth(dataset: str, split: str = "test", root: Path | str | None = None) -> Predictions:
    """The pairs of a split, in the order of its list, with nothing predicted (NaN).

    Points that one image alone shows are there too where the data set's files tell of them. All is in pixels as
    stored, without heeding EXIF, as the data sets are annotated and as the codes that predict on them open images.

    Raises:
        InputError: the data set is not here, or a file of it cannot be used.
    """
    name = canonical(dataset)
    if split not in info(name).splits:
        raise unknown_name(f"split of {name}", split, info(name).splits)
    source = open_source(name, root)
    if (reason := source.missing(split)) is not None:
        raise InputError(f"'{split}' of {info(name).title} cannot be read: {reason}")
    entries = source.entries(split)
    what = f"{name} {split}"
    check_unique(entries, what)
    for entry in entries:
        check_entry(entry, what)
    images = source.image_root()
    if images is None:
        raise InputError(f"the images of {info(name).title} are not here, whose sizes are needed", where=source.root)
    names = sorted({image for entry in entries for image in (entry.source, entry.target)})
    sizes = image_sizes(images, names)
    columns: dict[str, list] = {
        name: [] for name in ("sizes", "other_sizes", "boxes", "other_boxes", "grades", "azimuths")
    }
    points: list[np.ndarray] = []  # id, true x y, other x y, shown in this image, in the other
    for entry in entries:
        other_size, size = (
            known_size(entry, image, images, sizes).stored_size for image in (entry.source, entry.target)
        )
        found = source.annotation(entry, other_size, size)
        check_pair(entry, found, other_size, size, source.options.outside or source.outside)
        for column, value in (
            ("sizes", size),
            ("other_sizes", other_size),
            ("boxes", found.target_bbox or [np.nan] * 4),
            ("other_boxes", found.source_bbox or [np.nan] * 4),
            ("grades", found.grades),
            ("azimuths", found.azimuths),
        ):
            columns[column].append(value)
        points.append(_points(found))
    return _predictions(source, split, entries, columns, points)


def _points(found: Annotation) -> np.ndarray:
    """Rows of id, true point, other point, which images show it, and the id of its partner."""
    count = len(found.target_points)
    ids = np.full(count, -1) if found.keypoint_ids is None else np.array(found.keypoint_ids)
    partners = np.full(count, -1) if found.symmetric_ids is None else np.array(found.symmetric_ids)
    mutual = np.column_stack([ids, found.target_points, found.source_points, np.ones((count, 2)), partners])
    single = [
        (number, *((0, 0, x, y, 0, 1, -1) if in_source else (x, y, 0, 0, 1, 0, -1)))
        for number, x, y, in_source in found.unpaired
    ]
    rows = np.concatenate([mutual, np.array(single, float).reshape(-1, 8)])
    return rows if found.keypoint_ids is None else rows[np.argsort(rows[:, 0], kind="stable")]


def _predictions(
    source: Source, split: str, entries: list[Entry], columns: dict[str, list], points: list[np.ndarray]
) -> Predictions:
    rows = np.concatenate(points)
    categories = np.array([entry.category for entry in entries])
    return Predictions(
        pair_ids=np.array([entry.pair_id for entry in entries]),
        categories=categories,
        sizes=np.array(columns["sizes"]),
        other_sizes=np.array(columns["other_sizes"]),
        boxes=np.array(columns["boxes"], float),
        other_boxes=np.array(columns["other_boxes"], float),
        true=rows[:, 1:3],
        predicted=np.full((len(rows), 2), np.nan),
        other=rows[:, 3:5],
        offsets=np.concatenate([[0], np.cumsum([len(each) for each in points])]).astype(np.int64),
        info=PredictionInfo(source.name, split, "", 0, "", "", "forward"),
        ids=rows[:, 0].astype(int),
        true_visible=rows[:, 5] > 0,
        other_visible=rows[:, 6] > 0,
        symmetric_ids=rows[:, 7].astype(int),
        azimuths=np.array(columns["azimuths"], int),
        grades=np.array(columns["grades"], int),
        images=np.array([[entry.source, entry.target] for entry in entries]),
    )
