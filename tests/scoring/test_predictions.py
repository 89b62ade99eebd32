"""Stored predictions survive the way to disk and back; what is damaged is refused in one line."""

import json
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from benchmark.scoring.prediction_files import METADATA_KEY, PREDICTION_SCHEMA, read_predictions, write_predictions
from benchmark.scoring.predictions import PredictionInfo
from sc_imagenet.core.errors import InputError

INFO = PredictionInfo("pf-willow", "test", "nearest", 320, "r1", "m1", "forward")


def row(pair_id="a", **changes):
    return {
        "pair_id": pair_id,
        "category": "duck(S)",
        "source_size": [100, 50],
        "target_size": [200, 80],
        "source_bbox": None,
        "target_bbox": [1, 2, 3, 4],
        "source_points": [[1, 2], [3, 4]],
        "target_points": [[5, 6], [7, 8]],
        "predicted_points": [[5.25, 6], [7, 9]],
        "direction": "forward",
        **changes,
    }


def test_forward_predictions_are_compared_with_the_target(tmp_path):
    write_predictions(
        tmp_path / "p.parquet",
        [row(), row("b", source_points=[], target_points=[], predicted_points=[])],
        INFO,
    )
    found = read_predictions(tmp_path / "p.parquet")
    assert found.info == INFO
    assert found.pair_ids.tolist() == ["a", "b"]
    assert found.counts.tolist() == [2, 0]
    assert found.true.tolist() == [[5, 6], [7, 8]]
    assert found.other.tolist() == [[1, 2], [3, 4]]
    assert found.predicted.tolist() == [[5.25, 6], [7, 9]]
    assert found.sizes.tolist() == [[200, 80], [200, 80]]
    assert found.boxes.tolist() == [[1, 2, 3, 4], [1, 2, 3, 4]]
    assert found.other_sizes.tolist() == [[100, 50], [100, 50]]
    assert np.isnan(found.other_boxes).all()


def test_backward_predictions_are_compared_with_the_source(tmp_path):
    write_predictions(tmp_path / "p.parquet", [row(direction="backward")], replace(INFO, direction="backward"))
    found = read_predictions(tmp_path / "p.parquet")
    assert found.true.tolist() == [[1, 2], [3, 4]]
    assert found.sizes.tolist() == [[100, 50]]
    assert np.isnan(found.boxes).all()
    assert found.other_boxes.tolist() == [[1, 2, 3, 4]]


def test_arrays_tensors_and_tables_are_taken_too(tmp_path):
    kinds = {
        "arrays": [row(predicted_points=np.float32([[5.25, 6], [7, 9]]))],
        "tensors": [row(predicted_points=torch.tensor([[5.25, 6], [7, 9]]), source_size=torch.tensor([100, 50]))],
        "arrays of points": [row(predicted_points=[np.float32([5.25, 6]), np.float32([7, 9])])],
        "table": pa.Table.from_pylist([row()], schema=PREDICTION_SCHEMA),
    }
    for name, rows in kinds.items():
        write_predictions(tmp_path / f"{name}.parquet", rows, INFO)
        assert read_predictions(tmp_path / f"{name}.parquet").predicted.tolist() == [[5.25, 6], [7, 9]]


def test_a_subset_keeps_each_pair_s_own_points(tmp_path):
    rows = [
        row(),
        row("b", source_points=[[0, 0]], target_points=[[9, 9]], predicted_points=[[8, 8]], category="car"),
        row("c", target_points=[[1, 1], [2, 2]]),
    ]
    write_predictions(tmp_path / "p.parquet", rows, INFO)
    found = read_predictions(tmp_path / "p.parquet").subset(["c", "b"])
    assert found.pair_ids.tolist() == ["b", "c"]
    assert found.offsets.tolist() == [0, 1, 3]
    assert found.true.tolist() == [[9, 9], [1, 1], [2, 2]]
    with pytest.raises(InputError, match="1 of the 2 pairs asked for are not here: 'zz'"):
        found.subset(["b", "zz"])
    with pytest.raises(InputError, match="names no pair"):
        found.subset([])


NAN = float("nan")


