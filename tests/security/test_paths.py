"""Names inside data sets lead to files inside their root, or are refused before anything is opened."""

from __future__ import annotations

import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from benchmark.report.pictures import PairImages
from sc_imagenet.core.errors import InputError, check_inside
from sc_imagenet.data import shards
from sc_imagenet.data.convert import convert
from sc_imagenet.data.parquet import with_plain_lists
from sc_imagenet.data.record import read_record
from sc_imagenet.data.roots import open_source
from sc_imagenet.data.schema import pair_features
from sc_imagenet.data.verify import verify
from sc_imagenet.sources.source import SourceOptions
from tests.fuzz.parsers.tables import PAIR
from tests.sc_imagenet import made_data

OUTSIDE = (
    "../../secret.png",
    "/etc/passwd",
    "cat/../../secret",
    "C:/x.png",
    "..\\..\\x",
    "https://example.org/a.png",
    "~/x",
)


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("SC_CACHE", str(tmp_path / "cache"))


@pytest.mark.parametrize("name", OUTSIDE)
def test_what_leads_out_is_known(name):
    with pytest.raises(InputError, match=r"names a file outside the data set"):
        check_inside(name, "list.txt")


@pytest.mark.parametrize(
    "name", ["cat/a.png", "car(G)/Cars_002a.png", "a..b/c...png", "n01440764/n01440764_1.JPEG", "é/a b.png"]
)
def test_what_stays_inside_is_taken(name):
    assert check_inside(name, "list.txt") == name


@pytest.mark.parametrize("line", ["1-../../../secret-2:n01440764", "1-1-2:../../etc"])
def test_a_list_that_names_files_outside_is_refused(tmp_path, line):
    root = made_data.sc_release(tmp_path / "sc-imagenet")
    (root / "Layout" / "large" / "trn.txt").write_text(f"{line}\n")
    with pytest.raises(InputError, match="names a file outside the data set"):
        convert("sc-imagenet", "train", root)


@pytest.mark.parametrize("name", OUTSIDE[:3])
def test_json_and_csv_that_name_files_outside_are_refused(tmp_path, name):
    (tmp_path / "secret.png").write_bytes(b"secret")
    diy = tmp_path / "diy-sc"
    made_data.image(diy / "JPEGImages" / "cat" / "a.jpg")
    (diy / "trn").mkdir()
    entry = {
        "src_imname": name,
        "trg_imname": "a.jpg",
        "source_kps": [[1, 2]],
        "target_kps": [[1, 2]],
        "img_size_kps": 9,
    }
    (diy / "trn" / "cat_anns.json").write_text(json.dumps([entry]))
    willow = made_data.willow_csv(tmp_path / "pf-willow")
    listed = (willow / "test_pairs.csv").read_text()
    (willow / "test_pairs.csv").write_text(listed.replace("PF-WILLOW/duck(S)/duck_a.png", f"x/duck(S)/../../{name}"))
    wanted = "names a file outside the data set" if not name.startswith("/") else "names a file outside|is not there"
    for name_of, split, root in (("diy-sc", "train", diy), ("pf-willow", "test", willow)):
        with pytest.raises(InputError, match=wanted):
            convert(name_of, split, root)
        found = verify(name_of, split, root)
        assert found.damaged
        assert not any("secret" in str(path) for path in (tmp_path / "cache").rglob("*"))


@pytest.mark.parametrize("name", OUTSIDE)
@pytest.mark.parametrize("with_record", [True, False])
def test_shards_that_name_files_outside_are_refused(tmp_path, name, with_record):
    from sc_imagenet.data.load import load_dataset

    folder = tmp_path / "pairs"
    folder.mkdir()
    schema = pair_features(("cat",)).arrow_schema
    file = folder / "train-00000-of-00001.parquet"
    pq.write_table(with_plain_lists(pa.Table.from_pylist([PAIR], schema=schema)), file)
    shards.make_record(folder, "sc-imagenet", "pairs", "train")
    size = file.stat().st_size
    outside = {**PAIR, "source": {"path": name, "bytes": None}}
    pq.write_table(with_plain_lists(pa.Table.from_pylist([outside], schema=schema)), file)
    record = json.loads((folder / "train.json").read_text().replace(str(size), str(file.stat().st_size)))
    record["shards"][0]["bytes"] = file.stat().st_size
    (folder / "train.json").write_text(json.dumps(record))
    if not with_record:
        (folder / "train.json").unlink()
    with pytest.raises(InputError, match="names a source outside the data set"):
        load_dataset("sc_imagenet", split="train", root=tmp_path, cache_dir=str(tmp_path / "hf"))


@pytest.mark.parametrize("file", ["../other.parquet", "/etc/passwd", "sub/x.parquet", 5])
def test_a_record_that_names_shards_elsewhere_is_refused(tmp_path, file):
    content = {
        **{"dataset": "sc-imagenet", "config": "pairs", "split": "train", "rows": 1, "images": 2, "points": 2},
        **{"points_outside": 0, "categories": ["cat"], "manifest_sha256": "a", "content_sha256": "b", "format": 1},
        "shards": [{"file": file, "rows": 1, "bytes": 1}],
    }
    (tmp_path / "train.json").write_text(json.dumps(content))
    with pytest.raises(InputError, match=r"outside the data set|in another folder|not text"):
        read_record(tmp_path, "train")


def test_pictures_of_pairs_open_no_file_outside(tmp_path):
    root = made_data.willow_csv(tmp_path / "pf-willow")
    made_data.image(tmp_path / "secret.png")
    text = (root / "test_pairs.csv").read_text()
    (root / "test_pairs.csv").write_text(text.replace("PF-WILLOW/duck(S)/duck_a.png", "x/duck(S)/../../secret.png"))
    images = PairImages("pf-willow", "test", root)
    with pytest.raises(InputError, match="outside the data set"):
        images.of(next(iter(images.entries)))
    assert open_source("pf-willow", root, SourceOptions()).image_root() == root


def test_parquet_of_imagenet_gives_no_file_from_elsewhere(tmp_path):
    from sc_imagenet.data.imagenet import extract_images

    secret = tmp_path / "n01440764_1.JPEG"
    secret.write_bytes(b"secret")
    data = tmp_path / "imagenet"
    data.mkdir()
    cell = pa.array([{"bytes": None, "path": str(secret)}], pa.struct([("bytes", pa.binary()), ("path", pa.string())]))
    pq.write_table(pa.table({"image": cell}), data / "train.parquet")
    with pytest.raises(InputError, match="names an image outside of it"):
        extract_images(str(data), {"n01440764/n01440764_1.JPEG"})
    assert not list(Path(tmp_path / "cache").rglob("*.JPEG"))
