"""Features made by another program: which array is an image's, and what is refused."""

from __future__ import annotations

import pickle

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from sc_imagenet.core.errors import InputError
from sc_imagenet.data.feature_folder import FeatureFolder


def array(seed: int = 0, shape: tuple[int, ...] = (3, 4, 4)) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(shape, dtype=np.float32)


def test_all_kinds_of_files_give_the_same_features(tmp_path):
    features = array()
    np.save(tmp_path / "a.npy", features)
    np.savez_compressed(tmp_path / "b.npz", features=features, size=np.array([1.0, 2.0]))
    save_file({"x": torch.from_numpy(features).clone()}, tmp_path / "c.safetensors")
    np.save(tmp_path / "d.npy", features.astype(np.float64))
    folder = FeatureFolder(tmp_path)
    for name in "abcd":
        assert torch.equal(folder.read(f"/data/{name}.jpg", name), torch.from_numpy(features)[None])


def test_the_longest_name_is_the_image_s(tmp_path):
    for name in ("x.npy", "cat/x.npy", "dog/x.png.npy"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        np.save(tmp_path / name, array())
    folder = FeatureFolder(tmp_path)
    for image, name in (
        ("/data/JPEGImages/cat/x.jpg", "cat/x.npy"),
        ("/data/dog/x.png", "dog/x.png.npy"),
        ("/data/dog/x.jpg", "x.npy"),
        ("../cat/x.jpg", "cat/x.npy"),
        ("x", "x.npy"),
    ):
        assert folder.file_of(image) == tmp_path / name


def test_an_array_is_of_one_image(tmp_path):
    np.save(tmp_path / "x.npy", array())
    folder = FeatureFolder(tmp_path)
    folder.read("/data/cat/x.jpg", "content")
    folder.read("/data/feline/x.jpg", "content")  # the same image twice
    with pytest.raises(InputError, match="two images, one of them /data/dog"):
        folder.read("/data/dog/x.jpg", "other")


@pytest.mark.parametrize(
    ("made", "said"),
    [
        (array(shape=(4, 4)), r"the shape \(4, 4\)"),
        (array(shape=(3, 4, 5)), r"the shape \(3, 4, 5\)"),
        (array(shape=(3, 2, 2)), r"the shape \(3, 2, 2\), a\.npy has \(3, 4, 4\)"),
        (array().astype(int), "int64"),
        (np.where(array() > 1, np.nan, array()), "values that are NaN"),
        (np.array([{"a": 1}], dtype=object), "no array that can be read"),
    ],
)
def test_what_is_no_array_of_features_is_one_line(tmp_path, made, said):
    np.save(tmp_path / "a.npy", array())
    np.save(tmp_path / "b.npy", made, allow_pickle=True)
    folder = FeatureFolder(tmp_path)
    folder.read("a.jpg", "a")
    with pytest.raises(InputError, match=said) as raised:
        folder.read("b.jpg", "b")
    assert "b.npy" in str(raised.value)
    assert "\n" not in str(raised.value)


def test_files_that_are_not_whole_or_hold_too_much_are_one_line(tmp_path, monkeypatch):
    monkeypatch.setattr("sc_imagenet.data.feature_folder.LARGEST", 10_000)  # bytes
    np.save(tmp_path / "cut.npy", array())
    content = (tmp_path / "cut.npy").read_bytes()
    (tmp_path / "cut.npy").write_bytes(content[:-20])
    (tmp_path / "pickled.npz").write_bytes(pickle.dumps({"features": 1}))
    (tmp_path / "no.safetensors").write_bytes(b"none")
    np.savez(tmp_path / "two.npz", a=array(), b=array())
    np.savez_compressed(tmp_path / "bomb.npz", features=np.zeros((1, 51, 51), np.float32))
    folder = FeatureFolder(tmp_path)
    for name, said in (
        ("cut", "no array"),
        ("pickled", "no array"),
        ("no", "no array"),
        ("two", "holds a, b"),
        ("bomb", "unpacks to"),
        ("none", "no features of none.jpg"),
    ):
        with pytest.raises(InputError, match=said):
            folder.read(f"{name}.jpg", name)


def test_a_folder_is_known_by_the_content_of_its_arrays(tmp_path):
    np.save(tmp_path / "a.npy", array())
    before = FeatureFolder(tmp_path).sha256()
    assert FeatureFolder(tmp_path).sha256() == before
    np.save(tmp_path / "a.npy", array(1))
    assert FeatureFolder(tmp_path).sha256() != before


@pytest.mark.parametrize("place", ["none", ""])
def test_no_folder_and_an_empty_one_are_one_line(tmp_path, place):
    with pytest.raises(InputError, match=r"no such folder|holds no \.npy"):
        FeatureFolder(tmp_path / place)
