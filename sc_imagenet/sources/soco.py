"""SOCO (ECCV 2026): rendered objects of 100 categories, points by name and by concept, within and across categories.

    Images/<category>/<image>.JPEG
    PairAnnotations/{intra,cross,trainsplits/train,trainsplits/test}/<group>/<pair>.json

A split is a folder of pairs, its groups and files in the order of their names. ``intra``, ``cross``, ``train`` and
``test`` have what SOCO's concept score takes: a source point is right at every target point that a concept which names
it has (``concept_matches``), ``further_targets`` where there are several. Those ending in ``_named`` have what its
semantic score takes: the points whose name the target has, too (``semantic_overlap``).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from sc_imagenet.core.errors import InputError, check_inside, check_name
from sc_imagenet.core.files import files_in, read_json
from sc_imagenet.sources.source import Annotation, DataSet, Entry, Mirror, Size, Source, lacking
from sc_imagenet.sources.tables import recorded_size

FOLDERS = {"intra": "intra", "cross": "cross", "train": "trainsplits/train", "test": "trainsplits/test"}
NAMED = "_named"
_HUB = "https://huggingface.co/datasets/GenIntelLab/SOCO/resolve/main"

DATA_SET = DataSet(
    name="soco",
    title="SOCO",
    paper="GenIntel, ECCV 2026",
    licence="CC BY 4.0; code MIT",
    homepage="https://huggingface.co/datasets/GenIntelLab/SOCO",
    splits=(*FOLDERS, *(f"{split}{NAMED}" for split in FOLDERS)),
    pairs={"intra": 20_000, "cross": 20_000, "train": 10_000, "test": 10_000},
    images=4_000,
    classes=100,
    points="varies",
    threshold="bbox",
    manual=(
        "1. Fetch Images.zip and PairAnnotations.zip from the homepage; unpack both so that soco/Images and "
        "soco/PairAnnotations lie in your data root."
    ),
    mirrors=(
        Mirror(f"{_HUB}/Images.zip", archive="zip", holds="Images"),
        Mirror(f"{_HUB}/PairAnnotations.zip", archive="zip", holds="PairAnnotations"),
    ),
    folders=("SOCO",),
    layout=(
        "soco/Images/<category>/<image>.JPEG\n"
        "soco/PairAnnotations/{intra,cross,trainsplits/train,trainsplits/test}/<group>/<pair>.json"
    ),
)


class Soco(Source):
    """SOCO's pairs, as its concept score or its semantic score takes them."""

    name = "soco"

    def missing(self, split: str) -> str | None:
        return lacking(self._pairs(split)) or lacking(self.root / "Images")

    def categories(self) -> tuple[str, ...]:
        folders = (self.root / "PairAnnotations" / "intra", self.root / "Images")
        found = {path.name for folder in folders if folder.is_dir() for path in folder.iterdir() if path.is_dir()}
        return tuple(sorted(found))

    def image_root(self) -> Path | None:
        return self.root / "Images"

    def entries(self, split: str) -> list[Entry]:
        kind = "semantic" if split.endswith(NAMED) else "concept"
        entries = []
        for group in sorted(path.name for path in self._pairs(split).iterdir() if path.is_dir()):
            for path in files_in(self._pairs(split) / group, ".json"):
                pair = read_json(path)
                if valid_targets(pair, kind, path):  # a pair without any has no share in the score
                    entries.append(_entry(pair, path, kind))
        return entries

    def annotation(self, entry: Entry, source_size: Size | None, target_size: Size | None) -> Annotation:
        path, kind = entry.annotation
        pair = read_json(path)
        valid = valid_targets(pair, kind, path)
        try:
            source, target = (
                {each["name"]: _point(each["pos"]) for each in pair[f"{side}_keypoints"]} for side in ("src", "trg")
            )
            ids = {each["name"]: int(each["id"]) for each in pair["src_keypoints"]}
            source_box, target_box = (_box(pair, side) for side in ("src", "trg"))
            sizes = [recorded_size(pair[f"{side}_imsize"]) for side in ("src", "trg")]
            further = [[target[name] for name in names[1:]] for names in valid.values()]
            across = pair["src_category"] != pair["trg_category"]
            return Annotation(
                [source[name] for name in valid],
                [target[names[0]] for names in valid.values()],
                path,
                source_box,
                target_box,
                keypoint_ids=None if across else [ids[name] for name in valid],
                keypoint_names=None if across else list(valid),
                further_targets=further if any(further) else None,
                source_category=str(pair["src_category"]) if across else None,
                annotated_source_size=sizes[0],
                annotated_target_size=sizes[1],
            )
        except (KeyError, TypeError, ValueError, OverflowError) as error:
            raise InputError(f"is not a pair of SOCO's ({error!r:.80})", where=path) from error

    def fingerprint(self, split: str) -> tuple[list[Path], list[Path]]:
        return [], [self._pairs(split), self.root / "Images"]

    def _pairs(self, split: str) -> Path:
        return self.root / "PairAnnotations" / FOLDERS[split.removesuffix(NAMED)]


def valid_targets(pair: Mapping[str, Any], kind: str, where: object) -> dict[str, list[str]]:
    """The names of the right targets of each source point that has any, the one of its own name first.

    Raises:
        InputError: not a pair of SOCO's.
    """
    try:
        if kind == "semantic":
            return {str(name): [str(name)] for name in pair["semantic_overlap"]}
        found: dict[str, list[str]] = {str(each["name"]): [] for each in pair["src_keypoints"]}
        for group in pair["concept_matches"]:
            for name in group["src_keypoints"]:
                found[name] += [target for target in group["trg_keypoints"] if target not in found[name]]
    except (KeyError, TypeError) as error:
        raise InputError(f"is not a pair of SOCO's ({error!r:.80})", where=where) from error
    return {name: sorted(names, key=lambda each: each != name) for name, names in found.items() if names}


def _entry(pair: Mapping[str, Any], path: Path, kind: str) -> Entry:
    try:
        source, target = (check_name("class", pair[f"{side}_category"], path) for side in ("src", "trg"))
        images = [check_inside(pair[f"{side}_image"], path) for side in ("src", "trg")]
        group = check_name("group", pair.get("pair_group", source), path)
        pair_id = f"{pair['pair_id']}:{group}"
    except (KeyError, TypeError, AttributeError) as error:
        raise InputError(f"is not a pair of SOCO's ({error!r:.80})", where=path) from error
    return Entry(pair_id, target, f"{source}/{images[0]}", f"{target}/{images[1]}", (path, kind))


def _point(position: Sequence[Any]) -> list[float]:
    x, y = position
    return [float(x), float(y)]


def _box(pair: Mapping[str, Any], side: str) -> list[float]:
    """The object's box, of which there is none for some images: then the image itself, as SOCO's evaluation has it."""
    width, height = pair[f"{side}_imsize"]
    return [float(each) for each in pair[f"{side}_bndbox"] or (0, 0, width, height)]
