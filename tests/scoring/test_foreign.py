"""Predictions in the forms of other programs: the same scores from each, and what is wrong with them is said."""

import contextlib
import csv
import io
import json
import os
import pickle
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmark.scoring.foreign import read_foreign
from benchmark.scoring.frames import ProtocolFrame
from benchmark.scoring.joining import join, suspicion
from benchmark.scoring.metric import score_protocols
from benchmark.scoring.pickled import plain_values, read_pickle
from benchmark.scoring.protocols import protocols_named
from benchmark.scoring.truth import read_truth
from sc_imagenet.core.errors import InputError
from tests.golden.references import load
from tests.scoring.made import spair_folder


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    return spair_folder(tmp_path_factory.mktemp("data") / "spair-71k")


@pytest.fixture(scope="module")
def truth(root):
    return read_truth("spair-71k", "test", root)


@pytest.fixture(scope="module")
def synth():
    return load("spair_synth")


def result_pkl(synth, path, predicted, **more):
    """What GeoAware-SC writes: points by id, zeros for ids that the category does not use."""
    rows = []
    for row, (one, two) in enumerate(zip(synth["pair_source"], synth["pair_target"])):
        names = [
            f"data/SPair-71k/JPEGImages/{synth['image_category'][each]}/{synth['image_name'][each]}.jpg"
            for each in (one, two)
        ]
        rows.append({"src_fn": names[0], "trg_fn": names[1], "src_kpts_pred": predicted[row], "resize_resolution": 840})
    path.write_bytes(pickle.dumps({"result": rows, **more} if more else rows))
    return path


def scbench(*arguments):
    command = [sys.executable, "-m", "benchmark", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True)


def test_points_ids_visibility_and_views_are_those_of_the_files(truth, synth):
    assert truth.mutual.sum() == 335
    assert (
        len(truth.true)
        == (synth["image_visible"][synth["pair_source"]] | synth["image_visible"][synth["pair_target"]]).sum()
    )
    first = truth.take(np.array([0]))
    shown = synth["image_visible"][synth["pair_target"][0]]
    assert first.ids[first.true_visible].tolist() == np.flatnonzero(shown).tolist()
    np.testing.assert_array_equal(truth.azimuths[:, 1], synth["image_azimuth"][synth["pair_target"]])
    np.testing.assert_array_equal(truth.grades[:, 0], synth["pair_viewpoint"])


def test_result_pkl_gives_what_geoaware_itself_printed(tmp_path, truth, synth):
    golden = load("geoaware")
    path = result_pkl(synth, tmp_path / "result.pkl", golden["result_pkl_src_kpts_pred"])
    found = join(read_foreign(path), truth)
    assert str(found.predictions.frame) == "letterbox-840"
    scores = score_protocols(found.predictions, protocols_named("geoaware@1,geoaware-point@1,jamais-vu@1"), 0)
    for name, mode in (("geoaware@1", "image"), ("geoaware-point@1", "point")):
        ours = [scores[name][f"pck@{alpha}/{mode}"].value for alpha in ("0.1", "0.05", "0.01")]
        np.testing.assert_allclose(ours, 100 * golden[f"{mode}_overall"], atol=1e-4)


