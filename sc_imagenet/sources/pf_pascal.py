"""PF-PASCAL (Ham et al., TPAMI 2018): pair lists joined with annotations and images.

    {train,val,test}_pairs.csv   NCNet's lists, or {trn,val,test}_pairs.csv of the DHPF-style package:
                                 source path, target path, class 1..20, then flip (train) or
                                 XA, YA, XB, YB, ';'-separated (NCNet's test list only); with a header or without
    Annotations/<class>/<image>.mat   ``kps`` (K, 2), NaN = absent; ``bbox``, row 0 = xyxy
    JPEGImages/<image>.jpg

Points are those of the list where it has some (NCNet's test list), else those of the .mat files, which have the
boxes, too; without them a pair has none. A point counts where both images have it.

Origin. Both files hold MATLAB's pixels, which count from 1; stored here 0-based.

Frame. Both are in the images as PF-PASCAL ships them, resized to a longer side of 300 px (no coordinate of the
lists exceeds 300, while VOC's own files are 500 px long). In VOC's files, wherever they lie, they are scaled by
(longer side / 300); left unscaled they would be inside the image and silently wrong.

``mirrored`` are the rows with flip = 1; the stored points are those of the image as it lies on disk.
``test_clean`` are the test pairs that are not training pairs too, in either order (95 of 299 are).
"""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np

from sc_imagenet.core.errors import InputError
from sc_imagenet.sources.source import (
    Annotation,
    DataSet,
    Entry,
    Mirror,
    Size,
    Source,
    first_existing,
    lacking,
    strangers,
)
from sc_imagenet.sources.tables import numbers, read_mat, read_rows

CATEGORIES = (
    "aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair", "cow", "diningtable",
    "dog", "horse", "motorbike", "person", "pottedplant", "sheep", "sofa", "train", "tvmonitor",
)  # fmt: skip
LISTS = {"train": ("train", "trn"), "validation": ("val",), "test": ("test",), "test_clean": ("test",)}
LONGER_SIDE = 300  # of the images the points were annotated on
VOC_ROOT = "VOC_ROOT"

_NCNET_LISTS = "https://raw.githubusercontent.com/ignacio-rocco/ncnet/master/datasets/pf-pascal/image_pairs"

DATA_SET = DataSet(
    name="pf-pascal",
    threshold="img",
    title="PF-PASCAL",
    paper="Ham et al., TPAMI 2018",
    licence="Flickr terms of the PASCAL VOC images; annotations for research",
    homepage="https://www.di.ens.fr/willow/research/proposalflow/",
    splits=("train", "validation", "test", "test_clean"),
    pairs={"train": 2940, "validation": 308, "test": 299, "test_clean": 204},
    images=None,
    classes=20,
    points="4 to 17",
    manual=(
        "1. Fetch PF-dataset-PASCAL.zip from the homepage; unpack it so that pf-pascal/JPEGImages "
        "lies in your data root.\n"
        "2. Put NCNet's train_pairs.csv, val_pairs.csv and test_pairs.csv beside it (in its "
        "repository ignacio-rocco/ncnet, folder datasets/pf-pascal/image_pairs).\n"
        "Or, the package that DHPF, CATs and others use, from Google Drive: pip install gdown, then "
        "gdown 1OOwpGzJnTsFXYh-YffMQ9XKM_Kl_zdzg, and unpack it in the same way."
    ),
    mirrors=(
        Mirror(
            "https://www.di.ens.fr/willow/research/proposalflow/dataset/PF-dataset-PASCAL.zip",
            archive="zip",
            holds="JPEGImages",
        ),
        *(Mirror(f"{_NCNET_LISTS}/{split}_pairs.csv") for split in ("train", "val", "test")),
    ),
    folders=("PF-PASCAL", "PF-dataset-PASCAL", "pf_pascal"),
    layout=(
        "pf-pascal/{train,val,test}_pairs.csv (or {trn,val,test}_pairs.csv)\n"
        "pf-pascal/Annotations/<class>/<image>.mat\n"
        "pf-pascal/JPEGImages/<image>.jpg (or a PASCAL VOC folder named by $VOC_ROOT)"
    ),
)


