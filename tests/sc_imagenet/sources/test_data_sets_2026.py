"""The data sets that papers of 2023 to 2026 report on, read in their documented layouts."""

from __future__ import annotations

import hashlib
import json
import os
import random
import shutil
from pathlib import Path

import numpy as np
import pytest

from sc_imagenet.core.errors import InputError
from sc_imagenet.data.catalog import info
from sc_imagenet.data.load import load_dataset
from sc_imagenet.data.pair_lists import lists_of, write_lists
from sc_imagenet.data.roots import open_source
from sc_imagenet.data.verify import verify
from sc_imagenet.sources import ap_10k, ap_10k_pairs, cub_200_2011, tss
from sc_imagenet.sources.source import SourceOptions
from sc_imagenet.toy.pairs import ALIKE, point_names, seen_points
from tests.golden.references import load
from tests.sc_imagenet import layouts_2026, made_data

pytestmark = pytest.mark.usefixtures("own_caches")
real = pytest.mark.skipif(not os.environ.get("SC_DATA_ROOT"), reason="SC_DATA_ROOT is not set")

SHORT = {"train": "trn", "validation": "val", "test": "test"}


def stored_name(split: str) -> str:
    part, _, kind = split.partition("_")
    return f"ap10k_pairs_{SHORT[part]}" + (f"_{kind}" if kind else "")


@pytest.fixture(scope="module")
def geoaware():
    return load("geoaware")


@pytest.fixture
def animals(geoaware, tmp_path):
    root = layouts_2026.ap_10k(tmp_path / "ap-10k", geoaware)
    source = ap_10k.Ap10k(root, SourceOptions())
    return [each.animal for each in source.photographs_by_id().values()]


@pytest.mark.parametrize("split", ap_10k.SPLITS)
def test_ap_10k_in_the_authors_order_has_the_pairs_that_their_notebook_wrote(geoaware, animals, tmp_path, split):
    layouts_2026.write(tmp_path / "order.txt", "\n".join(geoaware["ap10k_directory_order"].tolist()))
    lists = ap_10k_pairs.pair_lists(animals, ap_10k_pairs.read_order(tmp_path / "order.txt"))
    assert lists[split] == geoaware[stored_name(split)].tolist()


def test_ap_10k_s_images_are_split_as_their_notebook_splits_them(geoaware, animals, tmp_path):
    layouts_2026.write(tmp_path / "order.txt", "\n".join(geoaware["ap10k_directory_order"].tolist()))
    species = ap_10k_pairs.species_splits(animals, ap_10k_pairs.read_order(tmp_path / "order.txt"))
    for line in geoaware["ap10k_split_files"].tolist():
        place, _, stems = line.partition(":")
        family, name, part = place.split("/")
        split = {"train": "train", "val": "validation", "test": "test"}[part.removesuffix("_filtered")]
        assert [each.stem for each in species[family, name][split]] == [stem for stem in stems.split(",") if stem]


# Of the synthetic set in bytewise order; CPython's generator and the rule are all that they hang on.
FROZEN = {
    "train": "b835c554e7e1",
    "test": "843e78e0e6cb",
    "validation": "131a236e9260",
    "test_cross_species": "c08d7aa87b6f",
    "test_cross_family": "accaae9ec5b9",
    "validation_cross_family": "74c36b8af3a8",
}


def test_ap_10k_s_own_lists_and_their_hashes_are_the_same_whatever_the_order_of_files(animals):
    own = ap_10k_pairs.pair_lists(animals)
    for seed in range(3):
        mixed = list(animals)
        random.Random(seed).shuffle(mixed)
        assert ap_10k_pairs.pair_lists(mixed) == own
    assert {split: ap_10k_pairs.fingerprint(own[split])[:12] for split in FROZEN} == FROZEN


def test_ap_10k_loads_with_points_of_one_image_and_both_species_of_a_pair(geoaware, tmp_path):
    root = layouts_2026.ap_10k(tmp_path / "ap-10k", geoaware, pictures=True)
    rows = load_dataset("ap-10k", split="test_cross_family", root=root)
    assert len(rows) == 180
    names = rows.features["category"].names
    first = {int(row[1]): row for row in geoaware["ap10k_annotations"][::-1].tolist()}
    for row in rows.select(range(0, 180, 20)):
        one, two = (first[int(part)] for part in row["pair_id"].partition(":")[0].split("-"))
        species = [str(geoaware["ap10k_species"][each[2] - 1]).split("/")[1] for each in (one, two)]
        assert (row["source_category"], names[row["category"]]) == tuple(species)
        seen = [np.array(each[8:]).reshape(17, 3) for each in (one, two)]
        both = np.flatnonzero((seen[0][:, 2] > 0) & (seen[1][:, 2] > 0))
        assert row["keypoint_ids"] == both.tolist()
        assert row["target_points"] == seen[1][both, :2].tolist()
        alone = np.flatnonzero((seen[0][:, 2] > 0) != (seen[1][:, 2] > 0))
        assert row["unpaired_ids"] == alone.tolist()
        assert row["target_bbox"][2] == two[3] + two[5]


