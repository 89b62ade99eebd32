"""Each reader reads its published layouts into the one schema."""

from __future__ import annotations

import io
import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
from made_data import (
    DIY_SC_ENTRY,
    WNIDS,
    diy_sc,
    image,
    imagenet,
    pascal_list,
    pascal_package,
    pf_willow_of_authors,
    sc_release,
    spair,
    willow_csv,
)
from PIL import Image

from sc_imagenet.core.errors import InputError
from sc_imagenet.data.convert import convert
from sc_imagenet.data.load import load_dataset
from sc_imagenet.data.shards import write_pairs
from sc_imagenet.data.verify import verify
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
    assert data["train"][0]["source_bbox"] == [4, 5, 249, 179]
    assert data["validation"][0]["source_points"] == [[9.5, 19.25], [199, 149]]
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


def test_pf_pascal_points_and_boxes_are_the_same_from_the_list_and_from_the_annotations(tmp_path: Path) -> None:
    """Numbers of MATLAB, in images of VOC's size: 0-based, five thirds as large, with boxes, from either file."""
    root = pascal_package(tmp_path / "pf-pascal", size=(500, 400))
    (annotated,) = load_dataset("pf_pascal", split="validation", root=root)
    header = "source_image,target_image,class,XA,YA,XB,YB"
    pascal_list(
        root / "val_pairs.csv", [["x/a.jpg", "x/b.jpg", 1, "10.5;200", "20.25;150", "10.5;200", "20.25;150"]], header
    )
    (listed,) = load_dataset("pf_pascal", split="validation", root=root)
    only = ("keypoint_ids", "unpaired_ids", "unpaired_points", "unpaired_in_source")  # told by the annotations alone
    ids, unpaired, points, in_source = (annotated.pop(name) for name in only)
    assert (ids, unpaired, in_source) == ([0, 2], [1], [True])
    np.testing.assert_allclose(points, np.array([[99, 49]]) * 5 / 3, rtol=1e-6)
    assert {name: listed.pop(name) for name in only} == dict.fromkeys(only)
    assert listed == annotated
    np.testing.assert_allclose(listed["source_points"], np.array([[9.5, 19.25], [199, 149]]) * 5 / 3, rtol=1e-6)
    np.testing.assert_allclose(listed["target_bbox"], np.array([4, 5, 249, 179]) * 5 / 3, rtol=1e-6)


def test_pf_pascal_list_with_points_and_no_annotations_has_no_boxes(tmp_path: Path) -> None:
    root = pascal_package(tmp_path / "pf-pascal")
    shutil.rmtree(root / "Annotations")
    pascal_list(root / "test_pairs.csv", [["a.jpg", "b.jpg", 1, "1", "1", "3", "4"]], "s,t,class,XA,YA,XB,YB")
    (pair,) = load_dataset("pf_pascal", split="test", root=root)
    assert (pair["source_points"], pair["target_points"]) == ([[0, 0]], [[2, 3]])
    assert (pair["source_bbox"], pair["target_bbox"]) == (None, None)


@real
def test_genuine_pf_pascal_lists_hold_the_same_pairs_without_their_header(tmp_path: Path) -> None:
    genuine = Path(os.environ["SC_DATA_ROOT"]) / "pf-pascal"
    for name in ("train_pairs.csv", "test_pairs.csv"):
        lines = (genuine / name).read_text().splitlines()
        (tmp_path / name).write_text("\n".join(lines[1:]))
    with_header, without = (pf_pascal.PfPascal(root, options()) for root in (genuine, tmp_path))
    for split in ("train", "test"):
        ids = [[pair.pair_id for pair in source.entries(split)] for source in (with_header, without)]
        assert ids[0] == ids[1]


