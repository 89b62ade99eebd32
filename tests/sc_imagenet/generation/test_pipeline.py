"""From photographs to a data set: the counts, the same bytes however it runs, and that it loads."""

import json
import os
import shutil
import signal
import time
from dataclasses import replace

import datasets
import numpy as np
import pytest
import torch
from huggingface_hub import DatasetCard
from PIL import Image

from benchmark.running.data import NamedPairs
from benchmark.running.generate import generate_set
from sc_imagenet.core.errors import InputError
from sc_imagenet.core.locks import held
from sc_imagenet.data.load import load_dataset
from sc_imagenet.data.publish import prepare_data
from sc_imagenet.generation.export import export, write_release
from sc_imagenet.generation.labelling import ClassTask, _features, open_tools, to_bytes, tool_files
from sc_imagenet.generation.options import AFTER_LABELS, GenerationOptions, key_before
from sc_imagenet.generation.photographs import scan_photographs
from sc_imagenet.generation.pipeline import (
    LocalEngine,
    PhotographSource,
    Pipeline,
    file_name,
    read_shard,
    worker_context,
)
from sc_imagenet.toy.render import render_object

OPTIONS = GenerationOptions(
    backbone="resnet10t", pretrained="to be set", size=192, share=0.7, points=6, pairs=7, least_single=0.0
)
CLASSES = {"boat": "boat", "a 'car': red-blue": "car"}


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    import timm
    import torch

    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("weights") / "resnet10t.pth"
    torch.save(timm.create_model("resnet10t").state_dict(), path)
    return str(path)


@pytest.fixture(scope="module")
def photographs(tmp_path_factory):
    """Two classes, of 14 and of 11 images."""
    root, masks = tmp_path_factory.mktemp("photographs"), tmp_path_factory.getbasetemp() / "masks"
    for (name, category), count in zip(CLASSES.items(), (14, 11)):
        (root / name).mkdir()
        for number in range(count):
            seen = render_object(category, (9, number), (96, 80 + number))
            Image.fromarray(seen.image).save(root / name / f"{number}.png")
            left, top, right, bottom = seen.bbox.astype(int)
            mask = np.zeros(seen.mask.shape, np.uint8)
            mask[top:bottom, left:right] = 255
            (masks / name).mkdir(parents=True, exist_ok=True)
            Image.fromarray(mask).save(masks / name / f"{number}.png")
    (root / "boat" / "notes.txt").write_text("not an image")
    counts = [f'"{path.relative_to(root)}",1' for path in sorted(root.glob("*/*.png"))]
    (root / "counts.csv").write_text("path,objects\n" + "\n".join(counts))
    return root


@pytest.fixture(scope="module")
def options(weights, photographs, tmp_path_factory):
    masks = str(tmp_path_factory.getbasetemp() / "masks")
    return replace(OPTIONS, pretrained=weights, counts=str(photographs / "counts.csv"), saliency=masks)


def generate(root, out, options, workers=1):
    said = []
    pipeline = Pipeline(PhotographSource(root), out, options, LocalEngine(workers), say=said.append)
    found = pipeline.scan()
    labels = pipeline.label(found)
    exported = export(out, found, labels, pipeline.select(found, labels), options)
    return exported, said


def shards(out):
    return {
        str(path.relative_to(out)): path.read_bytes()
        for folder in ("pairs", "work/labels", "work/selected")
        for path in sorted((out / folder).glob("*.parquet"))
    }


@pytest.fixture(scope="module")
def made(photographs, options, tmp_path_factory):
    out = tmp_path_factory.mktemp("made") / "my set"
    exported, _ = generate(photographs, out, options)
    return out, exported


