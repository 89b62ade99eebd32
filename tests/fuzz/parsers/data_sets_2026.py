"""Files of the benchmarks of 2023 to 2026, each spoilt in a copy that is whole but for it and then converted."""

from __future__ import annotations

import functools
import json
import tempfile
from collections.abc import Callable
from pathlib import Path

from sc_imagenet.data.pair_lists import overlap, read_list
from sc_imagenet.data.shard_writing import pair_writer
from sc_imagenet.sources import ap_10k, ap_10k_pairs, ap_10k_prepared, cub_200_2011, mp_100, spair_71k
from sc_imagenet.sources.ap_10k import Ap10k
from sc_imagenet.sources.ap_10k_prepared import Ap10kPrepared
from sc_imagenet.sources.cub_200_2011 import LISTS, Cub
from sc_imagenet.sources.mp_100 import Mp100
from sc_imagenet.sources.psc6k import Psc6k
from sc_imagenet.sources.soco import Soco
from sc_imagenet.sources.source import Source, SourceOptions
from sc_imagenet.sources.spair_u import SpairU
from sc_imagenet.sources.tss import Tss
from tests.fuzz.mutations import Mutation, spoilt_bytes, spoilt_json, spoilt_text
from tests.fuzz.parser import Parser
from tests.golden.references import load
from tests.sc_imagenet import layouts_2026

Maker = Callable[[Path], Path]  # fills an empty folder, gives the data set's own
KEPT = (  # what the readers remember by a file's state, which two inputs in one tick of the clock may share
    *(ap_10k._lists, ap_10k._photographs, ap_10k_prepared._read, cub_200_2011._birds, mp_100._photographs),
    spair_71k._image_keypoints,
)


def _whole(made: Maker, folder: Path) -> Path:
    """The data set's folder below a scratch folder, made when it is first asked for."""
    home = folder / "whole"
    if not home.exists():
        made(home)
    return home / "set" if (home / "set").exists() else home


def _converted(reader: type[Source], split: str, root: Path, out: Path) -> None:
    """Everything that a conversion does with a split, up to its Parquet."""
    for kept in KEPT:
        kept.cache_clear()
    source = reader(root, SourceOptions())
    if source.missing(split) is None:
        out.mkdir(exist_ok=True)
        pair_writer(source, split, 1, None)(out)


def _spoilt_in(name: str, made: Maker, reader: type[Source], split: str, file: str, spoil: Mutation) -> Parser:
    """A parser of one file of a data set."""

    @functools.cache
    def seed() -> bytes:
        with tempfile.TemporaryDirectory() as folder:
            return (made(Path(folder) / "whole") / file).read_bytes()

    def feed(content: bytes, folder: Path) -> None:
        root = _whole(made, folder)
        (root / file).write_bytes(content)
        _converted(reader, split, root, folder / "out")

    return Parser(name, lambda: [seed()], feed, spoil, 0.5)


# Copies, as small as they can be.

ANIMALS = ((4, 1), (6, 1), (7, 2), (9, 3))  # image, species


def _ap_10k(home: Path) -> Path:
    """Two antelopes, another of their family and a dog, all in the file of tests."""
    root = home / "set"
    categories = [
        {"id": number, "supercategory": family, "name": name, "keypoints": ["part"] * 17}
        for number, (family, name) in enumerate((("Bovidae", "antelope"), ("Bovidae", "cow"), ("Canidae", "dog")), 1)
    ]
    images, annotations = [], []
    for number, species in ANIMALS:
        points = [value for k in range(17) for value in ((k + number, 2 * k, 2) if k < 8 else (0, 0, 0))]
        file = f"{number:012d}.jpg"
        images.append({"id": number, "file_name": file, "width": 60, "height": 50})
        annotation = {"id": number, "image_id": number, "category_id": species, "bbox": [1, 2, 30, 20]}
        annotations.append({**annotation, "num_keypoints": 8, "keypoints": points})
        layouts_2026.image(root / "data" / file, (60, 50))
    for part in ap_10k.PARTS:
        own = (images, annotations) if part == "test" else ([], [])
        content = {"images": own[0], "annotations": own[1], "categories": categories}
        layouts_2026.write(root / "annotations" / f"ap10k-{part}-split1.json", content)
    layouts_2026.write(root / ap_10k.CROWDED, "000000000001\n000000000002\n")
    return root


def _soco(home: Path) -> Path:
    return layouts_2026.soco(home, load("soco"))


def _mp_100(home: Path) -> Path:
    return layouts_2026.mp_100(home, load("marco"))