def test_lists_without_a_header_lose_no_pair(tmp_path: Path) -> None:
    pascal, willow = pascal_package(tmp_path / "pf-pascal"), willow_csv(tmp_path / "pf-willow")
    pairs = [load_dataset(name, split="test", root=root)["pair_id"] for name, root in roots(pascal, willow)]
    for file in (*pascal.glob("*_pairs.csv"), willow / "test_pairs.csv"):
        file.write_text(file.read_text().split("\n", 1)[1])
    assert [load_dataset(name, split="test", root=root)["pair_id"] for name, root in roots(pascal, willow)] == pairs
    assert len(load_dataset("pf_pascal", split="train", root=pascal)) == 3


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-32"])
def test_lists_with_byte_order_marks_are_read(tmp_path: Path, encoding: str) -> None:
    """As Windows' editors, Excel and PowerShell write them: lists, CSV files and annotations."""
    pascal, willow, pairs = pascal_package(tmp_path / "a"), willow_csv(tmp_path / "b"), spair(tmp_path / "c")
    for file in (*pascal.glob("*.csv"), *willow.glob("*.csv"), *pairs.glob("Layout/*/*"), *pairs.glob("Pair*/*/*")):
        file.write_bytes(file.read_text().replace("\n", "\r\n").encode(encoding))
    assert [len(load_dataset(name, split="test", root=root)) for name, root in roots(pascal, willow)] == [2, 2]
    assert load_dataset("spair_71k", split="test", root=pairs)[0]["pair_id"].startswith("000001-")


def test_lists_that_were_joined_have_marks_inside(tmp_path: Path) -> None:
    root = spair(tmp_path / "spair")
    file = root / "Layout" / "large" / "test.txt"
    first, second = file.read_text().splitlines()
    file.write_text(f"\ufeff{first}\n\ufeff{second}\n", encoding="utf-8")
    assert len(load_dataset("spair_71k", split="test", root=root)) == 2


def test_dot_names_are_no_data_in_any_source(tmp_path: Path) -> None:
    """What macOS and notebooks leave in every folder: ``._a.mat``, ``.DS_Store``, ``.ipynb_checkpoints``."""
    pascal, pairs = pascal_package(tmp_path / "pf-pascal"), spair(tmp_path / "spair-71k")
    release, labels = sc_release(tmp_path / "sc-imagenet", images=True), diy_sc(tmp_path / "diy-sc")
    willow = pf_willow_of_authors(tmp_path / "pf-willow")
    for root in (pascal, pairs, release, labels, willow):
        for folder in [root, *(path for path in root.rglob("*") if path.is_dir())]:
            for file in [path for path in folder.iterdir() if path.is_file()]:
                (folder / f"._{file.name}").write_bytes(b"\0\5\x16\7")
            (folder / ".DS_Store").write_bytes(b"Bud1")
            (folder / ".ipynb_checkpoints").mkdir()
    counts = {
        name: len(load_dataset(name, split="test" if name not in ("sc_imagenet", "diy_sc") else "train", root=root))
        for name, root in (
            *roots(pascal, willow),
            ("spair_71k", pairs),
            ("sc_imagenet", release),
            ("diy_sc", labels),
        )
    }
    assert counts == {"pf_pascal": 2, "pf_willow": 6, "spair_71k": 2, "sc_imagenet": 6, "diy_sc": 1}
    for name in ("pf-pascal", "pf-willow", "spair-71k", "sc-imagenet", "diy-sc"):
        found = verify(name, None, tmp_path)
        assert (found.damage, found.strays) == ({}, ())


def test_a_data_set_of_images_may_lie_in_a_folder_with_brackets_and_dot_names(tmp_path: Path) -> None:
    import datasets

    folder = tmp_path / "in [1]*" / "data"
    file = imagenet(tmp_path / "in") / WNIDS[2] / f"{WNIDS[2]}_7.JPEG"
    images = [{"path": f"{WNIDS[2]}_{number}_{WNIDS[2]}.JPEG", "bytes": file.read_bytes()} for number in (7, 8)]
    rows = datasets.Dataset.from_list([{"image": image} for image in images])
    rows = rows.cast(datasets.Features({"image": datasets.Image()}))
    folder.mkdir(parents=True)
    rows.to_parquet(folder / "train-00000-of-00001.parquet")
    (folder / "._train-00000-of-00001.parquet").write_bytes(b"\0\5\x16\7")
    root = sc_release(tmp_path / "SC-IMAGENET [b]")
    row = load_dataset("sc_imagenet", split="validation", root=root, imagenet_dir=folder.parent)[0]
    assert row["source"].size == (40, 30)


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


