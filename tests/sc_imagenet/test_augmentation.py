"""Crops keep what has to be kept."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from sc_imagenet.augmentation import augmentation

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
