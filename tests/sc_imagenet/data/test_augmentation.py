"""Augmentations: what may be cropped, which views there are, and that a draw is a function of its seed."""

from __future__ import annotations

import datasets
import numpy as np
import pytest
import torch
from PIL import Image

from sc_imagenet.core.errors import InputError
from sc_imagenet.data.augmentation import AUGMENTATIONS, PHOTOMETRIC, STRONG, augmentation, blur, changed
from sc_imagenet.data.pairs import PairDataset, collate_pairs
from sc_imagenet.data.schema import pair_features

BOX = np.array([30.0, 20.0, 60.0, 50.0], np.float32)


def noise(height: int = 80, width: int = 100) -> torch.Tensor:
    return torch.randint(0, 256, (3, height, width), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)


@pytest.mark.parametrize("change", [*PHOTOMETRIC, blur])
def test_every_change_keeps_kind_and_size(change):
    image = noise()
    after = change(np.random.default_rng(1), image.clone())
    assert (after.shape, after.dtype) == (image.shape, torch.uint8)
    assert not torch.equal(after, image)


@pytest.mark.parametrize("name", [name for name in AUGMENTATIONS if name != "none"])
def test_a_crop_keeps_what_it_must_and_so_many_images_are_cropped(name):
    augment = augmentation(name)
    assert augment is not None
    crops = [augment(np.random.default_rng(seed), noise(), BOX)[1] for seed in range(60)]
    cropped = [crop for crop in crops if crop is not None]
    for left, top, right, bottom in cropped:
        assert 0 <= left <= 30
        assert 0 <= top <= 20
        assert 60 <= right <= 100
        assert 50 <= bottom <= 80
    fewest, most = {"photometric": (0, 0), "narrow-warps": (0, 0), "middle-crops": (60, 60)}.get(name, (20, 40))
    assert fewest <= len(cropped) <= most


def test_each_change_is_made_in_a_fifth_of_the_images():
    made = [0]

    def count(draw, image):
        made[0] += 1
        return image

    draw = np.random.default_rng(0)
    for _ in range(100):
        changed(draw, noise(2, 2), [count] * 5)
    assert 70 <= made[0] <= 130


def test_blur_spreads_a_dot_and_keeps_flat_images():
    dot = torch.zeros(3, 9, 9, dtype=torch.uint8)
    dot[:, 4, 4] = 245
    assert blur(np.random.default_rng(0), dot)[0].count_nonzero() in (9, 25, 49)
    flat = torch.full((3, 9, 9), 77, dtype=torch.uint8)
    assert torch.equal(blur(np.random.default_rng(0), flat), flat)
    assert blur in STRONG
    assert blur not in PHOTOMETRIC


def test_an_unknown_name_lists_the_known():
    with pytest.raises(
        InputError, match="Valid: cats, middle-crops, narrow-warps, none, photometric, semimatch, transformatcher"
    ):
        augmentation("cuts")


@pytest.fixture(scope="module")
def rows(tmp_path_factory):
    """Two pairs of one noise image; the second pair is mirrored."""
    path = tmp_path_factory.mktemp("pairs") / "noise.png"
    Image.fromarray(noise().permute(1, 2, 0).numpy()).save(path)
    side = {"path": str(path), "bytes": None}
    points = [[35.0, 25.0], [55.0, 45.0]]
    row = dict.fromkeys(pair_features("a")) | {
        "pair_id": "a",
        "dataset": "noise",
        "category": 0,
        **dict.fromkeys(("source", "target"), side),
        **{f"{name}_size": [100, 80] for name in ("source", "target")},
        **{f"{name}_points": points for name in ("source", "target")},
        **{f"{name}_bbox": BOX.tolist() for name in ("source", "target")},
        **dict.fromkeys(("viewpoint_variation", "scale_variation", "truncation", "occlusion"), -1),
    }
    return datasets.Dataset.from_list([{**row, "mirrored": mirrored} for mirrored in (False, True)], pair_features("a"))