class PfPascal(Source):
    """PF-PASCAL from either package."""

    name = "pf-pascal"
    version = 3

    def missing(self, split: str) -> str | None:
        if why := lacking(self._list(split) or self.root / f"{LISTS[split][0]}_pairs.csv"):
            return why
        if split == "test_clean" and self._list("train") is None:
            return f"{self.root / 'train_pairs.csv'} is not there, which tells which test pairs are clean"
        if not self._has_points(split) and not (self.root / "Annotations").is_dir():
            return (
                f"the pair list of '{split}' holds no points and {self.root / 'Annotations'} is not there: "
                "its points are in Annotations/<class>/<image>.mat of the PF-PASCAL package"
            )
        if self.image_root() is None:
            return (
                f"its images are not at hand: neither {self.root / 'JPEGImages'} nor a PASCAL VOC folder "
                f"(voc_dir=FOLDER or {VOC_ROOT}, a folder with JPEGImages) is there"
            )
        return None

    def categories(self) -> tuple[str, ...]:
        return CATEGORIES

    def image_root(self) -> Path | None:
        given = self.options.voc_dir or os.environ.get(VOC_ROOT)
        if self.options.voc_dir is None and (self.root / "JPEGImages").is_dir():
            return self.root / "JPEGImages"
        base = Path(given).expanduser() if given else self.root
        years = [base / kit / f"VOC{year}" for kit in ("VOCdevkit", ".") for year in (2012, 2011)]
        folder = first_existing(*(place / "JPEGImages" for place in (base, *years)))
        if folder is None and self.options.voc_dir is not None:
            if base.is_dir() and base.name == "JPEGImages":
                return base
            raise InputError("holds no JPEGImages", where=base, fix="Give voc_dir the VOC folder that has JPEGImages.")
        return folder

    def entries(self, split: str) -> list[Entry]:
        where = self._list(split)
        assert where is not None  # missing() was asked before
        has_points = self._has_points(split)
        entries = []
        for position, (line, row) in enumerate(read_rows(where, columns=3), start=1):
            source, target = (Path(path.strip()).name for path in row[:2])
            number = row[2].strip()
            if not (number.isdecimal() and len(number) < 3 and 1 <= int(number) <= len(CATEGORIES)):
                raise InputError(f"line {line}: class {number[:20]!r} is not 1 to 20", where=where)
            category = CATEGORIES[int(number) - 1]
            points = row[3:7] if has_points else []
            if has_points and len(points) < 4:
                raise InputError(f"line {line} has no XA, YA, XB, YB as the first has", where=where)
            mirrored = not has_points and len(row) > 3 and row[3].strip() == "1"
            pair_id = f"{position:04d}-{Path(source).stem}-{Path(target).stem}:{category}"
            entries.append(Entry(pair_id, category, source, target, (where, line, points), mirrored))
        if split == "test_clean":
            seen = {frozenset((pair.source, pair.target)) for pair in self.entries("train")}
            entries = [pair for pair in entries if frozenset((pair.source, pair.target)) not in seen]
        return entries

    def annotation(self, entry: Entry, source_size: Size | None, target_size: Size | None) -> Annotation:
        files = [self._mat(entry.category, image) for image in (entry.source, entry.target)]
        listed = bool(entry.annotation[2])
        where = "{} line {}".format(*entry.annotation) if listed else files[0]
        ids: list[int] | None = None  # the list of points does not tell which they are
        alone: list[list[int]] = [[], []]
        if listed:
            points = _listed(entry)
        else:
            marked = _annotated(entry, files)
            shown = [~np.isnan(each).any(1) for each in marked]
            both = shown[0] & shown[1]
            points, ids = [each[both] for each in marked], np.flatnonzero(both).tolist()
            alone = [np.flatnonzero(each & ~both).tolist() for each in shown]
        boxes = [read_mat(file, "bbox").reshape(-1)[:4] if not listed or file.exists() else None for file in files]
        scales = [self._scale(size) for size in (source_size, target_size)]
        source, target = (((side - 1) * scale).tolist() for side, scale in zip(points, scales))
        source_box, target_box = (
            None if box is None else ((box - 1) * scale).tolist() for box, scale in zip(boxes, scales)
        )
        unpaired = tuple(
            (number, *((marked[side][number] - 1) * scales[side]).tolist(), side == 0)
            for side in (0, 1)
            for number in alone[side]
        )
        return Annotation(source, target, where, source_box, target_box, keypoint_ids=ids, unpaired=unpaired)

    def _scale(self, size: Size | None) -> float:
        """From the images that were annotated to one of ``size``."""
        if size is None:
            return 1.0
        own = self.image_root() == self.root / "JPEGImages"  # a small one there was never enlarged
        return 1.0 if own and max(size) <= LONGER_SIDE else max(size) / LONGER_SIDE

    def fingerprint(self, split: str) -> tuple[list[Path], list[Path]]:
        lists = [path for name in LISTS if (path := self._list(name)) is not None]
        folders = [self.root / "Annotations" / category for category in CATEGORIES]
        images = self.image_root()
        return sorted(set(lists)), [*folders, *([images] if images else [])]

    def strays(self) -> list[Path]:
        annotations = self.root / "Annotations"
        return [
            *strangers(annotations, names=CATEGORIES),
            *(path for category in CATEGORIES for path in strangers(annotations / category, (".mat",))),
            *strangers(self.root / "JPEGImages", (".jpg",)),
        ]

    def _list(self, split: str) -> Path | None:
        names = LISTS[split]
        endings = ("_pairs.csv", "_pairs_pf_pascal.csv")
        return first_existing(*(self.root / f"{name}{ending}" for ending in endings for name in names))

    def _has_points(self, split: str) -> bool:
        """Whether the list has points: NCNet's test list has them in four columns after the class."""
        where = self._list(split)
        return where is not None and len(read_rows(where, columns=3)[0][1]) >= 7

    def _mat(self, category: str, image: str) -> Path:
        return self.root / "Annotations" / category / f"{Path(image).stem}.mat"


def _listed(entry: Entry) -> list[np.ndarray]:
    """The points (K, 2) of both images that a pair's line holds, as MATLAB counts pixels."""
    where, line, columns = entry.annotation
    x_a, y_a, x_b, y_b = (np.array(numbers(column.split(";"), where, line)) for column in columns)
    if not len(x_a) == len(y_a) == len(x_b) == len(y_b):
        raise InputError(
            f"line {line} (pair {entry.pair_id}) has {len(x_a)}, {len(y_a)}, {len(x_b)}, {len(y_b)} "
            "coordinates in XA, YA, XB, YB; they must be as many",
            where=where,
        )
    return [np.stack([x_a, y_a], 1), np.stack([x_b, y_b], 1)]


def _annotated(entry: Entry, files: list[Path]) -> list[np.ndarray]:
    """The points (K, 2) of both images' .mat files, as MATLAB counts pixels, NaN where one does not show it.

    A row is the same part in all images of a class.
    """
    source, target = (read_mat(file, "kps") for file in files)
    if source.shape != target.shape or source.ndim != 2 or source.shape[1] != 2:
        raise InputError(
            f"pair {entry.pair_id}: 'kps' is {source.shape} here and {target.shape} in "
            f"{files[1].name}; both must be (K, 2) with the same K",
            where=files[0],
        )
    return [source, target]
