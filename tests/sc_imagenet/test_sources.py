"""Each reader reads its published layouts into the one schema."""

from __future__ import annotations

import io
import json
import os
from pathlib import Path

import numpy as np
import pytest
from made_data import WNIDS, image, imagenet, pascal_list, pascal_package, sc_release, spair, willow_csv
from PIL import Image

from sc_imagenet import load_dataset
from sc_imagenet.convert import convert
from sc_imagenet.errors import InputError
from sc_imagenet.shards import write_pairs
from sc_imagenet.sources import pf_pascal, pf_willow, spair_71k

real = pytest.mark.skipif(not os.environ.get("SC_DATA_ROOT"), reason="SC_DATA_ROOT is not set")


pytestmark = pytest.mark.usefixtures("own_caches")


@real
def test_pf_willow_of_the_authors_gives_all_ordered_pairs_with_points_inside() -> None:
    data = load_dataset("pf_willow", split="test")
    classes = sorted(set(data["category"]))
    assert len(data) == 90 * len(classes)
    assert data[0]["source"].size == tuple(data[0]["source_size"])
    for side in ("source", "target"):
        points, sizes = np.array(data[f"{side}_points"]), np.array(data[f"{side}_size"])
        assert points.shape == (len(data), 10, 2)
        assert (points >= 0).all()
        assert (points <= sizes[:, None]).all()


@real
def test_pf_willow_split_by_image_shares_no_image() -> None:
    train, test = (load_dataset("pf-willow", split=f"images_{part}") for part in ("train", "test"))
    classes = len(set(train["category"]))
    assert (len(train), len(test)) == (30 * classes, 12 * classes)
    names = [
        {Path(row["path"]).name for side in ("source", "target") for row in paths(data, side)} for data in (train, test)
    ]
    assert not names[0] & names[1]


@real
def test_pf_pascal_lists_of_ncnet_parse_and_the_leak_is_95_pairs() -> None:
    source = pf_pascal.PfPascal(Path(os.environ["SC_DATA_ROOT"]) / "pf-pascal", options())
    counts = {split: len(source.entries(split)) for split in pf_pascal.LISTS}
    assert counts == {"train": 2940, "validation": 308, "test": 299, "test_clean": 204}
    assert sum(entry.mirrored for entry in source.entries("train")) == 1470
    found = [source.annotation(entry, (300, 300), (300, 300)) for entry in source.entries("test")]
    assert sum(len(each.source_points) for each in found) == 2414


@real
def test_a_pf_pascal_list_without_images_says_so() -> None:
    with pytest.raises(InputError, match=r"images are not at hand.*JPEGImages.*voc_dir"):
        load_dataset("pf_pascal", split="test")
    with pytest.raises(InputError, match=r"holds no points and .*Annotations"):
        load_dataset("pf_pascal", split="train")


@real
def test_the_genuine_spair_files_parse(tmp_path: Path) -> None:
    sample = Path(os.environ["SC_DATA_ROOT"]) / "spair-71k-sample"
    pair_id = "000002-2008_001546-2008_005078:aeroplane"
    root = tmp_path / "spair-71k"
    (root / "PairAnnotation" / "val").mkdir(parents=True)
    text = (sample / f"PairAnnotation_val_{pair_id}.json").read_text()
    (root / "PairAnnotation" / "val" / f"{pair_id}.json").write_text(text)
    (root / "Layout" / "large").mkdir(parents=True)
    (root / "Layout" / "large" / "val.txt").write_text(f"{pair_id}\n")
    image(root / "JPEGImages" / "aeroplane" / "2008_001546.jpg", (500, 297))
    image(root / "JPEGImages" / "aeroplane" / "2008_005078.jpg", (500, 334))
    (row,) = load_dataset("spair_71k", split="validation", root=root)
    assert row["pair_id"] == pair_id
    assert row["source_points"][0] == [36, 163]
    assert row["target_bbox"] == [1, 32, 492, 286]
    assert (row["viewpoint_variation"], row["truncation"]) == (2, 2)
    assert (row["source_size"], row["source"].size) == ([500, 297], (500, 297))


@pytest.mark.parametrize("mark", [":", "-"])
def test_spair_file_names_may_have_a_colon_or_a_hyphen(tmp_path: Path, mark: str) -> None:
    data = load_dataset("spair_71k", root=spair(tmp_path / "spair", mark))
    assert {split: len(rows) for split, rows in data.items()} == {"train": 2, "validation": 2, "test": 2}
    assert data["test"].features["category"].names == list(spair_71k.CATEGORIES)
    assert data["test"][1]["pair_id"] == "000002-2008_000002-2008_000009:cat"