@pytest.mark.parametrize("form", [".json", ".pt"])
def test_diy_sc_points_leave_the_padded_square(tmp_path: Path, form: str) -> None:
    spair(tmp_path / "spair-71k")
    root = diy_sc(tmp_path / "diy-sc", form)
    (row,) = load_dataset("diy_sc", split="train", root=root)
    assert row["source_points"] == [[40, 0], [0, -2.5]]
    assert row["target_points"] == [[20, 20], [10, 30]]
    assert convert("diy-sc", "train", root).points_outside == 1  # kept, and counted


def test_diy_sc_reads_what_its_authors_write_and_executes_nothing(tmp_path: Path) -> None:
    """A .json beside the .pt of the same category holds the same pairs; another category's is read."""
    import torch

    spair(tmp_path / "spair-71k")
    root = diy_sc(tmp_path / "diy-sc", ".pt")
    diy_sc(root, ".json")
    (root / "trn" / "dog_0.json").write_text(json.dumps({**DIY_SC_ENTRY, "src_imname": "d.jpg", "trg_imname": "e.jpg"}))
    for name in "de":
        image(tmp_path / "spair-71k" / "JPEGImages" / "dog" / f"{name}.jpg")
    assert load_dataset("diy_sc", split="train", root=root)["category"] == [
        spair_71k.CATEGORIES.index(name) for name in ("cat", "dog")
    ]
    assert verify("diy-sc", None, tmp_path).strays == ("trn/cat_anns.json",)
    torch.save([Path("a")], root / "trn" / "cat_anns.pt")
    with pytest.raises(InputError, match=r"cat_anns\.pt: holds a Python object .*not only a list of annotations"):
        load_dataset("diy_sc", split="train", root=root)


def test_a_point_outside_the_square_it_is_given_in_is_refused(tmp_path: Path) -> None:
    spair(tmp_path / "spair-71k")
    root = diy_sc(tmp_path / "diy-sc", img_size_kps=60)
    with pytest.raises(InputError, match=r"entry 0 is not an annotation \(\(80, 10\) is not in a square of 60\)"):
        load_dataset("diy_sc", split="train", root=root)


RESIZED = r"is 80 x 60 pixels, the points of pair .* are for 40 x 30\. Get the image again in its own size"


@pytest.mark.parametrize(
    ("name", "made"),
    [
        ("spair_71k", lambda root: spair(root / "spair-71k", src_imsize=[40, 30, 3], trg_imsize=[40, 30, 3])),
        ("sc_imagenet", lambda root: sc_release(root / "sc-imagenet", images=True, src_imsize=[40, 30, 3])),
        ("diy_sc", lambda root: diy_sc(root / "diy-sc", ".pt", src_imsize=(40, 30), tgt_imsize=(40, 30))),
    ],
)
def test_images_of_another_size_than_was_annotated_are_refused_and_reported(tmp_path: Path, name: str, made) -> None:  # type: ignore[no-untyped-def]
    if name == "diy_sc":
        spair(tmp_path / "spair-71k")
    root = made(tmp_path)
    assert len(load_dataset(name, split="train", root=root)) > 0
    assert verify(name, "train", tmp_path).damage == {}
    for file in (*tmp_path.glob("*/JPEGImages/*/*.jpg"), *tmp_path.glob("*/JPEGImages/*/*.JPEG")):
        image(file, (80, 60))
    shutil.rmtree(tmp_path / "cache")
    with pytest.raises(InputError, match=RESIZED):
        load_dataset(name, split="train", root=root)
    report = verify(name, "train", tmp_path)
    assert set(report.damage) == {"images of another size"}
    assert all("are for 40 x 30" in fault for fault in report.splits[0].faults)


def test_images_replaced_after_the_conversion_are_refused_when_they_are_read(tmp_path: Path) -> None:
    from benchmark.commands.data import picture_of_pairs
    from sc_imagenet.data.pairs import PairDataset

    root = spair(tmp_path / "spair-71k")
    rows = load_dataset("spair_71k", split="test", root=root)
    pairs = PairDataset(rows, 32, (0, 0, 0), (1, 1, 1))
    assert pairs[0]["source_size"].tolist() == [40, 30]
    image(root / "JPEGImages" / "cat" / "2008_000001.jpg", (80, 60))
    with pytest.raises(InputError, match=RESIZED):
        PairDataset(rows, 32, (0, 0, 0), (1, 1, 1))[0]
    assert picture_of_pairs("spair-71k:test", 2, root=str(tmp_path))  # opened anew, it is converted anew