def test_counts_follow_the_rules_or_the_reason_is_said(made):
    out, exported = made
    counts = exported.statistics
    # floor(0.7 * 14) = 9 images are sources of 7 pairs each, floor(0.7 * 11) = 7 of 6 each
    assert counts.classes == {"boat": 63, "a 'car': red-blue": 42}
    assert "7 of 11 images are kept: at most 6 pairs an image, not 7" in counts.shortfalls["a 'car': red-blue"]
    assert sum(record.rows for record in exported.records.values()) == 105
    skipped = [json.loads(line) for line in (out / "skipped.jsonl").read_text().splitlines()]
    assert [each["path"] for each in skipped] == ["counts.csv", "boat/notes.txt"]
    card = (out / "README.md").read_text()
    assert f"| train | {exported.records['train'].rows} |" in card
    assert "at most 6 pairs an image" in card
    assert Image.open(out / "statistics.png").size[0] > 500


def test_selected_points_close_their_loops_better(made):
    statistics = made[1].statistics
    middles = np.arange(len(statistics.matched))
    mean = {name: np.average(middles, weights=getattr(statistics, name)) for name in ("matched", "selected")}
    assert mean["selected"] < mean["matched"]
    assert max(statistics.kept_scores) <= max(statistics.other_scores)


def test_the_set_loads_and_its_points_lie_in_the_images(made):
    out, _ = made
    rows = load_dataset("sc_imagenet", root=out, split="train")
    assert rows.features["category"].names == sorted(CLASSES)
    for row in rows:
        assert row["source"].size == tuple(row["source_size"])
        assert len(row["source_points"]) == len(row["confidence"]) == len(row["loop_offset"]) <= 6
        for side in ("source", "target"):
            points = np.array(row[f"{side}_points"])
            assert (points >= 0).all()
            assert (points <= row[f"{side}_size"]).all()
    pairs = NamedPairs.parse(str(out), "train", None)
    assert len(pairs.open()) == len(rows)
    assert len(pairs.validation.open()) == made[1].records["validation"].rows


def test_the_release_layout_holds_the_same(made):
    out, exported = made
    folder = write_release(out, exported.records)
    ours = load_dataset("sc_imagenet", root=out, split="train")
    theirs = load_dataset("sc_imagenet", root=folder, split="train")
    assert theirs.features["category"].names == ["a 'car'_ red_blue", "boat"]
    for a, b in zip(ours, theirs, strict=True):
        assert a["pair_id"].split(":")[0] == b["pair_id"].split(":")[0]
        assert a["source_points"] == b["source_points"]
        assert a["target_bbox"] == b["target_bbox"]
        assert a["source"].tobytes() == b["source"].tobytes()


def test_a_second_run_does_nothing_again_and_other_rules_keep_the_labels(made, photographs, options):
    out, _ = made
    before = shards(out)
    _, said = generate(photographs, out, options)
    assert shards(out) == before
    assert "label: 2 of 2 classes were done before" in said
    assert "select: 2 of 2 classes were done before" in said
    copy = out.parent / "other rules"
    shutil.copytree(out, copy, symlinks=True)
    exported, said = generate(photographs, copy, replace(options, points=3))
    assert "label: 2 of 2 classes were done before" in said
    assert "select: 2 classes" in said
    assert exported.statistics.points == 3 * 105


def test_processes_write_the_same_bytes(made, photographs, options, tmp_path):
    generate(photographs, tmp_path / "two", options, workers=2)
    assert shards(tmp_path / "two") == shards(made[0])


def test_killed_at_any_time_and_run_again_it_gives_the_same(made, photographs, options, tmp_path):
    """Killed when the first file of each stage appears: features, labels, selected pairs, the export."""
    out = tmp_path / "killed"
    context = worker_context()  # no fork of this process: torch's threads may have run in it
    for sign in ("work/features/*.safetensors", "work/labels/*.parquet", "work/selected/*.parquet", "work/export"):
        running = context.Process(target=generate, args=(photographs, out, options))
        running.start()
        while running.is_alive() and not any(out.glob(sign)):
            time.sleep(0.002)
        os.kill(running.pid, signal.SIGKILL)
        running.join()
        assert any(out.glob(sign))
    generate(photographs, out, options)
    assert shards(out) == shards(made[0])
    left = [name for _, _, names in os.walk(out / "pairs") for name in names]
    assert all(name.endswith((".parquet", ".json")) for name in left)


