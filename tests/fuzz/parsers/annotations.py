"""Annotations of data sets: SPair-style JSON, pair lists, CSV, .mat."""

from __future__ import annotations

import io
import json
import tempfile
from collections.abc import Sequence
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import pyarrow as pa
from scipy.io import savemat

from sc_imagenet.data.schema import check_pair, check_unique, pair_features
from sc_imagenet.sources.diy_sc import DiySc, _read
from sc_imagenet.sources.pf_pascal import PfPascal
from sc_imagenet.sources.pf_willow import PfWillow
from sc_imagenet.sources.sc_imagenet_release import ScImageNet
from sc_imagenet.sources.source import Annotation, Entry, Source, SourceOptions, check_entry
from sc_imagenet.sources.spair_71k import Spair71k
from sc_imagenet.sources.tables import _read_mat, read_pair_json
from tests.fuzz.mutations import NAMES, spoilt_bytes, spoilt_json, spoilt_text
from tests.fuzz.parser import Parser
from tests.sc_imagenet import made_data

SIZE = (300, 200)


def stored(entry: Entry, found: Annotation, outside: Any = "keep") -> None:
    """What a conversion does with a pair: check it, then put it into the columns of the schema."""
    check_pair(entry, found, SIZE, SIZE, outside)
    row = {
        "pair_id": entry.pair_id,
        "source_points": found.source_points,
        "target_points": found.target_points,
        "source_bbox": found.source_bbox,
        "target_bbox": found.target_bbox,
        **dict(zip(("viewpoint_variation", "scale_variation", "truncation", "occlusion"), found.grades)),
    }
    table = pa.Table.from_pylist([row], schema=pair_features(["cat"]).arrow_schema)
    for side in ("source", "target"):
        points = table[f"{side}_points"].combine_chunks().flatten().flatten().to_numpy()
        assert np.isfinite(points).all(), "points that are not finite were accepted"


def all_pairs(source: Source, split: str) -> None:
    """Every pair of a split as a conversion reads it; its images are taken to be there."""
    entries = source.entries(split)
    check_unique(entries, source.root)
    for entry in entries[:20]:
        check_entry(entry, source.root)
        root = source.image_root()
        assert root is None or (root / entry.source).resolve().is_relative_to(root.resolve()), "leads out"
        stored(entry, source.annotation(entry, SIZE, SIZE))


def _pair_json(content: bytes, folder: Path) -> None:
    file = folder / "pair.json"
    file.write_bytes(content)
    stored(Entry("1-a-b:cat", "cat", "a", "b", None), read_pair_json(file), "error" if len(content) % 2 else "keep")


def _pair_json_seeds() -> list[bytes]:
    return [
        json.dumps(made_data.annotation("cat")).encode(),
        json.dumps(made_data.annotation("cat", src_bndbox=None, trg_bndbox=None)).encode(),
    ]


def _listed(content: bytes, folder: Path, source: type[Source], split: str) -> None:
    lists = folder / "Layout" / "large" / "trn.txt"
    lists.parent.mkdir(parents=True, exist_ok=True)
    lists.write_bytes(content)
    reader = source(folder, SourceOptions())
    entries = reader.entries(split)
    reader.categories()
    check_unique(entries, folder)
    for entry in entries:
        check_entry(entry, folder)
        assert (folder / entry.source).resolve().is_relative_to(folder.resolve()), "leads out"


def _pair_list_seeds() -> list[bytes]:
    return [b"1-2008_000001-2008_000009:cat\n2-2008_000002-2008_000009:cat\n", b"7-1-2:n01440764\n8-2-3:n01443537\n"]


def _pascal(content: bytes, folder: Path) -> None:
    (folder / "JPEGImages").mkdir(exist_ok=True)
    (folder / "test_pairs.csv").write_bytes(content)
    source = PfPascal(folder, SourceOptions())
    if source.missing("test") is None:
        all_pairs(source, "test")


def _pascal_seeds() -> list[bytes]:
    head = b"source_image,target_image,class,XA,YA,XB,YB\n"
    row = b"PF/JPEGImages/2008_000008.jpg,PF/JPEGImages/2008_000012.jpg,1,10;20,30;40,50;60,70;80\n"
    return [head + row + row.replace(b"000008", b"000009"), head + row]


def _pascal_mat(content: bytes, folder: Path) -> None:
    _read_mat.cache_clear()
    places = folder / "Annotations" / "aeroplane"
    places.mkdir(parents=True, exist_ok=True)
    (folder / "JPEGImages").mkdir(exist_ok=True)
    (folder / "val_pairs.csv").write_text("source_image,target_image,class\na.jpg,b.jpg,1\n")
    (places / "a.mat").write_bytes(content)
    if not (places / "b.mat").exists():
        (places / "b.mat").write_bytes(_mat(kps=_points(3), bbox=np.array([[1.0, 2, 200, 100]])))
    all_pairs(PfPascal(folder, SourceOptions()), "validation")