@real
def test_the_genuine_sample_of_ap_10k_gives_its_pair_across_families(tmp_path):
    sample = Path(os.environ["SC_DATA_ROOT"]) / "ap10k-sample"
    content = json.loads((sample / "test_ap10k.json").read_text())
    root = tmp_path / "ap-10k"
    for part in ap_10k.PARTS:
        own = content if part == "test" else {**content, "images": [], "annotations": []}
        layouts_2026.write(root / "annotations" / f"ap10k-{part}-split1.json", own)
    layouts_2026.write(root / ap_10k.CROWDED, "000000000001\n")
    for path in sample.glob("*.jpg"):
        (root / "data").mkdir(exist_ok=True)
        shutil.copy(path, root / "data")
    (row,) = load_dataset("ap-10k", split="test_cross_family", root=root)
    assert row["pair_id"] == "000000000004-000000037516:all"
    assert (row["source"].size, row["target"].size) == ((1024, 683), (1200, 867))
    assert row["keypoint_names"][:2] == ["left eye", "nose"]
    assert row["source_points"][0] == [488, 443]
    assert row["source_category"] == "antelope"


def test_ap_10k_whole_with_another_list_of_crowded_images_is_refused(geoaware, tmp_path, monkeypatch):
    root = layouts_2026.ap_10k(tmp_path / "ap-10k", geoaware)
    monkeypatch.setattr(ap_10k, "PUBLISHED_IMAGES", 187)  # the synthetic set's: as if it were the whole
    with pytest.raises(InputError, match="is not the published list of crowded images"):
        ap_10k.Ap10k(root, SourceOptions()).entries("test")


def test_ap_10k_without_the_list_of_crowded_images_says_so(geoaware, tmp_path):
    root = layouts_2026.ap_10k(tmp_path / "ap-10k", geoaware)
    (root / ap_10k.CROWDED).unlink()
    with pytest.raises(InputError, match=r"ap-10k_is_crowd\.txt is not there"):
        load_dataset("ap-10k", split="test", root=root)


def test_a_prepared_ap_10k_folder_is_read_with_its_own_pairs(tmp_path):
    root = layouts_2026.ap_10k_prepared(tmp_path / "ap-10k-prepared")
    (row,) = load_dataset("ap-10k-prepared", split="test", root=root)
    assert row["pair_id"] == "000000000004-000000000006:antelope"
    assert len(row["keypoint_ids"]) == 12
    assert row["unpaired_ids"] == [12, 13]
    (across,) = load_dataset("ap-10k-prepared", split="test_cross_family", root=root)
    assert across["source_category"] == "dog"


def test_spair_u_has_its_own_ids_and_points_of_one_image(tmp_path):
    root = layouts_2026.spair_u(tmp_path)
    (row,) = load_dataset("spair-u", split="test", root=root)
    assert row["keypoint_ids"] == [0, 3]
    assert row["symmetric_ids"] is None
    assert (row["unpaired_ids"], row["unpaired_in_source"]) == ([7, 9], [True, False])
    assert row["source"].size == (40, 30)


@pytest.mark.parametrize("changes", [{"kps_ids": ["0", "4"]}, {"src_kps": [[1, 2], [30, 21]]}])
def test_spair_u_whose_pair_and_images_disagree_is_refused(tmp_path, changes):
    with pytest.raises(InputError, match="has other points than the annotations of its images"):
        load_dataset("spair-u", split="test", root=layouts_2026.spair_u(tmp_path, **changes))