def test_features_lie_alike_in_memory_whether_just_computed_or_read(photographs, options, tmp_path):
    """In another order sums differ in their last bits, and with them labels made after an interruption."""
    found = scan_photographs(photographs)
    task = ClassTask(photographs, "boat", tuple(found.classes["boat"]), options, tmp_path / "features")
    computed, read = (_features(task, open_tools(options)) for _ in range(2))
    for name in ("tokens", "global_token"):
        one, other = getattr(computed.features, name), getattr(read.features, name)
        assert one.equal(other)
        assert one.stride() == other.stride()
    assert computed.masks.stride() == read.masks.stride()


def test_two_processes_do_not_make_one_set(photographs, options, tmp_path):
    out = tmp_path / "out"
    with held(out, "data set"), pytest.raises(InputError, match="another process is working on this data set"):
        generate_set(("label",), str(photographs), out, options, "local", 1, True)


def test_a_photograph_that_goes_is_one_error_and_the_other_classes_are_kept(photographs, options, tmp_path):
    root = tmp_path / "photographs"
    shutil.copytree(photographs, root)
    pipeline = Pipeline(PhotographSource(root), tmp_path / "out", options, LocalEngine())
    found = pipeline.scan()
    (root / "boat" / "3.png").unlink()
    with pytest.raises(InputError, match=r"class 'boat': .*3\.png: no such image.*run again"):
        pipeline.label(found)
    assert len(list((tmp_path / "out/work/labels").glob("*.parquet"))) == 1


def test_a_class_whose_images_show_many_objects_is_left_out(photographs, options, tmp_path):
    counts = (photographs / "counts.csv").read_text().replace('red-blue/1.png",1', 'red-blue/1.png",2')
    counts = counts.replace('red-blue/2.png",1', 'red-blue/2.png",0')
    (tmp_path / "counts.csv").write_text(counts)
    exported, _ = generate(photographs, tmp_path / "out", replace(options, counts=str(tmp_path / "counts.csv")))
    reason = "has 9 images of one object, 10 are needed"
    assert exported.statistics.left_out == {"a 'car': red-blue": reason}
    assert reason in (tmp_path / "out" / "skipped.jsonl").read_text()
    assert f"no pairs; {reason}" in (tmp_path / "out" / "README.md").read_text()


def test_its_card_is_the_hub_s_and_says_how_to_load_it(made, tmp_path, monkeypatch):
    out, exported = made
    card = DatasetCard.load(out / "README.md")
    data = card.data.to_dict()
    assert (data["pretty_name"], data["license"]) == ("SC-my set", "unknown")
    assert data["task_categories"] == ["keypoint-detection"]
    assert data["size_categories"] == ["n<1K"]
    code = card.text.split("```python")[1].split("```")[0].replace("THIS FOLDER", str(out))
    found: dict = {}
    exec(compile(code, "README.md", "exec"), found)
    assert len(found["rows"]) == exported.records["train"].rows
    assert found["rows"][0]["source"].size[0] > 0
    plain = datasets.load_dataset(str(out), split="train", cache_dir=tmp_path)
    assert plain[0]["source"] == {"bytes": None, "path": plain[0]["source"]["path"]}
    assert (out / "JPEGImages" / plain[0]["source"]["path"]).is_file()


def test_published_it_holds_no_photograph_and_no_place(made, photographs, tmp_path):
    out, exported = made
    records = prepare_data(str(out), tmp_path / "out", repo="me/my-set")
    assert {split: r.manifest_sha256 for split, r in records.items()} == {
        split: r.manifest_sha256 for split, r in exported.records.items()
    }
    names = {path.name for path in (tmp_path / "out").iterdir()}
    assert names == {"README.md", "generation.json", "pairs"}
    pixels = next(photographs.glob("boat/*.png")).read_bytes()
    for path in (file for file in (tmp_path / "out").rglob("*") if file.is_file()):
        assert pixels not in path.read_bytes()
        assert str(photographs.parent).encode() not in path.read_bytes(), path.name


