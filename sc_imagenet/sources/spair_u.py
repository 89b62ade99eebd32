"""SPair-U (Jamais Vu: Mariotti et al., NeurIPS 2025): new keypoints on SPair-71k's images and test pairs.

    PairAnnotation/test/<SPair-71k's test pair>.json   for the pairs that have new keypoints
    ImageAnnotation/<category>/<image>.json            all its points by id; must agree with the pairs'
    JPEGImages/<category>/<image>.jpg                  SPair-71k's: here, or in a spair-71k folder beside this one

Its ids are its own: they are not SPair-71k's, and no published table of symmetric or look-alike points holds for them.
Jamais Vu reads points from the image annotations, MARCO from the pairs; that both are the same is checked.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from sc_imagenet.core.errors import InputError
from sc_imagenet.core.files import files_in
from sc_imagenet.sources.source import Annotation, DataSet, Entry, Mirror, Size, Source, first_existing, lacking
from sc_imagenet.sources.spair_71k import CATEGORIES, image_keypoints, split_pair_id
from sc_imagenet.sources.tables import read_pair_json

BESIDE = ("spair-71k", "SPair-71k", "spair_71k")

DATA_SET = DataSet(
    name="spair-u",
    title="SPair-U",
    paper="Mariotti et al., NeurIPS 2025",
    licence="labels: not stated by their authors; images: Flickr terms of PASCAL VOC",
    homepage="https://github.com/VICO-UoE/JamaisVu",
    splits=("test",),
    pairs={},
    images=None,
    classes=18,
    points="varies",
    threshold="bbox",
    manual=(
        "1. Fetch SPair-U.zip from groups.inf.ed.ac.uk/hbilen-data/data/JamaisVuData and unpack it so that "
        "spair-u/PairAnnotation lies in your data root.\n"
        "2. Its images are those of SPair-71k: scbench data download spair-71k."
    ),
    mirrors=(
        Mirror(
            "https://groups.inf.ed.ac.uk/hbilen-data/data/JamaisVuData/SPair-U.zip",
            archive="zip",
            holds="PairAnnotation",
        ),
    ),
    folders=("SPair-U", "spair_u"),
    layout=(
        "spair-u/PairAnnotation/test/<pair id>.json\n"
        "spair-u/ImageAnnotation/<class>/<image>.json\n"
        "spair-71k/JPEGImages/<class>/<image>.jpg"
    ),
)


class SpairU(Source):
    """SPair-U with SPair-71k's images."""

    name = "spair-u"

    def missing(self, split: str) -> str | None:
        if why := next((why for path in (self._pairs(), self._images()) if (why := lacking(path))), None):
            return why
        if self.image_root() is None:
            beside = self.root.parent / BESIDE[0] / "JPEGImages"
            return f"SPair-71k's images are not at hand: neither {self.root / 'JPEGImages'} nor {beside} is there"
        return None

    def categories(self) -> tuple[str, ...]:
        return CATEGORIES

    def image_root(self) -> Path | None:
        return first_existing(self.root / "JPEGImages", *(self.root.parent / name / "JPEGImages" for name in BESIDE))

    def entries(self, split: str) -> list[Entry]:
        entries = []
        for path in files_in(self._pairs(), ".json"):
            pair_id, source, target, category = split_pair_id(path.stem, path, 1)
            if category not in CATEGORIES:
                raise InputError(f"is named after an unknown category {category[:40]!r}", where=path)
            images = (f"{category}/{source}.jpg", f"{category}/{target}.jpg")
            entries.append(Entry(pair_id, category, *images, path))
        return entries

    def annotation(self, entry: Entry, source_size: Size | None, target_size: Size | None) -> Annotation:
        pair = read_pair_json(entry.annotation)
        if pair.keypoint_ids is None:
            raise InputError("has no kps_ids, which tell its points from SPair-71k's", where=entry.annotation)
        shown, there = (
            image_keypoints(self._images() / entry.category / f"{Path(image).stem}.json")[0]
            for image in (entry.source, entry.target)
        )
        mutual = sorted(set(shown) & set(there))
        listed = {
            number: (tuple(one), tuple(two))
            for number, one, two in zip(pair.keypoint_ids, pair.source_points, pair.target_points)
        }
        if listed != {number: (shown[number], there[number]) for number in mutual}:
            raise InputError(
                f"pair {entry.pair_id} has other points than the annotations of its images have in common: protocols "
                "that read the one and the other score different points",
                where=entry.annotation,
                fix="Get the archive again; if its copy has it so, the pair cannot be scored.",
            )
        alone = [(number, *shown[number], True) for number in sorted(set(shown) - set(there))]
        alone += [(number, *there[number], False) for number in sorted(set(there) - set(shown))]
        return replace(pair, unpaired=tuple(alone))

    def fingerprint(self, split: str) -> tuple[list[Path], list[Path]]:
        images = self.image_root()
        return [], [self._pairs(), self._images(), *([images] if images else [])]

    def _pairs(self) -> Path:
        return self.root / "PairAnnotation" / "test"

    def _images(self) -> Path:
        return self.root / "ImageAnnotation"
