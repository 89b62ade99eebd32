"""Features of images: encoded once, the same from memory and from disk, never those of anything else."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from itertools import permutations
from pathlib import Path

import datasets
import numpy as np
import pytest
import torch
from accelerate import Accelerator
from PIL import Image

from baselines.cnngeo import CNNGeo
from baselines.dhpf import DHPF
from baselines.hpf import HPF
from baselines.matcher import Matcher
from baselines.ncnet import NCNet
from baselines.nearest import Nearest
from baselines.recipe import Recipe
from baselines.transformatcher import TransforMatcher
from benchmark.running.encoding import EncodedPairs, interleaved
from benchmark.running.evaluate import predict_rows
from benchmark.running.features import Encoded, FeatureStore, encoder_identity, feature_folder, kept_features
from benchmark.running.folder import RunFolder
from benchmark.running.loop import MatcherTraining
from sc_imagenet.core.errors import InputError
from sc_imagenet.data.pairs import PairDataset
from sc_imagenet.data.schema import pair_features
from tests import PATIENCE

ROOT = Path(__file__).parents[3]
IMAGES = 6
CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch) -> Path:
    folder = tmp_path / "cache"
    monkeypatch.setenv("SC_CACHE", str(folder))
    return folder


def rows_of(folder: Path, mirrored: bool = False) -> datasets.Dataset:
    """All ordered pairs of some images of noise, in an order that comes back to none of them soon."""
    folder.mkdir(exist_ok=True)
    draw = np.random.default_rng(0)
    paths = []
    for number in range(IMAGES):
        paths.append(folder / f"{number}.png")
        if not paths[-1].exists():
            noise = draw.integers(0, 255, (40 + 8 * number, 60, 3), dtype=np.uint8)
            Image.fromarray(noise).save(paths[-1])
    table = []
    for source, target in draw.permutation(list(permutations(paths, 2))).tolist():
        points = draw.uniform(5, 30, (4, 2)).tolist()
        row = {"pair_id": f"{len(table)}", "dataset": "noise", "category": 0, "mirrored": mirrored}
        row |= {"source": {"path": str(source), "bytes": None}, "target": {"path": str(target), "bytes": None}}
        row |= {"source_points": points, "target_points": points}
        row |= dict.fromkeys(("viewpoint_variation", "scale_variation", "truncation", "occlusion"), -1)
        table.append(row)
    features = pair_features(["thing"])
    return datasets.Dataset.from_list([dict.fromkeys(features) | row for row in table], features=features)


def nearest(**changes) -> Matcher:
    torch.manual_seed(0)
    return Nearest(**{"backbone": "resnet10t", "size": 64, "pretrained": False, **changes}).eval()


def cnngeo() -> Matcher:
    """Both of its networks move something, as none does before training."""
    torch.manual_seed(0)
    model = CNNGeo("resnet10t", None, 192, pretrained=False).eval()
    for network in (model.affine, model.spline):
        torch.nn.init.normal_(network.linear.weight, std=1e-2)
    return model


MODELS = {
    "nearest": nearest,
    "cnngeo": cnngeo,
    "hpf": lambda: HPF("resnet10t", [1, 2], 64, pretrained=False).eval(),
    "transformatcher": lambda: TransforMatcher("resnet10t", [3, 4], 64, depth=1, pretrained=False).eval(),
}


def pairs_of(model: Matcher, rows: datasets.Dataset) -> PairDataset:
    return PairDataset(rows, model.size, model.mean, model.std, keep_aspect=model.keep_aspect)


def predicted(model: Matcher, rows: datasets.Dataset, **options) -> tuple[np.ndarray, EncodedPairs]:
    """Predictions in the order of the rows, and what made them."""
    encoded = EncodedPairs(model, pairs_of(model, rows), model.direction, CPU, **options)
    order = encoded.order()
    encoded.expect(order)
    found = list(predict_rows(model, encoded.pairs, order, model.direction, CPU, encoded=encoded))
    return np.stack([found[place]["predicted_points"] for place in np.argsort(order)]), encoded


@pytest.mark.parametrize("name", MODELS)
def test_predictions_are_the_same_bytes_with_and_without_a_store(name, tmp_path):
    torch.manual_seed(0)
    model, rows = MODELS[name](), rows_of(tmp_path / "images")
    once = IMAGES * (1 + model.encodes_by_role)
    without, encoded = predicted(model, rows, features="off")
    assert encoded.encodings == 2 * len(rows)
    for options, encodings in (
        ({"features": "memory"}, once),
        ({"features": "memory", "limit": 1}, once),
        ({"features": "keep", "limit": 1}, once),
        ({"features": "keep"}, 0),
        ({"features": "keep", "workers": 1}, 0),
    ):
        found, encoded = predicted(model, rows, **options)
        assert found.tobytes() == without.tobytes(), options
        assert encoded.encodings == encodings, options


def test_predictions_are_those_of_the_forward_pass(tmp_path):
    model, rows = nearest(), rows_of(tmp_path / "images")
    found, _ = predicted(model, rows)
    pairs = pairs_of(model, rows)
    for index in range(0, len(rows), 7):
        item = pairs[index]
        with torch.inference_mode():
            output = model(item["source"][None], item["target"][None])
            points = model.transfer(output, item["source_points"][None])[0].numpy()
        whole = pairs.frame.original(points, item["target_size"].tolist())
        np.testing.assert_allclose(found[index], whole, atol=1e-3)


def test_a_mirrored_row_is_another_image(tmp_path):
    model = nearest()
    predicted(model, rows_of(tmp_path / "images"), features="keep")
    _, encoded = predicted(model, rows_of(tmp_path / "images", mirrored=True), features="keep")
    assert encoded.encodings == IMAGES


def test_another_image_weight_or_argument_of_the_encoder_finds_nothing_and_one_of_the_match_all(tmp_path):
    rows = rows_of(tmp_path / "images")
    predicted(nearest(), rows, features="keep")
    changed = nearest()
    weight = next(changed.parameters()).data.view(-1)
    weight[0] = torch.nextafter(weight[0], torch.tensor(torch.inf))
    for model, encodings in (
        (nearest(window=0.0, upsample=1), 0),
        (changed, IMAGES),
        (nearest(standardise=False), IMAGES),
        (nearest(size=96), IMAGES),
    ):
        assert predicted(model, rows, features="keep")[1].encodings == encodings
    path = Path(rows[0]["source"].filename)
    content = bytearray(path.read_bytes())
    with Image.open(path) as image:
        pixels = np.array(image)
    pixels[0, 0, 0] ^= 1
    Image.fromarray(pixels).save(path)
    assert path.read_bytes() != content
    assert predicted(nearest(), rows, features="keep")[1].encodings == 1


def export(model: Matcher, rows: datasets.Dataset, folder: Path) -> None:
    """Write what a matcher's encoder makes of every image, as another program would."""
    folder.mkdir()
    pairs = pairs_of(model, rows)
    for index in range(len(rows)):
        image, _ = pairs.image("source", index)
        np.save(folder / f"{Path(rows[index]['source']['path']).stem}.npy", model.encode(image[None])[0][0].numpy())