def test_tss_follows_the_flow_of_the_image_that_is_asked_from(tmp_path):
    rows = load_dataset("tss", split="test", root=layouts_2026.tss(tmp_path / "tss"))
    assert [row["pair_id"] for row in rows] == ["JODS-bike_01_02-1-2", "JODS-bike_01_02-2-1"]
    for row, moved, size in zip(rows, ([5, -3], [-5, 3]), ([64, 48], [72, 56])):
        source, target = np.array(row["source_points"]), np.array(row["target_points"])
        assert row["source_size"] == size
        assert len(source) == 16  # a grid of 8 pixels over an object of 32 x 32
        assert (target - source == moved).all()
        assert source.min() >= 8
    assert rows.features["category"].names[rows[0]["category"]] == "bicycle"


def test_a_flow_file_that_is_cut_or_of_another_size_is_refused(tmp_path):
    root = layouts_2026.tss(tmp_path / "tss")
    path = root / "JODS/bike_01_02/flow1.flo"
    whole = path.read_bytes()
    path.write_bytes(whole[:-1])
    with pytest.raises(InputError, match="not those of 64 x 48 pixels"):
        tss.read_flow(path)
    layouts_2026.flow_file(path, np.zeros((20, 20, 2)))
    with pytest.raises(InputError, match="must be as large"):
        load_dataset("tss", split="test", root=root)


def test_cub_has_all_combinations_within_a_class_that_share_three_parts(tmp_path):
    root = layouts_2026.cub(tmp_path / "cub-200-2011")
    (row,) = load_dataset("cub-200-2011", split="test", root=root)  # the third is to train, the fourth shows two parts
    assert row["pair_id"] == "gull_b-gull_a:001.Gull"
    assert row["source_bbox"] == [2, 3, 32, 23]
    assert row["unpaired_ids"] == [1]
    assert row["symmetric_ids"][row["keypoint_names"].index("left leg")] == cub_200_2011.NAMES.index("right leg")


def test_lists_of_files_in_another_order_are_the_same_and_so_are_their_sums(geoaware, tmp_path):
    made = {"cub-200-2011": layouts_2026.cub, "ap-10k": lambda root: layouts_2026.ap_10k(root, geoaware)}
    for name, make in made.items():
        root = make(tmp_path / name)
        before = lists_of(name, root)
        for path in [*root.glob("*.txt"), *root.glob("parts/*.txt")]:
            path.write_text("\n".join(path.read_text().splitlines()[::-1]))
        for path in root.glob("annotations/*.json"):
            content = json.loads(path.read_text())
            content["images"].reverse()
            path.write_text(json.dumps(content))
        assert lists_of(name, root) == before
        write_lists(before, tmp_path / "lists" / name)
        for line in (tmp_path / "lists" / name / "SHA256SUMS").read_text().splitlines():
            digest, file = line.split("  ")
            assert hashlib.sha256((tmp_path / "lists" / name / file).read_bytes()).hexdigest() == digest


def test_psc6k_has_both_directions_of_a_row(tmp_path):
    root = layouts_2026.psc6k(tmp_path / "psc6k")
    there, back = load_dataset("psc6k", split="test", root=root)
    assert there["source_points"] == back["target_points"] == [[k, k + 10] for k in range(8)]
    assert there["source"].size == (256, 256)
    (one,) = load_dataset("psc6k", split="photo_to_sketch", root=root)
    assert one["pair_id"] == there["pair_id"]


def test_mp_100_as_marco_reads_it_has_the_points_of_marco_s_loader(tmp_path):
    arrays = load("marco")
    rows = load_dataset("mp-100", split="clothing_marco", root=layouts_2026.mp_100(tmp_path / "mp-100", arrays))
    for row, source, target in zip(rows, arrays["mp100_source_points"], arrays["mp100_target_points"]):
        for side, stored in (("source", source), ("target", target)):
            stretched = np.array(row[f"{side}_points"]) * 770 / np.array(row[f"{side}_size"])
            np.testing.assert_allclose(stretched, stored[: len(stretched)], atol=1e-3)  # MARCO clamps at 0.0001


def test_mp_100_as_marco_reads_it_has_the_box_that_marco_measures_against(tmp_path):
    arrays = load("marco")
    rows = load_dataset("mp-100", split="clothing_marco", root=layouts_2026.mp_100(tmp_path / "mp-100", arrays))
    boxes, sizes = np.array(rows["target_bbox"]), np.array(rows["target_size"])
    sides = ((boxes[:, 2:] - boxes[:, :2]) * 770 / sizes).max(1)
    np.testing.assert_allclose(sides, arrays["mp100_threshold"], rtol=1e-6)


