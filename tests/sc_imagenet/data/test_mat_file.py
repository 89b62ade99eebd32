"""Matrices of .mat files are scipy's, of every kind of number; what is none or too large is refused."""

from __future__ import annotations

import io
import os
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from scipy.io import loadmat, savemat

from sc_imagenet.core.errors import InputError
from sc_imagenet.sources.tables import LARGEST, read_mat, read_matrix


def mat(compressed: bool = False, **values: object) -> bytes:
    file = io.BytesIO()
    savemat(file, values, do_compression=compressed)
    return file.getvalue()


NUMBERS = st.sampled_from(["f8", "f4", "i1", "u1", "i2", "u2", "i4", "u4", "i8", "u8"])


@settings(max_examples=80, deadline=None)
@given(NUMBERS.flatmap(lambda kind: arrays.arrays(kind, arrays.array_shapes(min_dims=2, max_dims=3))), st.booleans())
def test_every_matrix_reads_as_scipy_reads_it(matrix, compressed):
    content = mat(compressed, other=np.eye(3), kps=matrix, text="a", s={"kps": 1.0})
    found = read_matrix(content, "kps")
    np.testing.assert_array_equal(found, matrix.astype(np.float64))
    np.testing.assert_array_equal(found, loadmat(io.BytesIO(content))["kps"].astype(np.float64))
    assert read_matrix(content, "none") is None


@pytest.mark.parametrize("value", ["text", {"a": 1.0}, np.array([[1 + 2j]]), np.array([["a", 1.0]], dtype=object)])
def test_what_is_no_matrix_of_numbers_is_refused(value):
    with pytest.raises(ValueError, match="not a matrix of real numbers"):
        read_matrix(mat(kps=value), "kps")


@pytest.mark.parametrize("keep", [0, 100, 128, 131, 150, 200, 250])
@pytest.mark.parametrize("compressed", [False, True])
def test_a_cut_file_is_named(tmp_path, keep, compressed):
    path = tmp_path / "a.mat"
    path.write_bytes(mat(compressed, kps=np.random.default_rng(0).random((10, 2)))[:keep])
    with pytest.raises(InputError, match=r"a\.mat: (is not a whole \.mat file|holds no 'kps')"):
        read_mat(path, "kps")


def test_a_file_larger_than_any_annotation_is_refused(tmp_path):
    path = tmp_path / "a.mat"
    path.write_bytes(mat(kps=np.zeros((LARGEST // 8, 2))))
    with pytest.raises(InputError, match="more than an annotation has"):
        read_mat(path, "kps")


@pytest.mark.skipif("SC_DATA_ROOT" not in os.environ, reason="SC_DATA_ROOT is not set")
def test_the_published_annotations_read_as_scipy_reads_them():
    files = sorted(Path(os.environ["SC_DATA_ROOT"], "pf-willow").rglob("*.mat"))
    assert files
    for file in files:
        np.testing.assert_array_equal(read_matrix(file.read_bytes(), "pts_coord"), loadmat(file)["pts_coord"])
