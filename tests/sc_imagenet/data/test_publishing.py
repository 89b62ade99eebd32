"""Annotations are published, pixels never."""

from __future__ import annotations

import json
from pathlib import Path

import datasets
import pytest
from huggingface_hub import DatasetCard
from huggingface_hub.errors import OfflineModeIsEnabled

from sc_imagenet.core.errors import InputError
from sc_imagenet.data.convert import convert
from sc_imagenet.data.load import load_dataset
from sc_imagenet.data.publish import prepare_data
from sc_imagenet.data.schema import set_name
from sc_imagenet.data.shards import write_pairs
from tests.sc_imagenet.made_data import sc_release, spair

pytestmark = pytest.mark.usefixtures("own_caches")
IMAGES = {"source": "n01440764/n01440764_1.JPEG", "target": "n01440764/n01440764_2.JPEG"}


def generated(folder: Path, **changes) -> Path:
    """Two pairs in the form of a generated set, without its images."""
    rows = [
        {
            "pair_id": f"{number:06d}-1-2:n01440764",
            "dataset": "sc-imagenet",
            "category": 0,
            **{side: {"path": path, "bytes": None} for side, path in IMAGES.items()},
            "source_points": [[1.0, 2.0]],
            "target_points": [[3.0, 4.0]],
            "mirrored": False,
            "confidence": [0.5],
            **changes,
        }
        for number in range(2)
    ]
    write_pairs(folder, "train", rows, ["n01440764"], len(rows))
    return folder


def test_any_set_becomes_parquet_that_loads_without_us(tmp_path):
    root = spair(tmp_path / "spair-71k")
    records = prepare_data("spair-71k", tmp_path / "out", repo="me/spair", root=root)
    assert list(records) == ["train", "validation", "test"]
    for split, record in records.items():
        assert record.manifest_sha256 == convert("spair-71k", split, root).manifest_sha256
    rows = datasets.load_dataset(str(tmp_path / "out"), split="test", cache_dir=tmp_path / "cache")
    ours = load_dataset("spair_71k", split="test", root=root)
    assert rows.features["category"].names == ours.features["category"].names
    for row, own in zip(rows, ours, strict=True):
        assert row["source"] == {"bytes": None, "path": f"cat/{row['pair_id'][7:18]}.jpg"}
        for column in ("pair_id", "source_points", "target_bbox", "viewpoint_variation", "source_size"):
            assert row[column] == own[column]
    card = DatasetCard.load(tmp_path / "out/README.md")
    assert (card.data.license, card.data.pretty_name) == ("other", "SPair-71k")
    assert all(record.manifest_sha256 in card.text for record in records.values())
    assert {path.suffix for path in (tmp_path / "out").rglob("*") if path.is_file()} == {".parquet", ".json", ".md"}


def test_one_split_is_published_alone(tmp_path):
    records = prepare_data("spair-71k:test", tmp_path / "out", repo="me/x", root=spair(tmp_path / "spair-71k"))
    assert list(records) == ["test"]
    assert len(datasets.load_dataset(str(tmp_path / "out"), cache_dir=tmp_path / "cache")["test"]) == 2


def test_a_published_generated_set_is_one_again(tmp_path):
    folder = generated(tmp_path / "my-set")
    (folder / "README.md").write_text("---\nlicense: mit\n---\nmine")
    about = {"name": "my-set", "options": {"network": "/home/me/my-set/work/network", "seed": 0}}
    (folder / "generation.json").write_text(json.dumps(about))
    prepare_data(str(folder), tmp_path / "out", repo="me/my-set")
    assert (tmp_path / "out/README.md").read_text() == "---\nlicense: mit\n---\nmine"
    kept = json.loads((tmp_path / "out/generation.json").read_text())
    assert kept == {"name": "my-set", "options": {"network": "network", "seed": 0}}
    again = load_dataset("sc_imagenet", root=tmp_path / "out", split="train")
    assert again.remove_columns(["source", "target"])[0]["pair_id"] == "000000-1-2:n01440764"
    assert set_name(convert("sc-imagenet", "train", tmp_path / "out"), tmp_path / "out", True) == "my-set"


def test_sc_imagenet_is_published_without_its_images(tmp_path):
    root = sc_release(tmp_path / "sc-imagenet", images=True)
    prepare_data("sc-imagenet", tmp_path / "out", repo="me/x", root=root)
    pixels = (root / "JPEGImages/n01440764/n01440764_0.JPEG").read_bytes()
    assert all(pixels not in path.read_bytes() for path in (tmp_path / "out").rglob("*") if path.is_file())


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"target": {"path": IMAGES["target"], "bytes": b"JPEG"}},
            "ImageNet's terms do not let its images be passed on",
        ),
        ({"source": {"path": "cat/1.jpg", "bytes": b"JPEG"}, "dataset": "mine"}, "only annotations are published"),
        ({"source": {"path": "n01440764_1.JPEG", "bytes": b"JPEG"}, "dataset": "mine"}, "ImageNet's terms"),
    ],
)
def test_pixels_are_refused_in_one_line(tmp_path, changes, message):
    folder = generated(tmp_path / "my-set", **changes)
    with pytest.raises(InputError, match=message) as raised:
        prepare_data(str(folder), tmp_path / "out", repo="me/x")
    assert "train-00000-of-00002.parquet" in str(raised.value)
    assert "\n" not in str(raised.value)
    assert not list((tmp_path / "out").rglob("*.parquet"))


def test_a_path_of_this_machine_is_refused_when_a_set_is_written(tmp_path):
    with pytest.raises(InputError, match=r"names a source outside the data set, '/home/me/1\.jpg'"):
        generated(tmp_path / "my-set", source={"path": "/home/me/1.jpg", "bytes": None})


@pytest.mark.parametrize(
    ("what", "message"),
    [
        ("spair", "unknown data set 'spair'"),
        ("spair-71k:tset", "unknown split of spair-71k 'tset'"),
        ("spair-71k", "no pairs to publish: .*trn.txt is not there"),
    ],
)
def test_what_is_not_here_is_said(tmp_path, what, message):
    (tmp_path / "spair-71k").mkdir()
    with pytest.raises(InputError, match=message):
        prepare_data(what, tmp_path / "out", repo="me/x", root=tmp_path)


def push(rows, **options):
    """What ``datasets`` does, up to the moment it would ask the Hub."""
    rows.push_to_hub("me/x", **options)


def test_datasets_own_push_is_refused_imagenet_s_pixels(tmp_path, hub_offline):
    ours = {"name": "sc_imagenet", "root": sc_release(tmp_path / "sc-imagenet", images=True)}
    for rows in (
        load_dataset(**ours),
        load_dataset(**ours, split="train"),
        load_dataset(**ours, split="train").filter(lambda row: row["category"] == 1),
        load_dataset(**ours, split="train", streaming=True),
        load_dataset(**ours, config="images", split="train"),
    ):
        with pytest.raises(InputError, match=r"n\d{8}_\d+.JPEG is ImageNet's, .* embed_external_files=False"):
            push(rows)
    theirs = load_dataset("spair_71k", root=spair(tmp_path / "spair-71k"), split="test")
    for rows, options in ((load_dataset(**ours, split="train"), {"embed_external_files": False}), (theirs, {})):
        with pytest.raises(OfflineModeIsEnabled):
            push(rows, **options)