def test_mp_100_pairs_by_index_within_one_annotation(tmp_path):
    root = layouts_2026.mp_100(tmp_path / "mp-100", load("marco"))
    rows = load_dataset("mp-100", split="clothing", root=root)
    second = rows[1]  # of the image with two annotations the first counts; its first keypoint is hidden
    assert second["keypoint_ids"] == [1, 2, 3]
    assert second["unpaired_ids"] == [0, 4, 5]
    assert second["target_points"][0] == [38, 215]


@pytest.mark.parametrize(("split", "kind"), [("intra_named", "semantic"), ("intra", "concept"), ("cross", "concept")])
def test_soco_s_pairs_have_the_points_that_its_script_scores(tmp_path, split, kind):
    arrays = load("soco")
    rows = load_dataset("soco", split=split, root=layouts_2026.soco(tmp_path / "soco", arrays))
    folder = split.removesuffix("_named")
    stored = json.loads(str(arrays[f"{folder}_rows_json"]))
    assert [len(row["source_points"]) for row in rows] == [each[f"{kind}_keypoints"] for each in stored]
    assert (rows[0]["source_category"] is None) == (folder == "intra")
    if kind == "concept":
        assert any(further for row in rows for further in row["further_targets"] or [])


def test_toy_across_categories_has_the_points_that_both_kinds_have():
    rows = load_dataset("toy", split="test_across")
    names = rows.features["category"].names
    assert len(rows) == info("toy").pairs["test_across"]
    for row in rows.select(range(0, len(rows), 25)):
        source, target = row["source_category"], names[row["category"]]
        alike = ALIKE.get((source, target)) or {b: a for a, b in ALIKE[target, source].items()}
        known = [
            seen_points(Path(row[side].filename).parents[2], "/".join(Path(row[side].filename).parts[-3:]))
            for side in ("source", "target")
        ]
        named = {name: other for name, other in alike.items() if other in row["keypoint_names"]}
        assert len(named) == len(row["keypoint_names"]) >= 3
        for name, other in named.items():
            k = row["keypoint_names"].index(other)
            for side, category, point, (points, shown) in zip(
                ("source", "target"), (source, target), (name, other), known
            ):
                place = point_names(category).index(point)
                assert shown[place]
                np.testing.assert_allclose(row[f"{side}_points"][k], points[place], atol=1e-3)


def test_pf_willow_s_list_may_have_the_name_that_later_codes_give_it(tmp_path):
    root = made_data.willow_csv(tmp_path / "PF-WILLOW")
    (root / "test_pairs.csv").rename(root / "test_pairs_pf.csv")
    assert len(load_dataset("pf-willow", split="test", root=root)) == 2


MAKERS = {
    "ap-10k-prepared": lambda root: layouts_2026.ap_10k_prepared(root),
    "tss": layouts_2026.tss,
    "cub-200-2011": layouts_2026.cub,
    "psc6k": layouts_2026.psc6k,
    "mp-100": lambda root: layouts_2026.mp_100(root, load("marco")),
    "soco": lambda root: layouts_2026.soco(root, load("soco")),
}


@pytest.mark.parametrize("name", MAKERS)
def test_verify_finds_a_whole_copy_sound(name, tmp_path):
    found = verify(name, root=MAKERS[name](tmp_path / name))
    assert not found.damaged, found.damage


@pytest.mark.parametrize("name", MAKERS)
def test_a_spoilt_annotation_is_one_clear_line(name, tmp_path):
    root = MAKERS[name](tmp_path / name)
    files = [p for p in sorted(root.rglob("*")) if p.suffix in (".json", ".txt", ".csv", ".flo") and p.is_file()]
    chance = random.Random(5)
    refused = 0
    for number in range(40):
        path = chance.choice(files)
        whole = path.read_bytes()
        place = chance.randrange(len(whole))
        spoilt = {
            0: whole[:place],
            1: whole[:place] + bytes([chance.randrange(256)]) + whole[place + 1 :],
            2: whole.replace(b"2", b"null", 1),
            3: whole.replace(b"[", b"{", 1),
        }[number % 4]
        path.write_bytes(spoilt)
        told = refusal(name, root)
        refused += told is not None
        assert "\n" not in (told or "")
        path.write_bytes(whole)
    assert refused >= 8


def refusal(name, root):
    """What is said of a copy, read whole; None where nothing is."""
    try:
        source = open_source(name, root)
        for split in info(name).splits:
            if source.missing(split) is None and source.entries(split):
                load_dataset(name, split=split, root=root)
    except InputError as error:
        return str(error)
    return None
