"""AP-10K as a laboratory's own notebook prepared it: its folders, and its list of pairs.

    ImageAnnotation/<family>/<species>/<12 digits>.json   COCO's annotation and image in one
    JPEGImages/<family>/<species>/<12 digits>.jpg
    PairAnnotation/{trn,val,test}[_cross_species|_cross_family]/<source>-<target>:<group>.json
                                                          src_json_path, trg_json_path

Which pairs there are depends on the file system that the notebook ran on, or on no seed at all, so scores on two such
folders are not those of one benchmark: ``scbench data compare-lists A B`` tells how far two lists overlap. ``ap-10k``
has the pairs that are the same everywhere.
"""

from __future__ import annotations

import functools
from dataclasses import replace
from pathlib import Path, PurePosixPath
from typing import Any

from sc_imagenet.core.errors import InputError, check_inside, check_name
from sc_imagenet.core.files import FileState, files_in, read_json, state_of
from sc_imagenet.sources import ap_10k
from sc_imagenet.sources.ap_10k import Photograph, annotated, pair_annotation
from sc_imagenet.sources.ap_10k_pairs import Animal
from sc_imagenet.sources.source import Annotation, Entry, Size, Source, lacking

SHORT = {"train": "trn", "validation": "val", "test": "test"}

DATA_SET = replace(
    ap_10k.DATA_SET,
    name="ap-10k-prepared",
    title="AP-10K correspondence, a laboratory's own pairs",
    paper="Yu et al., 2021; pairs: as prepared",
    folders=(),
    manual="Copy the folder that prepare_ap10k.ipynb or preprocess_ap10k.py made as ap-10k-prepared in your data root.",
    layout=(
        "ap-10k-prepared/PairAnnotation/{trn,val,test}[_cross_species|_cross_family]/<pair>.json\n"
        "ap-10k-prepared/ImageAnnotation/<family>/<species>/<image>.json\n"
        "ap-10k-prepared/JPEGImages/<family>/<species>/<image>.jpg"
    ),
)


class Ap10kPrepared(Source):
    """The pairs in the order of their file names."""

    name = "ap-10k-prepared"

    def missing(self, split: str) -> str | None:
        needed = (self._pairs(split), self.root / "ImageAnnotation", self.root / "JPEGImages")
        return next((why for path in needed if (why := lacking(path))), None)

    def categories(self) -> tuple[str, ...]:
        # The species are 54 and all annotated; the folder of annotations is the one list of them that is here.
        found = {path.name for path in sorted((self.root / "ImageAnnotation").glob("*/*")) if path.is_dir()}
        return tuple(sorted(found))

    def image_root(self) -> Path | None:
        return self.root

    def entries(self, split: str) -> list[Entry]:
        return [self._entry(path) for path in files_in(self._pairs(split), ".json")]

    def annotation(self, entry: Entry, source_size: Size | None, target_size: Size | None) -> Annotation:
        source, target = entry.annotation
        return pair_annotation(source, target, self.root / "PairAnnotation")

    def fingerprint(self, split: str) -> tuple[list[Path], list[Path]]:
        return [], [self._pairs(split), self.root / "ImageAnnotation", self.root / "JPEGImages"]

    def _entry(self, path: Path) -> Entry:
        content = read_json(path)
        try:
            places = [_below(str(content[key]), path) for key in ("src_json_path", "trg_json_path")]
        except (KeyError, TypeError) as error:
            raise InputError(f"is not a pair of AP-10K ({error})", where=path) from error
        one, two = (self._photograph(place) for place in places)
        return Entry(path.stem, two.animal.species, one.file, two.file, (one, two))

    def _photograph(self, place: str) -> Photograph:
        path = self.root / "ImageAnnotation" / place
        return _read(path, place, state_of(path))

    def _pairs(self, split: str) -> Path:
        part, _, kind = split.partition("_")
        return self.root / "PairAnnotation" / (f"{SHORT[part]}_{kind}" if kind else SHORT[part])


def _below(path: str, where: Path) -> str:
    """The part of a path below ImageAnnotation: what lies before is the place of the laboratory's own copy."""
    parts = PurePosixPath(path).parts
    if "ImageAnnotation" not in parts:
        raise InputError(f"names {path[:80]!r}, which leads through no ImageAnnotation", where=where)
    return check_inside("/".join(parts[parts.index("ImageAnnotation") + 1 :]), where)


@functools.lru_cache(maxsize=16384)  # each image is in many pairs
def _read(path: Path, place: str, state: FileState | None) -> Photograph:
    content: Any = read_json(path)
    try:
        family, species, file = place.split("/")
        check_name("species", species, path)
        size, box, points = annotated(content, content)
        animal = Animal(int(file.removesuffix(".json")), family, species, tuple(v for *_, v in points))
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(f"is not an image annotation of AP-10K ({error})", where=path) from error
    image = f"JPEGImages/{family}/{species}/{animal.stem}.jpg"
    return Photograph(animal, image, size, box, points)