def _spair_u(home: Path) -> Path:
    layouts_2026.spair_u(home).joinpath("spair-u").rename(home / "set")
    (home / "spair-71k" / "JPEGImages").rename(home / "set" / "JPEGImages")
    return home / "set"


@functools.cache
def _first_soco(split: str) -> str:
    """The first file of pairs of the synthetic set."""
    folder, pair = next(each for each in json.loads(str(load("soco")["soco_pairs_json"])) if each[0] == split)
    return f"PairAnnotations/{folder}/{pair['pair_group']}/{pair['pair_id']:05d}.json"


# Lists of pairs, and the order of files of AP-10K's notebook.


def _order(content: bytes, folder: Path) -> None:
    file = folder / "order.txt"
    file.write_bytes(content)
    ap_10k._photographs.cache_clear()
    source = Ap10k(_whole(_ap_10k, folder), SourceOptions())
    animals = [each.animal for each in source.photographs_by_id().values()]
    ap_10k_pairs.pair_lists(animals, ap_10k_pairs.read_order(file))


def _order_seeds() -> list[bytes]:
    lines = (
        *(
            "x/ImageAnnotation|Canidae,Bovidae|",
            "x/ImageAnnotation/Canidae|dog|",
            "x/ImageAnnotation/Bovidae|cow,antelope|",
        ),
        *("x/ImageAnnotation/Canidae/dog||000000000009.json", "x/ImageAnnotation/Bovidae/cow||000000000007.json"),
        "x/ImageAnnotation/Bovidae/antelope||000000000006.json,000000000004.json",
    )
    return ["\n".join(lines).encode()]


def _pair_list(content: bytes, folder: Path) -> None:
    file, other = folder / "list.txt", folder / "other.txt"
    file.write_bytes(content)
    other.write_bytes(b"1-2:cat\n3-1:cat\n")
    found = overlap(read_list(file), read_list(other))
    assert 0 <= found.shared + found.reversed_ <= min(found.first, found.second)


ANTELOPES = "000000000004-000000000006:antelope"
OWN = "ImageAnnotation/Bovidae/antelope/000000000004.json"
CATS = "PairAnnotation/test/000001-2008_000001-2008_000002:cat.json"
BIKES = "JODS/bike_01_02"
PARSERS = [
    _spoilt_in("ap-10k-json", _ap_10k, Ap10k, "test_cross_family", "annotations/ap10k-test-split1.json", spoilt_json),
    _spoilt_in("ap-10k-crowded", _ap_10k, Ap10k, "test", ap_10k.CROWDED, spoilt_text),
    Parser("ap-10k-order", _order_seeds, _order, spoilt_text, 0.5),
    _spoilt_in(
        "ap-10k-prepared-pair", layouts_2026.ap_10k_prepared, Ap10kPrepared, "test",
        f"PairAnnotation/test/{ANTELOPES}.json", spoilt_json,
    ),
    _spoilt_in("ap-10k-prepared-image", layouts_2026.ap_10k_prepared, Ap10kPrepared, "test", OWN, spoilt_json),
    _spoilt_in("spair-u-pair", _spair_u, SpairU, "test", CATS, spoilt_json),
    _spoilt_in("spair-u-image", _spair_u, SpairU, "test", "ImageAnnotation/cat/2008_000001.json", spoilt_json),
    _spoilt_in("soco-pair", _soco, Soco, "cross", _first_soco("cross"), spoilt_json),
    _spoilt_in("soco-named", _soco, Soco, "intra_named", _first_soco("intra"), spoilt_json),
    _spoilt_in("mp-100-pairs", _mp_100, Mp100, "clothing", "pairs_clothing.json", spoilt_json),
    _spoilt_in("mp-100-json", _mp_100, Mp100, "clothing", "annotations/mp100_split1_test.json", spoilt_json),
    _spoilt_in("mp-100-marco", _mp_100, Mp100, "clothing_marco", "annotations/mp100_split1_test.json", spoilt_json),
    *(_spoilt_in(f"cub-{Path(name).stem}", layouts_2026.cub, Cub, "test", name, spoilt_text) for name in LISTS),
    _spoilt_in("tss-flow", layouts_2026.tss, Tss, "test", f"{BIKES}/flow1.flo", spoilt_bytes),
    _spoilt_in("tss-mask", layouts_2026.tss, Tss, "test", f"{BIKES}/mask1.png", spoilt_bytes),
    _spoilt_in("psc6k-csv", layouts_2026.psc6k, Psc6k, "test", "test_pairs_ps.csv", spoilt_text),
    Parser("list-of-pairs", lambda: [b"1-2:cat\n1-3:cat\n"], _pair_list, spoilt_text, 1),
]  # fmt: skip