def test_classes_with_blanks_and_brackets_in_their_names_are_read_back(tmp_path: Path) -> None:
    """From the Parquet of a generated set, and from the release's layout written of it."""
    from sc_imagenet.data.shards import write_pairs
    from sc_imagenet.generation.export import write_release

    root, photographs, names = tmp_path / "set [1]", tmp_path / "photographs", [" dog ", "[a] dog", "dog", "dog "]
    rows = []
    for number, name in enumerate(names):
        for side in "ab":
            image(photographs / name / f"{side}.jpg")
        ends = {
            side: {"path": f"{name}/{file}.jpg", "bytes": None} for side, file in (("source", "a"), ("target", "b"))
        }
        points = {f"{side}_points": [[1.0, 2.0]] for side in ends}
        sizes = {f"{side}_size": [40, 30] for side in ends}
        about = {"pair_id": f"{number:06d}-1-2:{name}", "dataset": "sc-imagenet", "category": number, "mirrored": False}
        rows.append({**about, **ends, **points, **sizes})
    records = {split: write_pairs(root, split, rows, names, len(rows)) for split in ("train", "validation")}
    (root / "JPEGImages").symlink_to(photographs)
    data = load_dataset("sc_imagenet", split="train", root=root)
    assert [data.features["category"].names[each] for each in data["category"]] == names
    released = load_dataset("sc_imagenet", split="train", root=write_release(root, records))
    assert sorted(released.features["category"].names) == ["[a] dog", "_dog_", "dog", "dog_"]
    assert [row["source"].size for row in (*data, *released)] == [(40, 30)] * 8
    assert verify("sc-imagenet", None, root / "spair").damage == verify("sc-imagenet", None, root).damage == {}
    image(photographs / "dog" / "a.jpg", (80, 60))
    assert verify("sc-imagenet", None, root / "spair").damage == {"images of another size": 1}
    assert verify("sc-imagenet", None, root).damage == {"images of another size": 1}


def test_empty_lists_of_a_part_are_splits_that_are_not_there(tmp_path: Path) -> None:
    root = spair(tmp_path / "spair")
    for name in ("trn", "val"):
        (root / "Layout" / "large" / f"{name}.txt").write_bytes(b"")
    assert set(load_dataset("spair_71k", root=root)) == {"test"}
    with pytest.raises(InputError, match=r"'train' of SPair-71k cannot be read: .*trn\.txt is empty"):
        load_dataset("spair_71k", split="train", root=root)


@real
def test_the_genuine_pairs_of_spair_are_whole_and_of_the_size_they_were_annotated_in() -> None:
    report = verify("spair-71k")
    assert (report.damage, report.strays) == ({}, ())
    (test,) = report.splits
    assert [line.found for line in test.lines if line.what in ("pairs", "images", "points")] == [12, 14, 91]
    assert {split: why.rpartition(" is ")[2] for split, why in report.absent.items()} == {
        "train": "empty",
        "validation": "empty",
    }


def roots(pascal: Path, willow: Path) -> list[tuple[str, Path]]:
    return [("pf_pascal", pascal), ("pf_willow", willow)]


def paths(data, column):  # type: ignore[no-untyped-def]
    import datasets

    return data.cast_column(column, datasets.Image(decode=False))[column]


def options():  # type: ignore[no-untyped-def]
    from sc_imagenet.sources.source import SourceOptions

    return SourceOptions()


def test_photographs_are_shared_out_in_bounded_time():
    """Lists made to be hard are given up, those of ten images a class never are."""
    from sc_imagenet.sources.pf_willow import MOST_PHOTOGRAPHS, share_out

    assert share_out([{f"p{n}" for n in range(MOST_PHOTOGRAPHS + 1)}], 6) is None
    assert len(share_out([{f"{c}{n}" for n in range(10)} for c in range(10)], 6)) == 60