@pytest.mark.parametrize("mode", ["keep", "memory", "off"])
def test_arrays_made_elsewhere_are_matched_as_the_images_they_are_of(tmp_path, mode):
    rows = rows_of(tmp_path / "images").cast_column("source", datasets.Image(decode=False))
    rows = rows.cast_column("target", datasets.Image(decode=False))
    one = nearest(standardise=False, layers=[3])
    export(one, rows, tmp_path / "arrays")
    other = Nearest(size=64, standardise=False, features=str(tmp_path / "arrays")).eval()
    expected, _ = predicted(one, rows)
    found, _ = predicted(other, rows, features=mode)
    np.testing.assert_allclose(found, expected, atol=1e-3)
    np.save(tmp_path / "arrays" / "0.npy", np.roll(np.load(tmp_path / "arrays" / "0.npy"), 1, axis=2))
    again = Nearest(size=64, standardise=False, features=str(tmp_path / "arrays")).eval()
    assert not np.array_equal(predicted(again, rows, features=mode)[0], found)


def test_arrays_made_elsewhere_are_of_no_image_that_is_mirrored_or_has_no_name(tmp_path):
    rows = rows_of(tmp_path / "images", mirrored=True)
    export(
        nearest(), rows_of(tmp_path / "images").cast_column("source", datasets.Image(decode=False)), tmp_path / "arrays"
    )
    other = Nearest(size=64, features=str(tmp_path / "arrays")).eval()
    with pytest.raises(InputError, match="a mirrored image"):
        predicted(other, rows)
    with pytest.raises(InputError, match="by an image's name"):
        other.encode(torch.zeros(1, 3, 64, 64))


