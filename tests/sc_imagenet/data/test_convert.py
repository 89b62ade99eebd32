"""Conversion is done once, whole or not at all, and says in one line what is wrong with a data set."""

from __future__ import annotations

import json
import multiprocessing
import os
import re
import shutil
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from filelock import FileLock
from made_data import WNIDS, annotation, image, imagenet, pascal_package, sc_release, spair, willow_csv
from scipy.io import loadmat, savemat

from sc_imagenet.core.errors import InputError
from sc_imagenet.data import convert as convert_module
from sc_imagenet.data.convert import convert
from sc_imagenet.data.load import load_dataset, manifest_sha256
from sc_imagenet.data.shards import write_pairs
from tests import PATIENCE

pytestmark = pytest.mark.usefixtures("own_caches")


def first_pair(root: Path) -> Path:
    return root / "PairAnnotation" / "test" / "000001-2008_000001-2008_000009:cat.json"


def rewrite(**changes: object) -> Callable[[Path], None]:
    return lambda root: first_pair(root).write_text(json.dumps(annotation("cat", **changes)))  # type: ignore


def cut(path: Path, share: float = 0.5) -> None:
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * share)])


def listed(line: str) -> Callable[[Path], None]:
    return lambda root: (root / "Layout" / "large" / "test.txt").write_text(line)  # type: ignore