@pytest.fixture
def own_inputs(photographs, options, tmp_path):
    """The photographs, masks and counts in folders that a test may change."""
    root, masks = tmp_path / "photographs", tmp_path / "masks"
    shutil.copytree(photographs, root)
    shutil.copytree(options.saliency, masks)
    return root, masks, replace(options, saliency=str(masks), counts=str(root / "counts.csv"))


def test_masks_replaced_in_place_give_other_labels_and_the_other_class_keeps_its_own(own_inputs, tmp_path):
    root, masks, options = own_inputs
    generate(root, tmp_path / "out", options)
    before = shards(tmp_path / "out")
    for path in sorted((masks / "boat").iterdir()):
        state, mask = path.stat(), np.asarray(Image.open(path)).copy()
        mask[:40] = 0
        Image.fromarray(mask).save(path)
        os.utime(path, ns=(state.st_atime_ns, state.st_mtime_ns))
    _, said = generate(root, tmp_path / "out", options)
    assert "label: 1 of 2 classes are made again: changed masks" in said
    assert "select: 1 of 2 classes are made again: changed masks" in said
    after = shards(tmp_path / "out")
    assert {name for name in after if before[name] != after[name] and "work" in name} == {
        f"work/{stage}/{file_name('boat')}.parquet" for stage in ("labels", "selected")
    }
    generate(root, tmp_path / "anew", options)
    assert shards(tmp_path / "anew") == after


@pytest.mark.parametrize("what", ["weights", "counts", "photographs"])
def test_what_is_replaced_in_place_is_seen_by_the_same_process(own_inputs, weights, tmp_path, what):
    root, _, options = own_inputs
    options = replace(options, pretrained=str(shutil.copy(weights, tmp_path / "weights.pth")))
    generate(root, tmp_path / "out", options)
    if what == "weights":
        state = torch.load(tmp_path / "weights.pth")
        torch.save({name: value * 1.5 for name, value in state.items()}, tmp_path / "weights.pth")
    elif what == "counts":
        text = (root / "counts.csv").read_text()
        (root / "counts.csv").write_text(text.replace("boat/3.png,1", "boat/3.png,2").replace('3.png",1', '3.png",2'))
    else:
        Image.open(root / "boat" / "3.png").rotate(180).save(root / "boat" / "3.png")
    _, said = generate(root, tmp_path / "out", options)
    assert any(line.startswith("label: ") and f"made again: changed {what}" in line for line in said)
    generate(root, tmp_path / "anew", options)
    assert shards(tmp_path / "anew") == shards(tmp_path / "out")


def test_labels_that_do_not_tell_what_they_were_made_of_are_taken_unless_masks_are_a_folder_s(
    photographs, options, tmp_path
):
    out, of_features = tmp_path / "out", replace(options, saliency="features", counts="masks", least_single=0)
    for given, said_of in ((of_features, None), (options, "masks, perhaps: they were not looked at before")):
        generate(photographs, out, given)
        tasks = Pipeline(PhotographSource(photographs), out, given, LocalEngine())
        found = tasks.scan()
        for name in found.classes:
            task = ClassTask(photographs, name, tuple(found.classes[name]), given, out / "work/features")
            path = out / "work/labels" / f"{file_name(name)}.parquet"
            files = tool_files(given)
            hashes = [files[each] for each in ("pretrained", "saliency", "counts", "network") if each in files]
            content = [f"{each.path} {each.sha256}" for each in task.photographs]
            table, about = read_shard(path)
            del about["made_of"]
            path.write_bytes(to_bytes(table, {**about, "key": key_before(given, AFTER_LABELS, *hashes, *content)}))
        _, said = generate(photographs, out, given)
        if said_of is None:
            assert "label: 2 of 2 classes were done before" in said
        else:
            assert f"label: 2 of 2 classes are made again: changed {said_of}" in said