def test_a_change_of_the_model_s_code_or_normalisation_is_another_encoder(tmp_path, monkeypatch):
    model = nearest()
    first = encoder_identity(model, CPU)
    model.mean = (0.5, 0.5, 0.5)
    assert encoder_identity(model, CPU) != first
    copy = tmp_path / "nearest.py"
    copy.write_bytes(Path(sys.modules["baselines.nearest"].__file__).read_bytes() + b"\n")
    monkeypatch.setattr(sys.modules["baselines.nearest"], "__file__", str(copy))
    assert encoder_identity(nearest(), CPU)["code"] != first["code"]


def test_an_image_that_changes_while_it_is_encoded_is_an_error(tmp_path):
    model, rows = nearest(), rows_of(tmp_path / "images")
    encoded = EncodedPairs(model, pairs_of(model, rows), "forward", CPU, features="keep")
    with open(rows[0]["source"].filename, "ab") as file:
        file.write(b"x")
    with pytest.raises(InputError, match="was changed while it was encoded"):
        list(encoded.batches([[0]]))


def test_memory_holds_no_more_than_the_limit_and_the_rest_comes_back_as_it_was():
    images = {f"{number}": Encoded([torch.randn(1, 50), torch.randn(1, 3, 4)], (number, 1)) for number in range(20)}
    limit = 5 * images["0"].nbytes
    store = FeatureStore(limit)
    for key, encoded in images.items():
        store.put(key, encoded)
        assert sum(each.nbytes for each in store._held.values()) == store._bytes <= limit
    for key, encoded in images.items():
        found = store.get(key)
        assert found.size == encoded.size
        assert all(torch.equal(a, b) for a, b in zip(found.features, encoded.features))
        assert store._bytes <= limit
    store.drop("3")
    assert store.get("3") is None
    assert not list(feature_folder().iterdir())  # the file has no name


def test_where_the_disk_takes_nothing_images_are_encoded_again(tmp_path, cache, capsys):
    model, rows = nearest(), rows_of(tmp_path / "images")
    truth, _ = predicted(model, rows, features="off")
    cache.write_text("no folder")
    found, encoded = predicted(model, rows, features="memory", limit=1)
    assert found.tobytes() == truth.tobytes()
    assert encoded.encodings > IMAGES
    assert capsys.readouterr().err.count("images are encoded again instead") == 1
    with pytest.raises(InputError, match="cannot write here"):
        predicted(model, rows, features="keep")


def test_an_order_of_pairs_keeps_a_share_of_the_images_at_work():
    side, held = 32, 16
    places = sorted(((x, y) for x in range(side) for y in range(side)), key=lambda place: interleaved(*place))

    def misses(order) -> int:
        memory: list[tuple[str, int]] = []
        count = 0
        for place in order:
            for image in zip("st", place):
                if image in memory:
                    memory.remove(image)
                else:
                    count += 1
                memory = [*memory, image][-held:]
        return count

    assert misses(places) < misses(sorted(places)) / 3


def test_a_file_cut_short_is_made_again(tmp_path):
    model, rows = nearest(), rows_of(tmp_path / "images")
    first, _ = predicted(model, rows, features="keep")
    (kept,) = kept_features()
    assert kept.images == IMAGES
    file = next(kept.folder.glob("*.safetensors"))
    file.write_bytes(file.read_bytes()[:-1])
    again, encoded = predicted(model, rows, features="keep")
    assert encoded.encodings == 1
    assert again.tobytes() == first.tobytes()


PROGRAM = """
import sys, torch
from pathlib import Path
from tests.benchmark.running import test_features as t
rows = t.rows_of(Path(sys.argv[1]))
while True:
    found, encoded = t.predicted(t.nearest(), rows, features="keep", limit=1)
    print(encoded.encodings, hash(found.tobytes()), flush=True)
    if len(sys.argv) > 2:
        break
"""


def program(*arguments: object, cache: Path) -> subprocess.Popen[str]:
    environment = {
        **os.environ,
        "PYTHONPATH": str(ROOT),
        "SC_CACHE": str(cache),
        "OMP_NUM_THREADS": "1",
        "PYTHONHASHSEED": "0",
    }
    return subprocess.Popen(
        [sys.executable, "-c", PROGRAM, *map(str, arguments)], env=environment, stdout=subprocess.PIPE, text=True
    )


def test_several_processes_fill_one_folder(tmp_path, cache):
    images = tmp_path / "images"
    rows_of(images)
    running = [program(images, "once", cache=cache) for _ in range(3)]
    printed = [each.communicate(timeout=PATIENCE)[0].split() for each in running]
    assert [each.returncode for each in running] == [0, 0, 0]
    assert len({found for _, found in printed}) == 1
    (kept,) = kept_features()
    assert kept.images == IMAGES
    assert predicted(nearest(), rows_of(images), features="keep")[1].encodings == 0


