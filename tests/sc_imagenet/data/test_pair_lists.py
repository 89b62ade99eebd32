"""Lists of pairs: the same hash everywhere, and how far two of them overlap."""

from __future__ import annotations

import hashlib
import math
import random
import shutil
import subprocess

import numpy as np
import pytest

from sc_imagenet.core.errors import InputError
from sc_imagenet.data.pair_lists import PairList, lists_of, overlap, read_list, write_lists
from tests.golden.references import load
from tests.sc_imagenet import layouts_2026

pytestmark = pytest.mark.usefixtures("own_caches")


def test_a_list_is_known_by_the_sha_256_of_its_file_whatever_the_order_of_its_lines(tmp_path):
    own = PairList("test", ("1-2:cat", "1-3:cat", "2-3:cat"))
    write_lists([own], tmp_path)
    assert own.sha256 == hashlib.sha256((tmp_path / "test.txt").read_bytes()).hexdigest()
    assert subprocess.run(["sha256sum", "--check", "--quiet", "SHA256SUMS"], cwd=tmp_path, check=False).returncode == 0
    (tmp_path / "mixed.txt").write_text("2-3:cat\n1-2:cat.json\n1-3:cat\n")
    assert read_list(tmp_path / "mixed.txt").sha256 == own.sha256


def test_a_folder_copied_in_another_order_has_the_same_lists(tmp_path):
    root = layouts_2026.ap_10k(tmp_path / "a" / "ap-10k", load("geoaware"))
    other = tmp_path / "b" / "ap-10k"
    files = [path for path in root.rglob("*") if path.is_file()]
    random.Random(1).shuffle(files)
    for path in files:
        place = other / path.relative_to(root)
        place.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, place)
    (other / "data").mkdir(exist_ok=True)
    hashes = [[each.sha256 for each in lists_of("ap-10k", folder)] for folder in (root, other)]
    assert hashes[0] == hashes[1]
    assert len(set(hashes[0])) == 7


def test_the_authors_order_gives_another_list_than_ours(tmp_path):
    arrays = load("geoaware")
    root = layouts_2026.ap_10k(tmp_path / "ap-10k", arrays)
    layouts_2026.write(tmp_path / "order.txt", "\n".join(arrays["ap10k_directory_order"].tolist()))
    own = {each.name: each for each in lists_of("ap-10k", root)}
    theirs = {each.name: each for each in lists_of("ap-10k", root, tmp_path / "order.txt")}
    assert list(theirs["test"].stems) == arrays["ap10k_pairs_test"].tolist()
    found = overlap(own["test_cross_family"], theirs["test_cross_family"])
    assert found.first == found.second == 180
    assert 0 < found.shared < 180


def test_the_order_of_another_copy_is_refused(tmp_path):
    arrays = load("geoaware")
    root = layouts_2026.ap_10k(tmp_path / "ap-10k", arrays)
    lines = arrays["ap10k_directory_order"].tolist()
    layouts_2026.write(tmp_path / "short.txt", "\n".join(lines[:-1]))
    with pytest.raises(InputError, match=r"the order lists .* images, the annotations have 187"):
        lists_of("ap-10k", root, tmp_path / "short.txt")
    layouts_2026.write(tmp_path / "other.txt", "\n".join(lines).replace("000000002726", "000000009999"))
    with pytest.raises(InputError, match="no image of the annotations"):
        lists_of("ap-10k", root, tmp_path / "other.txt")


def test_what_lists_move_is_what_drawing_them_again_moves():
    rng = np.random.default_rng(0)
    scores = (rng.random(400) < 0.5) * 100.0  # of all pairs: a spread of 50 points, the most there is
    shared, own = 100, 100
    moved = []
    for _ in range(4000):
        drawn = rng.choice(scores, shared + 2 * own)
        first, second = drawn[: shared + own], np.concatenate([drawn[:shared], drawn[shared + own :]])
        moved.append(first.mean() - second.mean())
    stems = [f"{k}-{k + 1}:cat" for k in range(shared + 2 * own)]
    found = overlap(
        PairList("a", tuple(stems[: shared + own])), PairList("b", tuple(stems[:shared] + stems[shared + own :]))
    )
    assert found.shared == shared
    assert math.isclose(found.moves, 1.96 * np.std(moved), rel_tol=0.06)


def test_equal_lists_move_nothing():
    one = PairList("a", ("1-2:cat", "1-3:cat"))
    assert overlap(one, one).moves == 0
    assert overlap(one, one).images == (3, 3, 3)


def test_a_pair_listed_twice_is_refused(tmp_path):
    (tmp_path / "a.txt").write_text("1-2:cat\n1-3:cat\n1-2:cat\n")
    with pytest.raises(InputError, match="lists pair '1-2:cat' twice"):
        read_list(tmp_path / "a.txt")
