"""Photographs as training pairs: with transformations of themselves, and with others of their class."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from sc_imagenet.core.errors import InputError
from sc_imagenet.data.pairs import collate_pairs
from sc_imagenet.data.photograph_pairs import manifest_of, of_one_class, photographs_below, with_themselves
from sc_imagenet.data.synthetic import POINTS, SyntheticPairs, shown
from sc_imagenet.geometry.grids import read_at
from sc_imagenet.geometry.transformations import AFFINE, IDENTITY, SPLINE

SIDE = 48


def photograph(path: Path, seed: int) -> None:
    """Colours that run smoothly, so that reading between pixels tells places apart."""
    path.parent.mkdir(parents=True, exist_ok=True)
    draws = np.random.default_rng(seed).uniform(0, 255, (5, 6, 3)).astype(np.uint8)
    Image.fromarray(draws).resize((120, 90), Image.Resampling.BICUBIC).save(path)


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    root = tmp_path_factory.mktemp("photographs")
    for number in range(3):
        photograph(root / "cat" / f"{number}.png", number)
    photograph(root / "dog" / "big" / "0.JPG", 10)
    photograph(root / "dog" / "1.png", 11)
    photograph(root / ".trash" / "0.png", 12)
    (root / "notes.txt").write_text("no photograph")
    return root


def pairs_of(folder: Path, **options) -> SyntheticPairs:
    return SyntheticPairs(with_themselves(folder), SIDE, (0.5,) * 3, (0.25,) * 3, **options)


def test_photographs_are_those_below_a_folder_and_their_classes_its_folders(folder):
    names = [("cat/0.png", "cat"), ("cat/1.png", "cat"), ("cat/2.png", "cat")]
    assert photographs_below(folder) == [*names, ("dog/1.png", "dog"), ("dog/big/0.JPG", "dog")]
    assert photographs_below(folder / "cat")[0] == ("0.png", "photographs")


def test_pairs_of_one_class_show_two_photographs_of_it(folder):
    rows = of_one_class(folder)
    pairs = [pair_id.split() for pair_id in rows["pair_id"]]
    assert len(pairs) == len({tuple(pair) for pair in pairs}) == 3 * 2 + 2
    for source, target in pairs:
        assert source != target
        assert source.split("/")[0] == target.split("/")[0]
    assert manifest_of(of_one_class(folder)) == manifest_of(rows) != manifest_of(with_themselves(folder))


def test_what_holds_no_photographs_or_a_damaged_one_is_one_line(tmp_path):
    with pytest.raises(InputError, match="holds no photographs"):
        with_themselves(tmp_path)
    photograph(tmp_path / "a.png", 0)
    with pytest.raises(InputError, match="has no class with two photographs"):
        of_one_class(tmp_path)
    (tmp_path / "b.jpg").write_bytes(b"no image")
    with pytest.raises(InputError, match=r"b\.jpg"):
        with_themselves(tmp_path)


def test_points_lie_on_the_same_colour_in_both_images(folder):
    """The truth of a pair is what its images show."""
    pairs = pairs_of(folder)
    kinds = set()
    for index in range(len(pairs)):
        batch = collate_pairs([pairs[index]])
        assert batch["valid"].sum() > POINTS
        seen = [read_at(batch[side], batch[f"{side}_points"], SIDE) for side in ("source", "target")]
        # In units of a colour's deviation; a target is sampled coarser or finer than its source.
        assert (seen[0] - seen[1]).abs().mean() < 0.05
        assert (seen[0] - seen[1].roll(7, 1)).abs().mean() > 0.2
        kinds.add(batch["warp_parameters"].item())
    assert kinds == {AFFINE, SPLINE}


def test_an_item_depends_on_seed_epoch_and_number_alone(folder):
    pairs = pairs_of(folder, seed=3)
    first, again = pairs[(2, 1)], pairs_of(folder, seed=3)[(2, 1)]
    assert all(torch.equal(torch.as_tensor(first[key]), torch.as_tensor(again[key])) for key in ("target", "warp"))
    for other in (pairs[(3, 1)], pairs_of(folder, seed=4)[(2, 1)]):
        assert not torch.equal(first["warp"], other["warp"])
    torch.testing.assert_close(first["source"], pairs[(3, 1)]["source"])


def test_points_are_at_most_as_many_as_asked_and_inside_the_source(folder):
    item = pairs_of(folder, points=12)[0]
    for side in ("source", "target"):
        assert item[f"{side}_points"].shape == (12, 2)
        assert (item[f"{side}_points"] >= 0).all()
        assert (item[f"{side}_points"] <= SIDE).all()
    assert item["warp"].shape == (POINTS * POINTS, 2)
    assert item["source_bbox"].isnan().all()


def test_views_of_the_target_are_warped_as_it_is(folder):
    item = pairs_of(folder, augment="semimatch", points=40)[0]
    assert {"target_plain", "target_strong"} <= item.keys()
    plain = pairs_of(folder, points=40, augment="none")
    assert item["target_plain"].shape == item["target"].shape == plain[0]["target"].shape


def test_narrow_warps_are_narrower_than_wide_ones(folder):
    still = torch.tensor(IDENTITY[AFFINE]).view(2, 3)
    reach = {}
    for name in ("none", "narrow-warps"):
        pairs = pairs_of(folder, augment=name)
        found = [pairs[(epoch, 0)] for epoch in range(40)]
        grids = [item["warp"] for item in found if item["warp_parameters"] == AFFINE]
        identity = pairs_of(folder)._drawn_points(still.flatten(), np.random.default_rng(0))[0]
        reach[name] = float(np.mean([(grid - identity).norm(dim=1).mean() for grid in grids]))
    assert reach["narrow-warps"] < 0.7 * reach["none"]


def test_beyond_its_border_a_photograph_is_mirrored():
    image = torch.arange(480.0)[:, None].expand(3, 480, 640) / 479
    aside = torch.tensor([1.0, 0.0, 0.0, 0.0, 1.0, 2.0])  # down by a whole side of what is shown
    middle, below = (shown(image, theta, 31)[0, :, 0] for theta in (None, aside))
    torch.testing.assert_close(below[0], middle[-1])
    assert below.max() <= 1
    assert below[-1] < below.max()
