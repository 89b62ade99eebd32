"""A whole data set is ok, a part of one is partial, and damage is named and counted."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from scipy.io import savemat

from sc_imagenet.core.errors import InputError
from sc_imagenet.data.verify import FAULTS, verify

CLASSES = ("car(G)", "duck(S)")
IMAGES = 8  # of a class: so that images_train and images_test both have pairs


@pytest.fixture
def willow(tmp_path: Path) -> Path:
    """Two classes of eight images in PF-WILLOW's layout: 2 * 8 * 7 = 112 pairs."""
    rng = np.random.default_rng(0)
    for category in CLASSES:
        folder = tmp_path / "pf-willow" / category
        folder.mkdir(parents=True)
        for i in range(IMAGES):
            Image.fromarray(rng.integers(0, 255, (30, 40, 3), dtype=np.uint8)).save(folder / f"i{i}.png")
            points = np.stack([rng.uniform(0, 39, 10), rng.uniform(0, 29, 10)])
            savemat(folder / f"i{i}.mat", {"pts_coord": points})
    return tmp_path


def lines(root: Path, split: str = "test") -> dict[str, tuple[int, str]]:
    report = verify("pf_willow", split, root)
    return {line.what: (line.found, str(line)) for line in report.splits[0].lines}


def test_part_of_a_data_set_is_partial_but_not_damaged(willow):
    report = verify("pf-willow", None, willow)
    assert [split.split for split in report.splits] == ["test", "images_train", "images_test"]
    found = {line.what: (line.found, str(line)) for line in report.splits[0].lines}
    assert found["pairs"] == (112, "partial: 112 of 900")
    assert found["points"] == (1120, "counted")
    assert all(found[fault] == (0, "ok") for fault in FAULTS)
    assert {line.what: str(line) for line in report.lines} == {
        "images": "partial: 16 of 100",
        "classes": "partial: 2 of 10",
    }
    assert not report.damaged


def test_whole_data_set_is_ok(tmp_path, willow):
    """Ten copies of a class under the ten names, two images more in each: the published counts."""
    from sc_imagenet.sources.pf_willow import CATEGORIES

    model = tmp_path / "model"
    shutil.move(willow / "pf-willow" / "car(G)", model)
    shutil.rmtree(willow / "pf-willow")
    for extra in ("i8", "i9"):
        for suffix in (".png", ".mat"):
            shutil.copy(model / f"i0{suffix}", model / f"{extra}{suffix}")
    for category in CATEGORIES:
        shutil.copytree(model, willow / "pf-willow" / category)
    report = verify("pf-willow", None, willow)
    assert {str(line) for split in report.splits for line in split.lines if line.what == "pairs"} == {"ok"}
    assert {str(line) for line in report.lines} == {"ok"}


def test_missing_and_unreadable_images_are_named_once_each(willow):
    folder = willow / "pf-willow" / "car(G)"
    (folder / "i0.png").unlink()
    (folder / "i1.png").write_bytes(b"")
    (folder / "i2.png").write_bytes((folder / "i2.png").read_bytes()[:200])
    report = verify("pf-willow", "test", willow)
    found = {line.what: line.found for line in report.splits[0].lines}
    assert (found["missing images"], found["unreadable images"]) == (1, 2)
    assert report.damaged
    for name, why in (("i0.png", "no such image"), ("i1.png", "is empty"), ("i2.png", "is damaged")):
        assert len([fault for fault in report.splits[0].faults if name in fault and why in fault]) == 1


def test_truncated_annotation_is_damage_in_each_of_its_pairs(willow):
    mat = willow / "pf-willow" / "duck(S)" / "i3.mat"
    mat.write_bytes(mat.read_bytes()[:100])
    found = lines(willow)
    assert found["unreadable annotations"] == (2 * (IMAGES - 1), "damaged")


@pytest.mark.parametrize(
    ("point", "kind"), [((400.0, 5.0), "points outside their image"), ((np.nan, 5.0), "unreadable annotations")]
)
def test_points_that_cannot_be_are_damage(willow, point, kind):
    points = np.ones((2, 10)) * 5
    points[:, 4] = point
    savemat(willow / "pf-willow" / "car(G)" / "i0.mat", {"pts_coord": points})
    assert lines(willow)[kind] == (2 * (IMAGES - 1), "damaged")


def test_an_image_that_several_splits_use_is_damage_once(willow, capsys):
    """The splits by image share the test split's images: each names it, the sum has it once."""
    from benchmark.commands.data import print_verified

    names = [f"{category}/i{i}.png" for category in CLASSES for i in range(IMAGES)]
    for name in names:
        (willow / "pf-willow" / name).unlink()
    report = verify("pf-willow", None, willow)
    assert report.damage == {"missing images": len(names)}
    assert [line.found for split in report.splits for line in split.lines if line.what == "missing images"] == [
        16,
        12,
        4,
    ]
    print_verified(report, as_json=False)
    said = capsys.readouterr().out.splitlines()
    assert [len([line for line in said if f"{name}: no such image" in line]) for name in names] == [1] * len(names)
    assert len([line for line in said if line.startswith("test, images_")]) == len(names)