def test_every_form_gives_the_same_scores(tmp_path, truth, synth):
    import torch

    predicted = synth["pred_original"].astype(float)
    mutual = truth.where(truth.mutual)
    by_pair = [
        (pair, mutual.ids[a:b], predicted[row][mutual.ids[a:b]])
        for row, (pair, a, b) in enumerate(zip(mutual.pair_ids.tolist(), mutual.offsets[:-1], mutual.offsets[1:]))
    ]
    images = dict(zip(truth.pair_ids.tolist(), truth.images.tolist()))
    np.savez(tmp_path / "ids.npz", predicted=predicted, pair_id=truth.pair_ids, ids=np.arange(30))
    padded = np.full((len(by_pair), 30, 2), np.nan)
    for row, (_, _, points) in enumerate(by_pair):
        padded[row, : len(points)] = points
    np.savez(tmp_path / "order.npz", predicted=padded, source=truth.images[:, 0], target=truth.images[:, 1])
    with open(tmp_path / "points.csv", "w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["pair_id", "id", "x", "y"])
        writer.writerows(
            [pair.removesuffix(":cat"), k, *p] for pair, ids, points in by_pair for k, p in zip(ids, points)
        )
    lines = [
        json.dumps(
            {"source": images[pair][0], "target": images[pair][1], "points": points.tolist(), "ids": ids.tolist()}
        )
        for pair, ids, points in by_pair
    ]
    (tmp_path / "lines.jsonl").write_text("\n".join(lines))
    torch.save(torch.tensor(np.nan_to_num(padded, nan=-2.0)), tmp_path / "matches.pt")
    torch.save([torch.tensor(points)[None] for _, _, points in by_pair], tmp_path / "marco.pt")
    wanted = protocols_named("strict@1,geoaware@1,marco@1,geco@1")
    scores = {}
    for name in ("ids.npz", "order.npz", "points.csv", "lines.jsonl", "matches.pt", "marco.pt"):
        found = join(read_foreign(tmp_path / name), truth)
        scores[name] = score_protocols(found.predictions, wanted, 20).by_protocol
    first = scores["ids.npz"]
    assert 10 < first["geoaware@1"]["pck@0.1/image"].value < 90
    assert all(found == first for name, found in scores.items())


def test_omniprobes_lines_are_read_in_their_unit_square(tmp_path, truth, synth):
    cells = load("omniprobe")["target_cell_col_row"] / 50
    lines = []
    for row, pair in enumerate(truth.pair_ids.tolist()):
        meta = {"class_name": "x", "pair_index": row, "subset_view_diff": "all", "pair_filename": f"{pair}.json"}
        lines.append(
            json.dumps({"pred": cells[row].tolist(), "gt_src": [], "gt_trg": [], "thresh_scale": 1, "meta": meta})
        )
    (tmp_path / "pred_outputs_spair_correspondence.json").write_text("\n".join(lines))
    found = join(read_foreign(tmp_path / "pred_outputs_spair_correspondence.json"), truth)
    scores = score_protocols(found.predictions, protocols_named("omniprobe@1"), 0)
    golden = load("omniprobe")["average_view012all"][3]
    assert scores.headline("omniprobe@1").value == pytest.approx(golden, abs=1e-4)


def test_a_pickle_with_code_runs_nothing_and_is_named(tmp_path, root):
    class Evil:
        def __reduce__(self):
            return (os.system, (f"touch {tmp_path / 'executed'}",))

    path = tmp_path / "result.pkl"
    for content in (pickle.dumps([{"src_fn": Evil()}]), pickle.dumps(Evil(), 0), pickle.dumps([os.system])):
        path.write_bytes(content)
        done = scbench("score", path, "--dataset", "spair-71k", "--data-root", root)
        assert done.returncode == 2
        assert "is a pickle that would run posix.system; nothing in it was executed" in done.stderr
        assert done.stderr.count("\n") == 1
    assert not (tmp_path / "executed").exists()


@pytest.mark.parametrize("version", range(6))
def test_plain_pickles_of_every_protocol_are_read(version):
    value = [{"a": np.arange(6, dtype=np.float32).reshape(3, 2), "n": np.int64(3), "t": (1, 2.5, None, True, "x")}]
    found = plain_values(pickle.dumps(value, version))
    np.testing.assert_array_equal(found[0]["a"], value[0]["a"])
    assert found[0]["n"] == 3
    assert found[0]["t"] == value[0]["t"]


def test_tensors_are_read_from_every_wrapping_that_torch_and_pickle_write():
    import torch

    tensors = [torch.arange(12.0).reshape(2, 3, 2), torch.ones(2, dtype=torch.float16), torch.arange(6).reshape(2, 3).T]
    wrapped = [pickle.dumps(tensors)]
    for new in (True, False):
        buffer = io.BytesIO()
        torch.save(tensors, buffer, _use_new_zipfile_serialization=new)
        wrapped.append(buffer.getvalue())
    for content in wrapped:
        for found, tensor in zip(plain_values(content), tensors, strict=True):
            np.testing.assert_array_equal(found, tensor.numpy())


def test_a_pickle_that_names_one_list_over_and_over_stays_small():
    value = [0]
    for _ in range(60):
        value = [value, value]
    assert len(plain_values(pickle.dumps(value))) == 2


@settings(max_examples=300, deadline=None)
@given(st.data())
def test_a_damaged_pickle_is_refused_or_read_and_never_fails_otherwise(data):
    import torch

    rows = [{"src_fn": "a/b.jpg", "trg_fn": "a/c.jpg", "src_kpts_pred": np.zeros((3, 2), np.float32)}]
    wholes = [pickle.dumps(rows, 2), pickle.dumps(rows, 4)]
    for new in (True, False):
        buffer = io.BytesIO()
        torch.save([torch.zeros(2, 3, 2)], buffer, _use_new_zipfile_serialization=new)
        wholes.append(buffer.getvalue())
    content = bytearray(data.draw(st.sampled_from(wholes)))
    for _ in range(data.draw(st.integers(1, 4))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "p.pkl"
        path.write_bytes(bytes(content))
        with contextlib.suppress(InputError):
            read_pickle(path)


@pytest.mark.parametrize("cut", [1, 40, 200])
def test_a_pickle_that_breaks_off_is_refused(tmp_path, cut, synth):
    path = result_pkl(synth, tmp_path / "result.pkl", synth["pred_letterbox840"])
    path.write_bytes(path.read_bytes()[:cut])
    with pytest.raises(InputError, match="is not a whole pickle"):
        read_foreign(path)


def saved(folder, truth, predicted, name="p.npz", **changes):
    arrays = {"predicted": predicted, "pair_id": truth.pair_ids, "ids": np.arange(30), **changes}
    np.savez(folder / name, **arrays)
    return folder / name


def test_what_does_not_fit_the_data_set_is_named(tmp_path, truth, synth):
    good = synth["pred_original"].astype(float)
    nan = good.copy()
    nan[3] = np.nan
    twice = truth.pair_ids.copy()
    twice[1] = twice[0]
    other = truth.pair_ids.copy()
    other[:] = "000001-cup-pot"
    few = np.full((len(truth), 30), -1)
    few[:, :3] = np.arange(3)
    cases = [
        ({"predicted": nan}, r"predicted points are not numbers, the first in pair 000004-"),
        ({"pair_id": twice}, r"1 pairs are there twice, the first is '000001-"),
        ({"pair_id": other}, r"56 of 56 pairs are not of spair-71k:test.*another data set"),
        ({"ids": few}, r"has no point of id \d+, which both images"),
        ({"predicted": good[:, :3], "ids": np.full((len(truth), 3), 1)}, r"names a keypoint twice"),
    ]
    for number, (changes, message) in enumerate(cases):
        path = saved(tmp_path, truth, **{"predicted": good, "name": f"{number}.npz", **changes})
        with pytest.raises(InputError, match=message):
            join(read_foreign(path), truth)


def test_part_of_the_pairs_is_scored_and_said(tmp_path, truth, synth):
    path = saved(tmp_path, truth, synth["pred_original"][:5], pair_id=truth.pair_ids[:5])
    found = join(read_foreign(path), truth)
    assert len(found.predictions) == 5
    assert "partial: 5 of the 56 pairs of spair-71k:test; the first that is missing is 000006-" in found.notes[0]


def good_guesses(truth, noise=8.0):
    random = np.random.default_rng(0)
    predicted = np.full((len(truth), 30, 2), 0.0)
    predicted[truth.owner, truth.ids] = truth.true + random.normal(0, noise, truth.true.shape)
    return predicted


def test_points_in_another_frame_are_not_scored_silently(tmp_path, truth, root):
    frame = ProtocolFrame.parse("letterbox-840")
    native = frame.carry(good_guesses(truth).reshape(-1, 2), np.repeat(truth.sizes, 30, axis=0)).reshape(-1, 30, 2)
    path = saved(tmp_path, truth, native)
    done = scbench("score", path, "--dataset", "spair-71k", "--data-root", root)
    assert done.returncode == 2
    assert "these predictions are not scored" in done.stderr
    assert "give --frame letterbox-840" in done.stderr
    told = scbench("score", path, "--dataset", "spair-71k", "--data-root", root, "--frame", "letterbox-840", "--json",
                   "--protocol", "strict@1", "--draws", 0)  # fmt: skip
    assert told.returncode == 0, told.stderr
    assert json.loads(told.stdout)["notes"] == []


def test_x_and_y_exchanged_are_found_out(tmp_path, truth):
    path = saved(tmp_path, truth, good_guesses(truth)[..., ::-1])
    found = join(read_foreign(path), truth)
    assert "right with x and y exchanged" in (suspicion(found.predictions) or "")
    right = join(read_foreign(saved(tmp_path, truth, good_guesses(truth), "right.npz")), truth)
    assert suspicion(right.predictions) is None


@pytest.mark.parametrize("noise", [30, 300, 3000])
def test_bad_predictions_in_the_right_frame_are_no_suspicion_of_exchange(truth, noise):
    random = np.random.default_rng(noise)
    from dataclasses import replace

    wild = replace(truth, predicted=random.random(truth.true.shape) * truth.sizes[truth.owner])
    assert suspicion(wild) is None


def test_files_that_are_not_of_their_form_are_refused(tmp_path):
    cases = {
        "a.npz": (b"PK nonsense", "is not an .npz file"),
        "a.csv": (b"x,y\n1,2\n", "says neither 'pair_id' nor 'source' and 'target'"),
        "b.csv": (b"pair_id,x,y\na,1,b\n", "column 'y': could not convert string to float"),
        "c.csv": (b"pair_id,x,y\na,1\n", "line 2 has another number of columns"),
        "a.jsonl": (b"[1]\n", "line 1 is no object"),
        "b.jsonl": (b'{"pair_id": "a"}\n', "line 1 is not a pair ('points')"),
        "a.txt": (b"", "unknown form of predictions '.txt'"),
        "a.pkl": (pickle.dumps({"a": 1}), "is a pickle, but not of a list of pairs"),
    }
    for name, (content, message) in cases.items():
        (tmp_path / name).write_bytes(content)
        with pytest.raises(InputError) as error:
            read_foreign(tmp_path / name)
        assert message in str(error.value)


def test_a_passport_says_whether_the_scores_come_out_again(tmp_path, truth, synth, root):
    path = saved(tmp_path, truth, synth["pred_original"])
    common = ("--dataset", "spair-71k", "--data-root", root, "--protocol", "geoaware@1,strict@1", "--draws", 40)
    written = scbench("score", path, *common, "--passport", tmp_path / "mine.json", "--detail", "subsets,errors")
    assert written.returncode == 0, written.stderr
    told = json.loads((tmp_path / "mine.json").read_text())
    assert told["pairs"] == 56
    assert list(told["scores"]) == ["geoaware@1", "strict@1"]
    assert told["software"].startswith("sc-imagenet ")
    again = scbench("score", "--check", tmp_path / "mine.json", "--data-root", root)
    assert (again.returncode, again.stdout) == (0, "equal: p.npz gives every score of mine.json\n")
    order = np.random.default_rng(0).permutation(56)
    saved(tmp_path, truth, synth["pred_original"][order], "order.npz", pair_id=truth.pair_ids[order])
    same = scbench("score", tmp_path / "order.npz", "--check", tmp_path / "mine.json", "--data-root", root)
    assert same.stdout == "equal: order.npz gives every score of mine.json\n"
    moved = synth["pred_original"] + np.float32(30)
    saved(tmp_path, truth, moved, "moved.npz")
    other = scbench("score", tmp_path / "moved.npz", "--check", tmp_path / "mine.json", "--data-root", root)
    assert other.returncode == 1
    assert other.stdout.startswith("not equal: moved.npz and mine.json\nthe predictions are others: ")


def test_a_damaged_passport_is_refused(tmp_path):
    for content, message in (
        ("{", "is not valid JSON"),
        ("[]", "is not a passport"),
        ('{"predictions_sha256": 1}', "version"),
    ):
        (tmp_path / "a.json").write_text(content)
        done = scbench("score", "--check", tmp_path / "a.json")
        assert done.returncode == 2
        assert message in done.stderr


def test_scbench_protocols_prints_each_and_all():
    assert "geoaware@1" in scbench("protocols").stdout
    told = json.loads(scbench("protocols", "distilldift", "--json").stdout)
    assert told["name"] == "distilldift@2"
    assert told["threshold d"].startswith("box-min")
    assert "There is distilldift@1, distilldift@2" in scbench("protocols", "distilldift@3").stderr


def test_load_dataset_has_ids_views_and_what_one_image_alone_shows(root, truth, synth, tmp_path, monkeypatch):
    from sc_imagenet import load_dataset

    monkeypatch.setenv("SC_CACHE", str(tmp_path))
    monkeypatch.setenv("HF_DATASETS_CACHE", str(tmp_path))
    rows = load_dataset("spair-71k", split="test", root=root)
    assert rows["pair_id"] == truth.pair_ids.tolist()
    first, ids = rows[0], truth.ids[truth.owner == 0]
    mutual = truth.mutual[truth.owner == 0]
    assert first["keypoint_ids"] == ids[mutual].tolist()
    assert sorted(first["unpaired_ids"]) == ids[~mutual].tolist()
    alone = dict(zip(first["unpaired_ids"], zip(first["unpaired_points"], first["unpaired_in_source"])))
    for number, (point, in_source) in alone.items():
        image = synth["pair_source" if in_source else "pair_target"][0]
        assert point == synth["image_points"][image][number].tolist()
    assert (first["source_azimuth"], first["target_azimuth"]) == tuple(truth.azimuths[0].tolist())


def test_shards_of_version_1_are_read_and_their_hashes_stay(tmp_path):
    import pyarrow.parquet as pq

    from sc_imagenet.data.schema import ADDED
    from sc_imagenet.data.shards import scan_shards, write_pairs

    row = {
        "pair_id": "a",
        "dataset": "sc-imagenet",
        "category": 0,
        "source": {"path": "a.jpg", "bytes": None},
        "target": {"path": "b.jpg", "bytes": None},
        "source_points": [[1.0, 2.0]],
        "target_points": [[3.0, 4.0]],
        "mirrored": False,
    }
    today = write_pairs(tmp_path, "test", [row], ["cat"], 1)
    path = today.files[0]
    table = pq.read_table(path)
    pq.write_table(table.drop_columns(list(ADDED)), path)
    older = scan_shards(tmp_path / "pairs", "sc-imagenet", "pairs", "test")
    assert (older.manifest_sha256, older.content_sha256) == (today.manifest_sha256, today.content_sha256)