def of(rows, augment: str) -> PairDataset:
    return PairDataset(rows, 32, (0.5, 0.5, 0.5), (0.5, 0.5, 0.5), augment=augment, seed=3)


def test_views_of_the_target_share_its_crop_and_the_plain_one_shows_the_pixels(rows):
    pairs = of(rows, "semimatch")
    unlike = 0
    for epoch in range(12):
        for row in range(2):
            item = pairs[epoch, row]
            same = item["target"].equal(item["target_plain"])
            unlike += not same
            assert item["target_plain"].shape == item["target_strong"].shape == (3, 32, 32)
            left, top, right, bottom = item["target_bbox"].tolist()
            columns, lines = 32 * 30 / (right - left), 32 * 30 / (bottom - top)  # of the crop, in pixels
            assert columns == pytest.approx(round(columns), abs=1e-3)
            assert lines == pytest.approx(round(lines), abs=1e-3)
            # The plain view is a piece of the file: the same cut, resized, mirrored.
            origin = 30 - (32 - right if row else left) * columns / 32
            x, y = round(origin), round(20 - top * lines / 32)
            piece = noise()[:, y : y + round(lines), x : x + round(columns)].float() / 127.5 - 1
            expected = torch.nn.functional.interpolate(piece[None], (32, 32), mode="bilinear")[0]
            torch.testing.assert_close(item["target_plain"], expected.flip(-1) if row else expected, atol=1e-4, rtol=0)
    assert unlike > 12


def test_only_semimatch_adds_views_and_they_are_collated(rows):
    assert not {"target_plain", "target_strong"} & set(of(rows, "cats")[0])
    pairs = of(rows, "semimatch")
    batch = collate_pairs([pairs[0], pairs[1]])
    assert batch["target_plain"].shape == batch["target_strong"].shape == (2, 3, 32, 32)
    assert "source_plain" not in batch


def test_the_photometric_augmentation_leaves_points_where_they_are(rows):
    plain, changed_pair = of(rows, "none")[0], of(rows, "photometric")[0]
    assert torch.equal(plain["source_points"], changed_pair["source_points"])


def test_a_draw_depends_on_seed_epoch_and_row_alone(rows):
    first, second = of(rows, "semimatch"), of(rows, "semimatch")
    second[1, 0]
    for key, value in first[4, 1].items():
        if isinstance(value, torch.Tensor):
            assert torch.equal(value, second[4, 1][key]), key
    assert not torch.equal(first[4, 1]["target_strong"], first[5, 1]["target_strong"])


IMAGE = torch.zeros(3, 100, 200, dtype=torch.uint8)


def crops(name: str, box: list[float], draws: int = 200) -> np.ndarray:
    found = (
        augmentation(name)(np.random.default_rng(seed), IMAGE, np.array(box, np.float32))[1] for seed in range(draws)
    )
    return np.array([crop for crop in found if crop is not None])


@pytest.mark.parametrize(
    ("box", "kept"),
    [
        ([60, 40, 120, 70], (40, 20, 140, 90)),  # 20 pixels around the keypoints
        ([5, 10, 190, 95], (0, 0, 200, 100)),  # as far as the image goes
        ([80, 40, 80, 40], (40, 20, 140, 70)),  # one keypoint: half way to each border
    ],
)
def test_a_crop_of_transformatcher_keeps_a_margin_around_the_keypoints(box, kept):
    found = crops("transformatcher", box)
    assert 60 < len(found) < 140
    assert (found[:, :2].max(0) <= kept[:2]).all()
    assert (found[:, 2:].min(0) >= kept[2:]).all()
    assert (found.min(0)[:2] == 0).all()
    assert (found.max(0)[2:] == (200, 100)).all()
    if kept != (0, 0, 200, 100):
        assert (found[:, :2].max(0) >= np.array(kept[:2]) - 3).all()
