"""DIY-SC (Duenkel et al., 2025): pseudo-labels for SPair-71k's images.

    {trn,val}/<category>_anns.pt     a list of entries, as the authors write it with torch.save
    {trn,val}/<category>_<...>.json  the same, or one entry a file; not read where the category has its .pt
    JPEGImages/<category>/           SPair-71k's images: here, or in a spair-71k folder beside this one

An entry has src_imname, trg_imname, num_kps, source_kps, target_kps, img_size_kps: points (x, y) in a square
of side S = img_size_kps in which the image lies centred with its proportions kept; so x = (x' - offset) /
scale with scale = S / longer side and offset = (S - shorter side * scale) / 2, whole pixels. The points are
corners of a grid of patches over that square, so those of patches at the rim of the object may lie in the
padding, outside the image: they are counted and kept. A point outside the square means another square than S.
src_imsize and tgt_imsize, (width, height), are the images' sizes then. ``flip`` marks a mirrored target only; such
entries have no place in a schema that mirrors both images and are refused.
"""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Any

from sc_imagenet.core.errors import InputError
from sc_imagenet.core.files import FileState, files_in, read_json, state_of
from sc_imagenet.core.locks import watched
from sc_imagenet.sources.source import Annotation, DataSet, Entry, Size, Source, first_existing, strangers
from sc_imagenet.sources.spair_71k import CATEGORIES
from sc_imagenet.sources.tables import recorded_size

FOLDERS = {"train": "trn", "validation": "val"}

DATA_SET = DataSet(
    name="diy-sc",
    title="DIY-SC",
    paper="Duenkel et al., ICCV 2025",
    licence="CC0-1.0; images: as SPair-71k",
    homepage="https://genintel.github.io/DIY-SC",
    splits=("train",),
    pairs={},
    images=None,
    classes=18,
    points="varies",
    manual=(
        "1. Open the Google Drive folder linked under 'Generation of pseudo-labels' in the README at "
        "github.com/odunkel/DIY-SC (pip install gdown, then gdown --folder "
        "1nGjNsWpqbcqUJS-fNXU_41pMBMdE42Je) and put its files in your data root as "
        "diy-sc/{trn,val}/<category>_anns.pt (or .json).\n"
        "2. Its images are those of SPair-71k: scbench data download spair-71k."
    ),
    folders=("DIY-SC", "diy_sc"),
    layout="diy-sc/{trn,val}/<category>_anns.pt (or .json)\nspair-71k/JPEGImages/<category>/<image>.jpg",
)


class DiySc(Source):
    """DIY-SC with SPair-71k's images."""

    name = "diy-sc"
    version = 2
    outside = "keep"

    def missing(self, split: str) -> str | None:
        if not self._files(split):
            return f"{self.root / FOLDERS[split]} holds no <category>_anns.pt or <category>_anns.json"
        if self.image_root() is None:
            return (
                "SPair-71k's images are not at hand, which DIY-SC labels: neither "
                f"{self.root / 'JPEGImages'} nor {self.root.parent / 'spair-71k'} is there"
            )
        return None

    def categories(self) -> tuple[str, ...]:
        return CATEGORIES

    def image_root(self) -> Path | None:
        beside = (self.root.parent / name / "JPEGImages" for name in ("spair-71k", "SPair-71k", "spair_71k"))
        return first_existing(self.root / "JPEGImages", *beside)

    def entries(self, split: str) -> list[Entry]:
        entries: list[Entry] = []
        for path in self._files(split):
            category = _category(path)
            if category not in CATEGORIES:
                raise InputError(f"its name begins with no category of SPair-71k: {category!r}", where=path)
            for index, content in enumerate(_content(path)):
                if not isinstance(content, dict):
                    raise InputError(f"entry {index} is not an annotation", where=path)
                try:
                    source, target = str(content["src_imname"]), str(content["trg_imname"])
                except KeyError as error:
                    raise InputError(f"entry {index} has no key {error}", where=path) from error
                if content.get("flip"):
                    raise InputError(f"entry {index} mirrors its target only, which is not read", where=path)
                pair_id = f"{len(entries):06d}-{Path(source).stem}-{Path(target).stem}:{category}"
                images = (f"{category}/{source}", f"{category}/{target}")
                entries.append(Entry(pair_id, category, *images, (path, index)))
        return entries

    def annotation(self, entry: Entry, source_size: Size | None, target_size: Size | None) -> Annotation:
        path, index = entry.annotation
        content = _content(path)[index]
        try:
            side = float(content["img_size_kps"])
            source = [_unpad(point, side, source_size) for point in content["source_kps"]]
            target = [_unpad(point, side, target_size) for point in content["target_kps"]]
            sizes = recorded_size(content.get("src_imsize")), recorded_size(content.get("tgt_imsize"))
        except (KeyError, TypeError, ValueError, OverflowError, ZeroDivisionError) as error:
            raise InputError(f"entry {index} is not an annotation ({error})", where=path) from error
        return Annotation(
            source, target, f"{path} entry {index}", annotated_source_size=sizes[0], annotated_target_size=sizes[1]
        )

    def fingerprint(self, split: str) -> tuple[list[Path], list[Path]]:
        images = self.image_root()
        return [], [*self._files(split), *([images] if images else [])]

    def strays(self) -> list[Path]:
        return [
            path
            for split, folder in FOLDERS.items()
            for path in strangers(self.root / folder, names={file.name for file in self._files(split)})
        ]

    def _files(self, split: str) -> list[Path]:
        if split not in FOLDERS:
            return []
        files = [path for path in files_in(self.root / FOLDERS[split], ".pt", ".json") if "_" in path.stem]
        as_written = {_category(path) for path in files if path.suffix == ".pt"}
        return [path for path in files if path.suffix == ".pt" or _category(path) not in as_written]


def _category(path: Path) -> str:
    return path.stem.split("_")[0]


def _content(path: Path) -> list[Any]:
    return _read(path, state_of(path))


@functools.lru_cache(maxsize=2)  # a category has up to 30,000 entries, read one after the other
def _read(path: Path, state: FileState | None) -> list[Any]:
    content = _saved(path) if path.suffix == ".pt" else read_json(path)
    if isinstance(content, dict):
        return [content]
    if not isinstance(content, list) or not content:
        raise InputError("is not a list of annotations", where=path)
    return content


def _saved(path: Path) -> Any:
    from sc_imagenet.data.tensor_files import read_plain  # and with it torch, which JSON does without

    with watched(path):
        return read_plain(path, "a list of annotations", "<category>_anns.pt as DIY-SC's authors give it")


def _unpad(point: list[float], side: float, size: Size | None) -> list[float]:
    """From the padded square of side ``side`` to pixels of an image of ``size``; as they are where that is unknown.

    Raises:
        ValueError: the point lies outside the square.
    """
    x, y = map(float, point)
    if not (0 <= x <= side and 0 <= y <= side):
        raise ValueError(f"({x:g}, {y:g}) is not in a square of {side:g}")
    if size is None:
        return [x, y]
    width, height = size
    scale = side / max(size)
    left, top = (int((side - round(side * length / max(size))) / 2) for length in (width, height))
    return [(x - left) / scale, (y - top) / scale]