def _points(count: int) -> np.ndarray:
    return np.arange(1.0, 2 * count + 1).reshape(count, 2)


def _mat(compressed: bool = False, **values: Any) -> bytes:
    file = io.BytesIO()
    savemat(file, values, do_compression=compressed)
    return file.getvalue()


def _mat_seeds() -> list[bytes]:
    box = np.array([[5.0, 6, 250, 180]])
    return [_mat(compressed, kps=_points(3), bbox=box) for compressed in (False, True)]


def _spoilt_mat(rng: Random, seeds: Sequence[bytes]) -> bytes:
    """Bytes exchanged, or whole values of other kinds in a file that is well formed."""
    if rng.random() < 0.7:
        return spoilt_bytes(rng, seeds)
    nested: Any = _points(3)
    for _ in range(rng.choice((1, 3, 40))):
        cell = np.empty((1, 1), dtype=object)
        cell[0, 0] = nested
        nested = cell
    odd = (
        *(nested, "text", {"a": 1.0}, _points(0), _points(3).T, _points(1000), np.array([[1 + 2j, 3]])),
        *(np.full((3, 2), np.nan), np.full((3, 2), np.inf), np.full((3, 2), 1e300), np.array([[True, False]])),
        *(np.zeros((2, 2, 2)), np.array([[2**63 - 1, -1]]), rng.choice(NAMES[:20]), np.array([[5.0, 6, 250]])),
    )
    values = {"kps": _points(3), "bbox": np.array([[5.0, 6, 250, 180]])}
    values[rng.choice(("kps", "bbox"))] = rng.choice(odd)
    return _mat(rng.random() < 0.5, **values)


def _willow(content: bytes, folder: Path) -> None:
    (folder / "test_pairs.csv").write_bytes(content)
    source = PfWillow(folder, SourceOptions())
    all_pairs(source, "test")
    source.entries("images_train")


def _willow_seeds() -> list[bytes]:
    with tempfile.TemporaryDirectory() as folder:
        return [(made_data.willow_csv(Path(folder)) / "test_pairs.csv").read_bytes()]


def _diy(content: bytes, folder: Path) -> None:
    _read.cache_clear()
    (folder / "trn").mkdir(exist_ok=True)
    (folder / "JPEGImages").mkdir(exist_ok=True)
    (folder / "trn" / "cat_anns.json").write_bytes(content)
    all_pairs(DiySc(folder, SourceOptions()), "train")


def _diy_seeds() -> list[bytes]:
    entry = {
        "src_imname": "2008_000001.jpg",
        "trg_imname": "2008_000002.jpg",
        "num_kps": 2,
        "source_kps": [[10, 20], [100, 200]],
        "target_kps": [[11, 21], [101, 201]],
        "img_size_kps": 840,
        "flip": 0,
    }
    return [json.dumps([entry, {**entry, "src_imname": "2008_000003.jpg"}]).encode(), json.dumps(entry).encode()]


def _whole_set(content: bytes, folder: Path) -> None:
    """A pair's JSON through everything that ``load_dataset`` does with it, up to the Parquet in the cache."""
    from sc_imagenet.data.convert import convert

    root = folder / "spair"
    if not root.exists():
        made_data.spair(root)
    name = next((root / "PairAnnotation" / "val").iterdir())
    name.write_bytes(content)
    convert("spair-71k", "validation", root, num_proc=1, force=True)


PARSERS = [
    Parser("pair-json", _pair_json_seeds, _pair_json, spoilt_json, 12),
    Parser("pair-list", _pair_list_seeds, lambda c, f: _listed(c, f, ScImageNet, "train"), spoilt_text, 10),
    Parser("spair-list", lambda: _pair_list_seeds()[:1], lambda c, f: _listed(c, f, Spair71k, "train"), spoilt_text, 6),
    Parser("pf-pascal-csv", _pascal_seeds, _pascal, spoilt_text, 10),
    Parser("pf-willow-csv", _willow_seeds, _willow, spoilt_text, 8),
    Parser("diy-sc-json", _diy_seeds, _diy, spoilt_json, 8),
    Parser("mat", _mat_seeds, _pascal_mat, _spoilt_mat, 6),
    Parser("data-set", _pair_json_seeds, _whole_set, spoilt_json, 0.5),
]
