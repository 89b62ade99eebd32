"""SPair-71k (Min et al., 2019).

    Layout/large/{trn,val,test}.txt           one ``<n>-<source>-<target>:<category>`` a line
    PairAnnotation/{trn,val,test}/<line>.json
    ImageAnnotation/<category>/<image>.json   points that one image alone shows, and azimuths; may be left out
    JPEGImages/<category>/<source>.jpg

Copies made for Windows write '-' for ':' in file names, some in the lists too; both are read.
"""

from __future__ import annotations

import functools
from dataclasses import replace
from pathlib import Path

from sc_imagenet.core.errors import InputError
from sc_imagenet.core.files import FileState, read_json, state_of
from sc_imagenet.sources.source import Annotation, DataSet, Entry, Mirror, Size, Source, lacking, strangers
from sc_imagenet.sources.tables import read_lines, read_pair_json

CATEGORIES = (
    "aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair", "cow", "dog", "horse",
    "motorbike", "person", "pottedplant", "sheep", "train", "tvmonitor",
)  # fmt: skip
FOLDERS = {"train": "trn", "validation": "val", "test": "test"}

DATA_SET = DataSet(
    name="spair-71k",
    threshold="bbox",
    title="SPair-71k",
    paper="Min et al., 2019",
    licence="Flickr terms of the PASCAL VOC images; annotations for research",
    homepage="https://cvlab.postech.ac.kr/research/SPair-71k/",
    splits=("train", "validation", "test"),
    pairs={"train": 53_340, "validation": 5_384, "test": 12_234},
    images=1_800,
    classes=18,
    points="3 to 30",
    manual=(
        "1. Fetch SPair-71k.tar.gz from the homepage; unpack it so that spair-71k/Layout lies in "
        "your data root.\n"
        "Or, from Google Drive: pip install gdown, then gdown 1KSvB0k2zXA06ojWNvFjBv0Ake426Y76k, and "
        "unpack it in the same way."
    ),
    mirrors=(
        Mirror(
            "https://cvlab.postech.ac.kr/research/SPair-71k/data/SPair-71k.tar.gz",
            archive="tar",
            holds="Layout",
        ),
    ),
    folders=("SPair-71k", "spair_71k"),
    layout=(
        "spair-71k/Layout/large/{trn,val,test}.txt\n"
        "spair-71k/PairAnnotation/{trn,val,test}/<pair id>.json\n"
        "spair-71k/JPEGImages/<class>/<image>.jpg"
    ),
)


class Spair71k(Source):
    """SPair-71k; no points are shifted, boxes and points are stored as its files have them."""

    name = "spair-71k"
    version = 3

    def missing(self, split: str) -> str | None:
        needed = (self._list(split), self._annotations(split), self.root / "JPEGImages")
        return next((why for path in needed if (why := lacking(path))), None)

    def categories(self) -> tuple[str, ...]:
        return CATEGORIES

    def image_root(self) -> Path | None:
        return self.root / "JPEGImages"

    def entries(self, split: str) -> list[Entry]:
        where = self._list(split)
        entries = []
        for number, line in enumerate(read_lines(where), start=1):
            pair_id, source, target, category = split_pair_id(line, where, number)
            if category not in CATEGORIES:
                raise InputError(f"line {number}: unknown category {category!r}", where=where)
            entries.append(Entry(pair_id, category, f"{category}/{source}.jpg", f"{category}/{target}.jpg", split))
        return entries

    def annotation(self, entry: Entry, source_size: Size | None, target_size: Size | None) -> Annotation:
        pair = read_pair_json(pair_file(self._annotations(entry.annotation), entry.pair_id))
        images = [self._image(entry.category, name) for name in (entry.source, entry.target)]
        if pair.keypoint_ids is None or not all(path.exists() for path in images):
            return pair
        (shown, azimuth), (there, target_azimuth) = (image_keypoints(path) for path in images)
        mutual = set(pair.keypoint_ids)
        return replace(
            pair,
            unpaired=(
                *((number, *shown[number], True) for number in sorted(set(shown) - mutual)),
                *((number, *there[number], False) for number in sorted(set(there) - mutual)),
            ),
            azimuths=(azimuth, target_azimuth),
        )

    def fingerprint(self, split: str) -> tuple[list[Path], list[Path]]:
        folders = ("JPEGImages", "ImageAnnotation")
        return [self._list(split)], [self._annotations(split), *(self.root / name for name in folders)]

    def _image(self, category: str, image: str) -> Path:
        return self.root / "ImageAnnotation" / category / f"{Path(image).stem}.json"

    def strays(self) -> list[Path]:
        images = self.root / "JPEGImages"
        return [
            *strangers(images, names=CATEGORIES),
            *(path for category in CATEGORIES for path in strangers(images / category, (".jpg",))),
            *strangers(self.root / "PairAnnotation", names=FOLDERS.values()),
            *(path for split in FOLDERS for path in unlisted(self._annotations(split), self._list(split))),
        ]

    def _list(self, split: str) -> Path:
        return self.root / "Layout" / "large" / f"{FOLDERS[split]}.txt"

    def _annotations(self, split: str) -> Path:
        return self.root / "PairAnnotation" / FOLDERS[split]


def image_keypoints(path: Path) -> tuple[dict[int, tuple[float, float]], int]:
    """The visible points of an image by their ids, and its azimuth.

    Raises:
        InputError: missing, truncated, or not an image annotation.
    """
    return _image_keypoints(path, state_of(path))


@functools.lru_cache(maxsize=4096)  # each image is in many pairs
def _image_keypoints(path: Path, state: FileState | None) -> tuple[dict[int, tuple[float, float]], int]:
    content = read_json(path)
    try:
        points = {int(number): (float(p[0]), float(p[1])) for number, p in content["kps"].items() if p is not None}
        azimuth = content.get("azimuth_id")
        return points, -1 if azimuth is None else int(azimuth)
    except (KeyError, TypeError, ValueError, IndexError, AttributeError, OverflowError) as error:
        raise InputError(f"is not an image annotation ({error})", where=path, fix="Get the file again.") from error


def unlisted(annotations: Path, pairs: Path) -> list[Path]:
    """What lies in a folder of annotations and is that of no pair of the list, where there is one."""
    if lacking(pairs):
        return []
    files = {f"{line.replace(':', '-')}.json" for line in read_lines(pairs)}
    return [path for path in strangers(annotations) if path.name.replace(":", "-") not in files]


def split_pair_id(line: str, where: Path, number: int) -> tuple[str, str, str, str]:
    """(pair id with ':', source, target, category) of a line of a list.

    >>> split_pair_id("000002-2008_001546-2008_005078-aeroplane", Path("val.txt"), 1)[0]
    '000002-2008_001546-2008_005078:aeroplane'

    Raises:
        InputError: the line has not these four parts; the list is damaged.
    """
    parts = line.replace(":", "-").split("-")
    if len(parts) != 4 or not all(parts):
        raise InputError(
            f"line {number} is not '<n>-<source>-<target>:<category>' but {line[:80]!r}",
            where=where,
            fix="Get the file again.",
        )
    count, source, target, category = parts
    return f"{count}-{source}-{target}:{category}", source, target, category


def pair_file(folder: Path, pair_id: str) -> Path:
    """The annotation file of a pair, whichever of ':' and '-' its name is written with."""
    path = folder / f"{pair_id}.json"
    if path.exists():
        return path
    windows = folder / f"{pair_id.replace(':', '-')}.json"
    return windows if windows.exists() else path
