"""The one schema of a semantic correspondence pair, whatever data set it comes from.

Points are (x, y) in ORIGINAL pixels of the image file, 0-based, and only those visible in both images;
row k of ``source_points`` and row k of ``target_points`` are the same semantic point.
"""

from __future__ import annotations

from collections.abc import Sequence

from datasets import ClassLabel, Features, Image, List, Value

POINT = List(Value("float32"), length=2)  # x, y
BOX = List(Value("float32"), length=4)  # x_min, y_min, x_max, y_max
SIZE = List(Value("int32"), length=2)  # width, height
UNKNOWN = -1  # of viewpoint_variation, scale_variation, truncation, occlusion


def pair_features(categories: Sequence[str]) -> Features:
    """The columns of a pair; ``categories`` are the class names in the data set's published order.

    ``source``/``target``   images, decoded when read, ``path`` kept
    ``source_size``         (width, height) of the file; null where the image is not at hand
    ``source_bbox``         object box, null where the data set has none
    ``mirrored``            both images and their points are to be mirrored before use (PF-PASCAL's flip
                            rows); the stored points are those of the image as it lies on disk
    ``viewpoint_variation`` and its three companions: SPair-71k's difficulty grades, or -1
    ``confidence``, ``loop_offset``, ``pair_score``: generated pairs only, else null

    >>> list(pair_features(["cat"]))[:5]
    ['pair_id', 'dataset', 'category', 'source', 'target']
    """
    return Features(
        {
            "pair_id": Value("string"),
            "dataset": Value("string"),
            "category": ClassLabel(names=list(categories)),
            "source": Image(),
            "target": Image(),
            "source_size": SIZE,
            "target_size": SIZE,
            "source_points": List(POINT),
            "target_points": List(POINT),
            "source_bbox": BOX,
            "target_bbox": BOX,
            "mirrored": Value("bool"),
            "viewpoint_variation": Value("int8"),
            "scale_variation": Value("int8"),
            "truncation": Value("int8"),
            "occlusion": Value("int8"),
            "confidence": List(Value("float32")),
            "loop_offset": List(Value("float32")),
            "pair_score": Value("float32"),
        }
    )


def without_images(features: Features) -> Features:
    """The same columns where the images may be elsewhere: a cell is its path, and nothing opens it.

    >>> without_images(pair_features(["cat"]))["source"].decode
    False
    """
    return Features({name: Image(decode=False) if isinstance(kind, Image) else kind for name, kind in features.items()})


def image_features(categories: Sequence[str]) -> Features:
    """The columns of an image listing: one row an image, no pairs."""
    return Features(
        {
            "image_id": Value("string"),
            "dataset": Value("string"),
            "category": ClassLabel(names=list(categories)),
            "image": Image(),
            "size": SIZE,
        }
    )
