"""The one schema of a semantic correspondence pair, whatever data set it comes from.

Points are (x, y) in ORIGINAL pixels of the image, 0-based, and only those visible in both images;
row k of ``source_points`` and row k of ``target_points`` are the same semantic point.

The image is what ``sc_imagenet.data.images.open_image`` gives: upright, turned as its EXIF orientation says. Everything
that opens an image does it so: these columns, models in training and evaluation, ``match``, pictures, the generator,
and also plain ``datasets``, should columns have been saved and loaded without this package. Published data sets are
annotated in pixels as stored, without heeding EXIF; their points, boxes and sizes are turned when they are converted
(where the images are not at hand nothing is known of EXIF: they stay as published). SPair-style JSON is the one
form that stays in pixels as stored, as its readers expect.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from datasets import ClassLabel, Features, Image, List, Value

from sc_imagenet.data.images import open_image

POINT = List(Value("float32"), length=2)  # x, y
BOX = List(Value("float32"), length=4)  # x_min, y_min, x_max, y_max
SIZE = List(Value("int32"), length=2)  # width, height
UNKNOWN = -1  # of viewpoint_variation, scale_variation, truncation, occlusion


class UprightImage(Image):
    """``datasets.Image``, decoded by ``open_image``: upright RGB whatever the file is, or one line for a damaged one.

    Stored as ``datasets.Image`` is. Features read back from a file are that: upright as well, in the file's own mode.
    """

    def decode_example(self, value: Any, token_per_repo_id: Any = None) -> Any:
        """A cell as an RGB image; ``filename`` is its path where it has one, as for an image that Pillow opened.

        Raises:
            InputError: the file is missing or cannot be decoded.
        """
        path: Any
        path, content = (value["path"], value["bytes"]) if isinstance(value, dict) else (None, None)
        if not self.decode or (content is None and (path is None or "://" in path)):  # decoded, or on the Hub
            return super().decode_example(value, token_per_repo_id)
        image: Any = open_image(path if content is None else content, name=path)
        if content is None:
            image.filename = path  # by which ``datasets`` writes it again, instead of by its pixels
        return image

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Image) and (self.mode, self.decode) == (other.mode, other.decode)


def pair_features(categories: Sequence[str]) -> Features:
    """The columns of a pair; ``categories`` are the class names in the data set's published order.

    ``source``/``target``   images, decoded when read, ``path`` kept
    ``source_size``         (width, height) of the upright image; null where the image is not at hand
    ``source_bbox``         object box, null where the data set has none
    ``mirrored``            both images and their points are to be mirrored before use (PF-PASCAL's flip
                            rows); the stored points are those of the image before
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
            "source": UprightImage(),
            "target": UprightImage(),
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


def upright_images(features: Features) -> Features:
    """The same columns where images are decoded by ``open_image``, as ``pair_features`` has them.

    >>> type(upright_images(Features({"photo": Image()}))["photo"]).__name__
    'UprightImage'
    """
    return Features(
        {
            name: UprightImage(kind.mode) if isinstance(kind, Image) and kind.decode else kind
            for name, kind in features.items()
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
            "image": UprightImage(),
            "size": SIZE,
        }
    )