@pytest.mark.parametrize(
    ("rows", "says"),
    [
        ([], "holds no pairs"),
        ([row(), row()], "pair 'a' occurs twice"),
        (
            [row(), row("b", predicted_points=[[1, NAN], [1, 1]])],
            "pair 'b' has predicted_points that are not finite",
        ),
        (
            [row(), row("b", target_points=[[1, 1], [NAN, 1]])],
            "pair 'b' has target_points that are not finite",
        ),
        ([row("b", predicted_points=[[1, 1]])], "pair 'b' has another number of predicted_points"),
        ([row("b", source_size=[0, 5])], "pair 'b' has no source_size"),
        ([row(target_size=None)], "1 pairs have no target_size"),
        ([row(direction="backward")], "pair 'a' is not forward"),
        ([row(predicted_points=[[1, 2, 3], [1, 2, 3]])], "do not fit their columns"),
        ([row(category=7)], "do not fit their columns"),
        ([{"pair_id": "a"}], "no column 'category'"),
    ],
)
def test_what_could_not_be_scored_is_never_written(tmp_path, rows, says):
    path = tmp_path / "p.parquet"
    write_predictions(path, [row("old")], INFO)
    with pytest.raises(InputError, match=says) as caught:
        write_predictions(path, rows, INFO)
    assert "\n" not in str(caught.value)
    assert read_predictions(path).pair_ids.tolist() == ["old"]
    assert [file.name for file in tmp_path.iterdir()] == ["p.parquet"]


def rewritten(path, table=None, metadata=None):
    """The file again, with other columns or other metadata."""
    table = pq.read_table(path) if table is None else table
    pq.write_table(table.replace_schema_metadata(metadata or pq.read_table(path).schema.metadata), path)


def test_damaged_files_are_refused(tmp_path):
    path = tmp_path / "p.parquet"

    def refused(says):
        with pytest.raises(InputError, match=says) as caught:
            read_predictions(path)
        assert str(path) in str(caught.value)
        write_predictions(path, [row()], INFO)

    refused("no such file")
    path.write_bytes(path.read_bytes()[:-200])
    refused("not a readable Parquet file")
    path.write_bytes(b"")
    refused("not a readable Parquet file")
    path.write_text("pair_id,category\n")
    refused("not a readable Parquet file")
    pq.write_table(pa.table({"x": [1]}), path)
    refused("not of predictions")
    rewritten(path, table=pq.read_table(path).drop_columns(["source_bbox", "direction"]))
    refused("not those of predictions: source_bbox, direction")
    rewritten(path, metadata={b"sc_imagenet": b"{"})
    refused("metadata is damaged")
    rewritten(path, metadata={b"sc_imagenet": b'{"version": 99}'})
    refused(r"version 99 .* Update sc-imagenet")
    rewritten(path, metadata={b"sc_imagenet": b'{"version": 1, "model": "cats"}'})
    refused("metadata is not that of predictions")


def test_a_folder_is_no_file_of_predictions(tmp_path):
    with pytest.raises(InputError, match="not a readable Parquet file"):
        read_predictions(tmp_path)