IMAGE = "JPEGImages/cat/2008_000001.jpg"
DAMAGE: dict[str, tuple[Callable[[Path], object], str]] = {
    "truncated JSON": (lambda root: cut(first_pair(root)), "000001-2008.*json: is not valid JSON"),
    "missing JSON": (lambda root: first_pair(root).unlink(), "000001-2008.*json: no such file"),
    "key missing": (lambda root: first_pair(root).write_text("{}"), "has no key 'src_kps'"),
    "counts": (rewrite(src_kps=[[1, 2]]), "pair 000001.*1 source points and 2 target"),
    "no points": (rewrite(src_kps=[], trg_kps=[]), "pair 000001.*has no points"),
    "nan": (rewrite(trg_kps=[[1, 2], [3, float("nan")]]), "pair 000001.*target point 1 .*not a number"),
    "infinite": (rewrite(src_kps=[[1, 2], [float("inf"), 3]]), "source point 1 .*not a number"),
    "outside": (rewrite(src_kps=[[1, 2], [41.5, 3]]), r"source point 1 at \(41.5, 3\) .*of 40 x 30"),
    "missing image": (lambda root: (root / IMAGE).unlink(), "2008_000001.jpg: is not there, .*pair 000001"),
    "empty image": (lambda root: (root / IMAGE).write_bytes(b""), "is empty .*pair 000001"),
    "not an image": (lambda root: (root / IMAGE).write_text("hello"), "not an image.*pair 000001"),
    "pair twice": (listed("1-2008_000001-2008_000002:cat\n" * 2), "lists pair 1-.* twice"),
    "class unknown": (listed("1-2008_000001-2008_000002:dragon\n"), "test.txt: line 1: unknown category"),
    "line damaged": (listed("1-2008_0000"), "test.txt: line 1 is not '<n>-<source>"),
    "list empty": (listed("\n"), "test.txt: is empty"),
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_damaged_pairs_are_named_in_one_line(tmp_path: Path, damage: str) -> None:
    root = spair(tmp_path / "spair-71k")
    harm, message = DAMAGE[damage]
    harm(root)
    with pytest.raises(InputError) as raised:
        load_dataset("spair_71k", split="test", root=root)
    assert re.search(message, str(raised.value))
    assert "\n" not in str(raised.value)
    assert not list((tmp_path / "cache").rglob("*.parquet"))


def test_damage_is_found_in_worker_processes_too(tmp_path: Path) -> None:
    root = spair(tmp_path / "spair-71k")
    rewrite(src_kps=[])(root)
    with pytest.raises(InputError, match="pair 000001"):
        convert("spair-71k", "test", root, num_proc=2)


def test_rounding_up_to_a_pixel_outside_is_tolerated_and_more_may_be_kept(tmp_path: Path) -> None:
    root = spair(tmp_path / "spair-71k", src_kps=[[-0.9, 2], [40, 30]])
    assert convert("spair-71k", "test", root).points_outside == 0
    root = spair(tmp_path / "more", src_kps=[[-3, 2], [45, 30]])
    assert convert("spair-71k", "test", root, outside="keep").points_outside == 4


def test_truncated_mat_and_csv_are_named(tmp_path: Path) -> None:
    pascal, willow = pascal_package(tmp_path / "pascal"), willow_csv(tmp_path / "willow")
    cut(pascal / "Annotations" / "aeroplane" / "c.mat")
    with pytest.raises(InputError, match=r"c.mat: (is not a whole .mat file|holds no 'kps')"):
        load_dataset("pf_pascal", split="train", root=pascal)
    cut(willow / "test_pairs.csv", 0.95)
    with pytest.raises(InputError, match=r"test_pairs.csv: line 3 .*truncated"):
        load_dataset("pf_willow", split="test", root=willow)


def test_an_image_missing_from_imagenet_is_named_with_its_pair(tmp_path: Path) -> None:
    folder = imagenet(tmp_path / "in")
    (folder / WNIDS[1] / f"{WNIDS[1]}_1.JPEG").unlink()
    root = sc_release(tmp_path / "SC-ImageNet")
    with pytest.raises(InputError, match=rf"{WNIDS[1]}_1.JPEG: is not there, named by pair 1-1-2:{WNIDS[1]}"):
        load_dataset("sc_imagenet", split="train", root=root, imagenet_dir=folder)
    with pytest.raises(InputError, match="holds no class folders"):
        load_dataset("sc_imagenet", split="train", root=root, imagenet_dir=tmp_path)


def test_converted_once_until_the_data_change_or_force(tmp_path: Path) -> None:
    root = spair(tmp_path / "spair-71k")
    first = convert("spair-71k", "test", root)
    made = (first.folder / "test.json").stat().st_mtime_ns
    assert convert("spair-71k", "test", root) == first
    assert (first.folder / "test.json").stat().st_mtime_ns == made
    assert convert("spair-71k", "test", root, force=True) == first
    assert (first.folder / "test.json").stat().st_mtime_ns != made
    cut(first_pair(root))  # in place: neither the list nor the folder's date changes
    with pytest.raises(InputError, match="not valid JSON"):
        convert("spair-71k", "test", root)


def overwrite(path: Path, content: bytes) -> None:
    """Other bytes in the same file, of the same number and with its date, as a copying program may leave them."""
    before = path.stat()
    assert len(content) == before.st_size
    path.write_bytes(content)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


def test_an_annotation_mended_in_place_is_read_anew_by_the_same_process(tmp_path: Path, caplog) -> None:  # type: ignore
    root = spair(tmp_path / "spair-71k")
    before = load_dataset("spair_71k", split="test", root=root)[0]["source_points"]
    overwrite(first_pair(root), first_pair(root).read_bytes().replace(b"[1, 2], [30", b"[9, 2], [30"))
    after = load_dataset("spair_71k", split="test", root=root)[0]["source_points"]
    assert (before[0], after[0]) == ([1, 2], [9, 2])
    assert "spair-71k:test is converted again: other annotations or images" in caplog.text


def test_a_mat_file_mended_in_place_is_read_anew_by_the_same_process(tmp_path: Path) -> None:
    root = pascal_package(tmp_path / "pf-pascal")
    file = root / "Annotations" / "aeroplane" / "a.mat"
    before = load_dataset("pf_pascal", split="test", root=root)
    content = loadmat(file)
    content["kps"][0] = (77, 55)
    savemat(tmp_path / "mended.mat", {name: content[name] for name in ("kps", "bbox")})
    overwrite(file, (tmp_path / "mended.mat").read_bytes())
    after = load_dataset("pf_pascal", split="test", root=root)
    assert before[0]["source_points"][0] != after[0]["source_points"][0] == [76, 54]  # counted from 0
    assert before[0]["target_points"] == after[0]["target_points"]


def test_an_image_replaced_in_place_by_one_of_another_size_is_seen(tmp_path: Path) -> None:
    root = spair(tmp_path / "spair-71k")
    assert load_dataset("spair_71k", split="test", root=root)[0]["source_size"] == [40, 30]
    image(root / IMAGE, (80, 60))
    assert load_dataset("spair_71k", split="test", root=root)[0]["source_size"] == [80, 60]


def test_of_a_folder_of_very_many_files_only_its_own_date_is_looked_at(tmp_path: Path, monkeypatch) -> None:  # type: ignore
    monkeypatch.setattr(convert_module, "MANY", 3)  # the root has three images and two annotations a split
    root = spair(tmp_path / "spair-71k")
    image(root / "JPEGImages" / "cat" / "one_more.jpg")
    first = convert("spair-71k", "test", root)
    image(root / IMAGE, (80, 60))
    assert convert("spair-71k", "test", root) == first


def test_the_manifest_is_of_the_pairs_not_of_where_images_lie(tmp_path: Path) -> None:
    with_images = sc_release(tmp_path / "one", images=True)
    without = sc_release(tmp_path / "two")
    sums = {manifest_sha256("sc_imagenet", "train", root) for root in (with_images, without)}
    assert len(sums) == 1
    assert manifest_sha256("sc-imagenet:train", root=sc_release(tmp_path / "x", occlusion=1)) not in sums


def test_two_processes_convert_at_once_and_get_the_same(tmp_path: Path) -> None:
    root = spair(tmp_path / "spair-71k")
    with multiprocessing.get_context("spawn").Pool(2) as pool:
        first, second = pool.starmap(convert, [("spair-71k", "train", root)] * 2)
    assert first == second == convert("spair-71k", "train", root)
    assert len(list((tmp_path / "cache").rglob("train.json"))) == 1
    assert not list((tmp_path / "cache").rglob("*.tmp"))


def test_who_waits_for_another_s_conversion_says_so(tmp_path: Path, caplog) -> None:  # type: ignore
    root = spair(tmp_path / "spair-71k")
    first = convert("spair-71k", "train", root)
    shutil.rmtree(first.folder)
    held = threading.Event()

    def hold() -> None:
        with FileLock(first.folder.with_suffix(".lock")):
            held.set()
            end = time.monotonic() + PATIENCE
            while "is being converted" not in caplog.text and time.monotonic() < end:
                time.sleep(0.01)

    threading.Thread(target=hold).start()
    held.wait()
    assert convert("spair-71k", "train", root) == first
    assert "spair-71k:train is being converted by another process: waiting for it" in caplog.text


def rows(count: int) -> list[dict]:
    return [
        {
            "pair_id": f"{n}-a-b:{WNIDS[0]}",
            "dataset": "sc-imagenet",
            "category": 0,
            "source": {"path": f"{WNIDS[0]}/{WNIDS[0]}_{n % 9}.JPEG", "bytes": None},
            "target": {"path": f"{WNIDS[0]}/{WNIDS[0]}_8.JPEG", "bytes": None},
            "source_points": [[n, 1], [2, 3]],
            "target_points": [[4, 5], [6, 7]],
            "mirrored": False,
            "confidence": [0.5, 0.25],
            "pair_score": 1.5,
        }
        for n in range(count)
    ]


def test_own_parquet_is_read_where_it_lies(tmp_path: Path) -> None:
    root, images = tmp_path / "made", imagenet(tmp_path / "in")
    record = write_pairs(root, "train", rows(20), WNIDS, total=20)
    assert (record.rows, record.points, record.images, len(record.shards)) == (20, 40, 9, 7)
    data = load_dataset("sc_imagenet", split="train", root=root, imagenet_dir=images)
    assert data[3]["source"].size == (40, 30)
    assert data[3]["confidence"] == [0.5, 0.25]
    assert data["pair_id"][:] == [row["pair_id"] for row in rows(20)]
    assert not (tmp_path / "cache" / "converted").exists()


def test_a_shard_changed_in_place_is_another_set_though_its_size_and_its_record_are_not(tmp_path: Path, caplog) -> None:  # type: ignore
    root = tmp_path / "made"
    written = write_pairs(root, "train", rows(20), WNIDS, total=20)
    assert manifest_sha256("sc_imagenet", "train", root) == written.manifest_sha256
    mended = rows(20)
    mended[0]["source_points"] = [[38, 1], [2, 3]]
    write_pairs(tmp_path / "other", "train", mended, WNIDS, total=20)
    shard = "pairs/train-00000-of-00007.parquet"
    overwrite(root / shard, (tmp_path / "other" / shard).read_bytes())
    found = load_dataset("sc_imagenet", split="train", root=root, imagenet_dir=imagenet(tmp_path / "in"))
    assert found[0]["source_points"] == [[38, 1], [2, 3]]
    assert manifest_sha256("sc_imagenet", "train", root) == manifest_sha256("sc_imagenet", "train", tmp_path / "other")
    assert "its shards are not those that train.json tells of" in caplog.text


def test_own_parquet_without_a_record_has_the_same_manifest(tmp_path: Path) -> None:
    record = write_pairs(tmp_path / "made", "train", rows(20), WNIDS, total=20)
    (tmp_path / "made" / "pairs" / "train.json").unlink()
    assert manifest_sha256("sc_imagenet", "train", tmp_path / "made") == record.manifest_sha256


def test_truncated_parquet_is_named(tmp_path: Path) -> None:
    root = tmp_path / "made"
    write_pairs(root, "train", rows(20), WNIDS, total=20)
    shard = root / "pairs" / "train-00002-of-00007.parquet"
    cut(shard)
    with pytest.raises(InputError, match=r"train-00002-of-00007.parquet: has .* bytes, .* were written"):
        load_dataset("sc_imagenet", split="train", root=root)
    (root / "pairs" / "train.json").unlink()
    with pytest.raises(InputError, match=r"train-00002-of-00007.parquet: is not a readable Parquet file"):
        load_dataset("sc_imagenet", split="train", root=root)


def test_own_parquet_with_bad_points_is_named(tmp_path: Path) -> None:
    bad = rows(9)
    bad[4]["source_points"] = [[1, 2]]
    with pytest.raises(InputError, match=r"pair 4-a-b.*1 source points and 2 target"):
        write_pairs(tmp_path / "made", "train", bad, WNIDS, total=9)
    bad[4]["source_points"] = [[1, float("nan")], [0, 0]]
    with pytest.raises(InputError, match=r"pair 4-a-b.*not a number"):
        write_pairs(tmp_path / "other", "train", bad, WNIDS, total=9)


def test_a_cache_that_cannot_be_written_is_said_in_one_line(tmp_path: Path, monkeypatch) -> None:  # type: ignore
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("SC_CACHE", str(tmp_path / "file"))
    with pytest.raises(InputError, match="cannot be written"):
        convert("spair-71k", "test", spair(tmp_path / "spair-71k"))


def test_progress_ends_at_all_pairs(tmp_path: Path) -> None:
    seen: list[tuple[int, int]] = []
    convert("spair-71k", "test", spair(tmp_path / "spair-71k"), progress=lambda *now: seen.append(now))
    assert seen[-1] == (2, 2)
    assert os.listdir(tmp_path / "cache" / "converted") == ["spair-71k"]