def test_pf_willow_csv_is_preferred_and_read_as_x_then_y(tmp_path: Path) -> None:
    first, second = load_dataset("pf_willow", split="test", root=willow_csv(tmp_path / "PF-WILLOW"))
    assert first["pair_id"] == "duck_a-duck_b:duck(S)"
    assert first["category"] == pf_willow.CATEGORIES.index("duck(S)")
    assert first["source_points"][3] == [3, 3]
    assert first["target_points"][3] == [13, 3]
    assert second["source_points"] == first["target_points"]


def test_pf_pascal_package_keeps_points_of_both_images_and_marks_mirrored(tmp_path: Path) -> None:
    data = load_dataset("pf_pascal", root=pascal_package(tmp_path / "pf-pascal"))
    assert [row["mirrored"] for row in data["train"]] == [False, True, False]
    assert data["train"][0]["source_points"] == data["train"][1]["source_points"]
    assert data["train"][0]["source_bbox"] == [5, 6, 250, 180]
    assert data["validation"][0]["source_points"] == [[10.5, 20.25], [200, 150]]
    assert len(set(data["train"]["pair_id"])) == 3  # the same two images thrice
    assert [row["pair_id"] for row in data["test_clean"]] == [data["test"][0]["pair_id"]]


def test_ncnet_coordinates_become_zero_based_in_the_frame_of_the_image(tmp_path: Path) -> None:
    header = "source_image,target_image,class,XA,YA,XB,YB"
    root = tmp_path / "pf-pascal"
    row = ["PF-dataset-PASCAL/JPEGImages/a.jpg", "PF-dataset-PASCAL/JPEGImages/b.jpg", 20]
    pascal_list(root / "test_pairs.csv", [[*row, "1;31", "1;61", "11;21", "101;1"]], header)
    voc = tmp_path / "VOCdevkit" / "VOC2012"
    image(voc / "JPEGImages" / "a.jpg", (300, 200))  # as PF-PASCAL ships it
    image(voc / "JPEGImages" / "b.jpg", (375, 500))  # as VOC has it
    (pair,) = load_dataset("pf_pascal", split="test", root=root, voc_dir=tmp_path)
    assert pair["source_points"] == [[0, 0], [30, 60]]
    np.testing.assert_allclose(pair["target_points"], np.array([[10, 100], [20, 0]]) * 500 / 300, rtol=1e-6)


def test_sc_imagenet_release_without_images_keeps_paths_below_its_own_folder(tmp_path: Path) -> None:
    root = sc_release(tmp_path / "SC-IMAGENET")
    data = load_dataset("sc_imagenet", root=root)
    assert data["train"].features["category"].names == list(WNIDS)  # all lists' classes in every split
    import datasets

    undecoded = data["train"].cast_column("target", datasets.Image(decode=False))
    row = undecoded.cast_column("source", datasets.Image(decode=False))[1]
    assert row["source"]["path"] == str(root / "JPEGImages" / WNIDS[1] / f"{WNIDS[1]}_1.JPEG")
    assert row["source_size"] is None
    assert row["occlusion"] == 3


@pytest.mark.parametrize("nesting", ["", "ILSVRC/Data/CLS-LOC/train"])
def test_sc_imagenet_joins_an_imagenet_folder(tmp_path: Path, nesting: str) -> None:
    imagenet(tmp_path / "in" / nesting)
    root = sc_release(tmp_path / "SC-IMAGENET")
    row = load_dataset("sc_imagenet", split="train", root=root, imagenet_dir=tmp_path / "in")[0]
    assert row["target"].size == (40, 30)
    assert row["target_size"] == [40, 30]