def test_version_2_keeps_ids_visibility_views_and_several_targets(tmp_path):
    info = PredictionInfo("spair-71k", "test", "nearest", 64, "r", "m" * 64, "forward")
    row = {
        "pair_id": "a",
        "category": "cat",
        "source_category": "dog",
        "direction": "forward",
        "source_size": (100, 80),
        "target_size": (60, 50),
        "source_bbox": (0, 0, 50, 40),
        "target_bbox": (0, 0, 30, 20),
        "source_points": [(1, 2), (3, 4), (0, 0)],
        "target_points": [(5, 6), (0, 0), (9, 9)],
        "predicted_points": [(7, 8), (2, 2), (np.nan, np.nan)],  # the source does not show the last
        "keypoint_ids": [2, 5, 7],
        "symmetric_ids": [2, 7, 5],
        "source_visible": [True, True, False],
        "target_visible": [True, False, True],
        "scores": [0.5, 0.25, 0.0],
        "further_targets": [[(1, 1)], [], []],
        "source_azimuth": 3,
        "target_azimuth": 7,
        "viewpoint_variation": 2,
        "source_image": "dog/1.jpg",
        "target_image": "cat/2.jpg",
    }
    write_predictions(tmp_path / "p.parquet", [row, {**row, "pair_id": "b"}], info)
    found = read_predictions(tmp_path / "p.parquet")
    assert found.ids.tolist() == [2, 5, 7] * 2
    assert found.mutual.tolist() == [True, False, False] * 2
    assert found.other_visible.tolist() == [True, True, False] * 2
    assert found.scores.tolist() == [0.5, 0.25, 0.0] * 2
    assert found.other_categories.tolist() == ["dog", "dog"]
    assert found.azimuths.tolist() == [[3, 7]] * 2
    assert found.grades.tolist() == [[2, -1, -1, -1]] * 2
    assert found.symmetric_ids.tolist() == [2, 7, 5] * 2
    assert found.images.tolist() == [["dog/1.jpg", "cat/2.jpg"]] * 2
    assert found.further.tolist() == [[1, 1]] * 2
    assert found.further_of.tolist() == [0, 3]
    second = found.take(np.array([1]))
    assert (second.further_of.tolist(), second.pair_ids.tolist()) == ([0], ["b"])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"keypoint_ids": [1]}, "'a' has another number of keypoint_ids than of source_points"),
        ({"target_points": [(1, 1), (np.nan, 0), (1, 1)]}, "has target_points that are not finite"),
        ({"keypoint_ids": [1, 2, -5]}, "has negative keypoint_ids"),
        ({"further_targets": [[]]}, "another number of further_targets"),
        ({"source_image": "a\x1bb"}, "a source_image is no name"),
    ],
)  # fmt: skip
def test_what_does_not_fit_in_the_columns_of_version_2_names_the_pair(tmp_path, changes, message):
    info = PredictionInfo("spair-71k", "test", "nearest", 64, "r", "m" * 64, "forward")
    points = [(1, 2), (3, 4), (5, 6)]
    row = {
        "pair_id": "a",
        "category": "cat",
        "direction": "forward",
        "source_size": (100, 80),
        "target_size": (60, 50),
        "source_bbox": None,
        "target_bbox": None,
        **dict.fromkeys(("source_points", "target_points", "predicted_points"), points),
        **changes,
    }
    with pytest.raises(InputError, match=message):
        write_predictions(tmp_path / "p.parquet", [row], info)


def test_files_without_partners_are_read(tmp_path):
    info = PredictionInfo("toy", "test", "nearest", 64, "r", "m" * 64, "forward")
    row = {
        "pair_id": "a",
        "category": "cat",
        "direction": "forward",
        "source_size": (100, 80),
        "target_size": (60, 50),
        "source_bbox": None,
        "target_bbox": None,
        **dict.fromkeys(("source_points", "target_points", "predicted_points"), ((1, 2), (3, 4))),
        "keypoint_ids": [3, 4],
    }
    write_predictions(tmp_path / "new.parquet", [row], info)
    pq.write_table(pq.read_table(tmp_path / "new.parquet").drop_columns(["symmetric_ids"]), tmp_path / "old.parquet")
    found = read_predictions(tmp_path / "old.parquet")
    assert found.ids.tolist() == [3, 4]
    assert found.symmetric_ids is None


def test_files_of_version_1_are_read(tmp_path):
    info = PredictionInfo("toy", "test", "nearest", 64, "r", "m" * 64, "forward")
    points = [(1, 2), (3, 4)]
    row = {
        "pair_id": "a",
        "category": "cat",
        "direction": "forward",
        "source_size": (100, 80),
        "target_size": (60, 50),
        "source_bbox": None,
        "target_bbox": None,
        **dict.fromkeys(("source_points", "target_points", "predicted_points"), points),
    }
    write_predictions(tmp_path / "new.parquet", [row], info)
    table = pq.read_table(tmp_path / "new.parquet")
    told = json.loads(table.schema.metadata[METADATA_KEY])
    old = table.select(table.column_names[:10]).replace_schema_metadata(
        {METADATA_KEY: json.dumps({**told, "version": 1}).encode()}
    )
    pq.write_table(old, tmp_path / "old.parquet")
    first, second = (read_predictions(tmp_path / name) for name in ("old.parquet", "new.parquet"))
    assert first.ids.tolist() == [-1, -1]
    assert first.mutual.all()
    np.testing.assert_array_equal(first.predicted, second.predicted)