def test_what_is_not_named_is_counted(willow, capsys):
    from benchmark.commands.data import print_verified

    folder = willow / "pf-willow"
    for category in CLASSES:
        for i in range(IMAGES, 14):
            for suffix in (".png", ".mat"):
                shutil.copy(folder / category / f"i0{suffix}", folder / category / f"i{i}{suffix}")
    for image in folder.glob("*/*.png"):
        image.unlink()
    report = verify("pf-willow", "test", willow)
    assert (len(report.splits[0].faults), report.splits[0].more) == (20, {"missing images": 8})
    print_verified(report, as_json=False)
    assert "test: and 8 more missing images" in capsys.readouterr().out


def test_points_of_pairs_without_their_images_are_counted(willow):
    whole = lines(willow)["points"]
    for image in (willow / "pf-willow").glob("*/*.png"):
        image.unlink()
    assert lines(willow)["points"] == whole == (1120, "counted")


def test_every_absent_split_says_its_reason(tmp_path):
    (tmp_path / "spair-71k").mkdir()
    with pytest.raises(
        InputError, match=r"train: .*trn\.txt is not there; validation: .*val\.txt .*; test: .*test\.txt"
    ):
        verify("spair-71k", None, tmp_path)


def test_what_is_not_of_the_data_set_is_named_and_no_damage(willow, capsys):
    from benchmark.commands.data import print_verified

    folder = willow / "pf-willow"
    (folder / "BACKGROUND_Google").mkdir()
    (folder / "tmp").mkdir()
    (folder / "car(G)" / "Thumbs.db").write_bytes(b"\0")
    shutil.copy(folder / "car(G)" / "i0.png", folder / "car(G)" / "placeholder.png")
    report = verify("pf-willow", None, willow)
    assert report.strays == ("BACKGROUND_Google", "tmp", "car(G)/Thumbs.db", "car(G)/placeholder.png")
    assert not report.damaged
    print_verified(report, as_json=False)
    assert "not of the data set, not read: BACKGROUND_Google, tmp, car(G)/Thumbs.db" in capsys.readouterr().out


def spair(root: Path, pairs: list[str]) -> Path:
    folder = root / "spair-71k"
    (folder / "Layout" / "large").mkdir(parents=True)
    (folder / "Layout" / "large" / "test.txt").write_text("\n".join(pairs) + "\n")
    (folder / "PairAnnotation" / "test").mkdir(parents=True)
    (folder / "JPEGImages" / "cat").mkdir(parents=True)
    for name in ("a", "b"):
        Image.new("RGB", (40, 30)).save(folder / "JPEGImages" / "cat" / f"{name}.jpg")
    points = {"src_kps": [[1, 2]], "trg_kps": [[3, 4]], "src_bndbox": [0, 0, 9, 9], "trg_bndbox": [0, 0, 9, 9]}
    for pair in pairs:
        (folder / "PairAnnotation" / "test" / f"{pair}.json").write_text(json.dumps(points))
    return folder


def test_pair_listed_twice_is_damage(tmp_path):
    spair(tmp_path, ["1-a-b:cat", "2-b-a:cat", "1-a-b:cat"])
    report = verify("spair-71k", "test", tmp_path)
    assert [line.found for line in report.splits[0].lines if line.what == "duplicate pair ids"] == [1]
    assert "pair 1-a-b:cat is listed twice" in report.splits[0].faults


def test_damaged_list_is_reported_and_the_rest_is_looked_at(tmp_path):
    spair(tmp_path, ["1-a-b:cat"])
    (tmp_path / "spair-71k" / "Layout" / "large" / "test.txt").write_text("1-a-b:cat\n2-a")
    report = verify("spair-71k", None, tmp_path)
    assert report.damaged
    assert "line 2 is not" in report.splits[0].faults[0]
    assert set(report.absent) == {"train", "validation"}


def test_generated_pairs_in_parquet_without_images_are_counted_but_images_unchecked(tmp_path, monkeypatch):
    from sc_imagenet.data.shards import write_pairs

    monkeypatch.delenv("IMAGENET_ROOT", raising=False)
    rows = [
        {
            "pair_id": f"{i}-1-2:n01440764",
            "dataset": "sc-imagenet",
            "category": 0,
            "source": {"path": "n01440764/n01440764_1.JPEG", "bytes": None},
            "target": {"path": "n01440764/n01440764_2.JPEG", "bytes": None},
            "source_points": [[1.0, 2.0], [3.0, 4.0]],
            "target_points": [[1.0, 2.0], [3.0, 4.0]],
            "mirrored": False,
        }
        for i in range(5)
    ]
    write_pairs(tmp_path / "sc-imagenet", "train", rows, ["n01440764"], len(rows))
    report = verify("sc-imagenet", "train", tmp_path)
    found = {line.what: (line.found, line.state) for line in report.splits[0].lines}
    assert found["pairs"] == (5, "counted")
    assert found["points"] == (10, "counted")
    assert found["missing images"] == (0, "unchecked")
    assert not report.damaged


def test_nothing_there_and_unknown_split_are_one_line(tmp_path, willow):
    with pytest.raises(InputError, match="unknown split of pf-willow 'tset'"):
        verify("pf-willow", "tset", willow)
    (tmp_path / "spair-71k").mkdir()
    with pytest.raises(InputError, match=r"SPair-71k cannot be looked through: .*trn\.txt is not there"):
        verify("spair-71k", None, tmp_path)


def test_report_goes_to_json(willow):
    content = json.loads(json.dumps(verify("pf-willow", "test", willow).as_dict()))
    assert content["damaged"] is False
    assert content["splits"][0]["lines"][0] == {"what": "pairs", "found": 112, "published": 900, "state": "partial"}