def test_sc_imagenet_joins_a_data_set_of_images_by_their_original_names(tmp_path: Path) -> None:
    import datasets

    folder = imagenet(tmp_path / "in")
    files = sorted(folder.glob("*/*.JPEG"))
    rows = [
        {"image": {"path": f"{file.stem}_{file.parent.name}.JPEG", "bytes": file.read_bytes()}, "label": 0}
        for file in files
    ]
    features = datasets.Features({"image": datasets.Image(), "label": datasets.Value("int64")})
    (tmp_path / "hub" / "data").mkdir(parents=True)
    table = datasets.Dataset.from_list(rows, features=features)
    table.to_parquet(tmp_path / "hub" / "data" / "train-00000-of-00001.parquet")
    root = sc_release(tmp_path / "SC-IMAGENET")
    row = load_dataset("sc_imagenet", split="validation", root=root, imagenet_dir=tmp_path / "hub")[0]
    assert row["source"].size == (40, 30)
    (kept,) = (tmp_path / "cache" / "imagenet" / "others").glob(f"*/{WNIDS[2]}/{WNIDS[2]}_7.JPEG")
    assert kept.read_bytes() == (folder / WNIDS[2] / kept.name).read_bytes()  # not encoded again
    larger = [{**row, "image": {**row["image"], "bytes": _enlarged(row["image"]["bytes"])}} for row in rows]
    table = datasets.Dataset.from_list(larger, features=features)
    table.to_parquet(tmp_path / "hub" / "data" / "train-00000-of-00001.parquet")
    row = load_dataset("sc_imagenet", split="validation", root=root, imagenet_dir=tmp_path / "hub")[0]
    assert row["source"].size == (80, 60)  # not those of the other data set, which have the same names


def _enlarged(content: bytes) -> bytes:
    file = io.BytesIO()
    Image.open(io.BytesIO(content)).resize((80, 60)).save(file, "JPEG")
    return file.getvalue()


def test_sc_imagenet_lists_its_images_once_each(tmp_path: Path) -> None:
    root = sc_release(tmp_path / "SC-IMAGENET", images=True)
    data = load_dataset("sc_imagenet", "images", split="train", root=root)
    assert len(data) == len(set(data["image_id"])) == 12
    assert data[0]["image"].size == tuple(data[0]["size"]) == (40, 30)
    assert convert("sc-imagenet", "train", root).images == 12


def test_images_of_one_name_in_two_classes_are_listed_by_their_paths(tmp_path: Path) -> None:
    rows = []
    for number, category in enumerate(("cat", "dog")):
        for name in ("image_0001", "image_0002"):
            image(tmp_path / "set/JPEGImages" / category / f"{name}.jpg")
        paths = [{"path": f"{category}/image_000{end}.jpg", "bytes": None} for end in (1, 2)]
        points = {"source_points": [[1, 2]], "target_points": [[3, 4]], "mirrored": False}
        pair = {"pair_id": str(number), "dataset": "sc-imagenet", "category": number, **points}
        rows.append({**pair, "source": paths[0], "target": paths[1]})
    write_pairs(tmp_path / "set", "train", rows, ("cat", "dog"), 2)
    data = load_dataset("sc_imagenet", "images", split="train", root=tmp_path / "set")
    assert data["image_id"][:] == [f"{category}/image_000{end}.jpg" for category in ("cat", "dog") for end in (1, 2)]


def test_diy_sc_points_leave_the_padded_square(tmp_path: Path) -> None:
    spair(tmp_path / "spair-71k")
    root = tmp_path / "diy-sc"
    (root / "trn").mkdir(parents=True)
    entry = {
        "src_imname": "2008_000001.jpg",
        "trg_imname": "2008_000002.jpg",
        "num_kps": 2,
        "source_kps": [[80, 10], [0, 5]],  # 40 x 30 in a square of 80: twice as large, 10 px above and below
        "target_kps": [[40, 50], [20, 70]],
        "img_size_kps": 80,
    }
    (root / "trn" / "cat_anns.json").write_text(json.dumps([entry]))
    (row,) = load_dataset("diy_sc", split="train", root=root)
    assert row["source_points"] == [[40, 0], [0, -2.5]]
    assert row["target_points"] == [[20, 20], [10, 30]]
    assert convert("diy-sc", "train", root).points_outside == 1  # kept, and counted


def paths(data, column):  # type: ignore[no-untyped-def]
    import datasets

    return data.cast_column(column, datasets.Image(decode=False))[column]


def options():  # type: ignore[no-untyped-def]
    from sc_imagenet.sources import Options

    return Options()


def test_photographs_are_shared_out_in_bounded_time():
    """Lists made to be hard are given up, those of ten images a class never are."""
    from sc_imagenet.sources.pf_willow import MOST_PHOTOGRAPHS, share_out

    assert share_out([{f"p{n}" for n in range(MOST_PHOTOGRAPHS + 1)}], 6) is None
    assert len(share_out([{f"{c}{n}" for n in range(10)} for c in range(10)], 6)) == 60