def test_a_process_that_is_killed_leaves_whole_files(tmp_path, cache):
    images = tmp_path / "images"
    rows = rows_of(images)
    truth, _ = predicted(nearest(), rows, features="off")
    process = program(images, cache=cache)
    while process.poll() is None and not list(cache.rglob("*.safetensors")):
        time.sleep(0.001)
    os.kill(process.pid, signal.SIGKILL)
    process.communicate()
    (kept,) = kept_features()
    found, encoded = predicted(nearest(), rows, features="keep")
    assert encoded.encodings == IMAGES - kept.images
    assert found.tobytes() == truth.tobytes()


@pytest.mark.parametrize(
    "make",
    [
        lambda: NCNet("resnet10t", [3], 64, pretrained=False),
        lambda: DHPF("resnet10t", size=64, stride=8, pretrained=False),
    ],
)
def test_a_training_on_a_frozen_backbone_encodes_each_image_once(make, tmp_path):
    """Its losses are those of a training that encodes every pair, as far as batches are rounded alike."""
    rows, losses = rows_of(tmp_path / "images"), {}
    recipe = Recipe(lr=1e-3, backbone_lr=0.0, batch=6, epochs=2, augmentation="none", backbone_batchnorm="eval")
    for features in ("off", "memory"):
        torch.manual_seed(0)
        model = make()
        counted: list[int] = []
        model.backbone.register_forward_hook(lambda _, given, found, counted=counted: counted.append(len(given[0])))
        folder = RunFolder(tmp_path / features)
        training = MatcherTraining(
            model,
            recipe,
            pairs_of(model, rows),
            folder,
            Accelerator(cpu=True),
            validate=None,
            seed=0,
            features=features,
        )
        training.run()
        assert sum(counted) == (IMAGES if features == "memory" else 2 * 2 * len(rows))
        lines = [json.loads(line) for line in folder.log.read_text().splitlines()]
        losses[features] = [line["loss"] for line in lines if "loss" in line]
    assert losses["off"]
    np.testing.assert_allclose(losses["memory"], losses["off"], rtol=0.05, atol=0.02)


def test_images_that_are_changed_or_a_backbone_that_is_trained_are_encoded_at_every_step(tmp_path):
    rows, model = rows_of(tmp_path / "images"), NCNet("resnet10t", [3], 64, pretrained=False)
    plain = Recipe(lr=1e-3, backbone_lr=0.0, batch=6, epochs=1, augmentation="none", backbone_batchnorm="eval")
    for recipe, once in (
        (plain, True),
        (replace(plain, augmentation="cats"), False),
        (replace(plain, backbone_batchnorm="train"), False),
    ):
        pairs = PairDataset(rows, model.size, model.mean, model.std, augment=recipe.augmentation)
        folder = RunFolder(tmp_path / "run")
        training = MatcherTraining(model, recipe, pairs, folder, Accelerator(cpu=True), validate=None, seed=0)
        assert training._encodes_once() == once
    model.backbone.requires_grad_(True)
    assert not MatcherTraining(
        model, replace(plain, backbone_lr=1e-5), pairs, folder, Accelerator(cpu=True), validate=None, seed=0
    )._encodes_once()


def test_what_is_kept_is_listed_and_pruned(scbench, tmp_path):
    rows = rows_of(tmp_path / "images")
    predicted(nearest(), rows, features="keep")
    predicted(nearest(size=96), rows, features="keep")
    code, printed, _ = scbench("features", "list", "--json")
    listed = json.loads(printed)
    assert code == 0
    assert [(each["model"], each["images"]) for each in listed] == [("nearest", IMAGES)] * 2
    assert {each["px"] for each in listed} == {64, 96}
    assert scbench("features", "prune", "--days", "1")[0] == 2
    assert scbench("features", "prune", listed[0]["id"][:8], "--dry-run")[0] == 0
    assert len(list(kept_features())) == 2
    assert scbench("features", "prune", listed[0]["id"])[0] == 0
    assert [each.folder.name for each in kept_features()] == [listed[1]["id"]]
    assert scbench("features", "prune")[0] == 2
    assert scbench("features", "prune", "--all")[0] == 0
    assert "nothing is kept" in scbench("features", "list")[1]


def test_a_mode_that_there_is_none_of_is_one_line(scbench):
    code, _, told = scbench("run", "nearest", "--eval", "toy", "--features", "disk")
    assert (code, told.count("\n")) == (2, 1)
    assert "keep, memory, off" in told
