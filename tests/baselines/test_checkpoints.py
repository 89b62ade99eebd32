"""Checkpoints: the authors' and ours load strictly; anything else is one clear line, and no code runs."""

from __future__ import annotations

import argparse
import json
import pickle
import shutil
from pathlib import Path

import huggingface_hub
import numpy as np
import pytest
import timm
import torch
from safetensors.torch import save_file

from baselines import registry
from baselines.cats import PF_PASCAL_LAYERS, SPAIR_LAYERS, CATs, key_of
from baselines.checkpoints import load_checkpoint, load_weights, recorded_name, weights_file
from baselines.matcher import Matcher
from sc_imagenet.backbones.pretrained import create_network
from sc_imagenet.core.errors import InputError
from sc_imagenet.core.files import sha256_of
from sc_imagenet.data.tensor_files import read_state
from tests.parity.references import published_shapes

SMALL = {"backbone": "resnet10t", "pretrained": False, "size": 64, "projection": 16, "heads": 2}


def published(name: str) -> dict[str, torch.Tensor]:
    """A published state dict; each tensor holds one value, so that files stay small."""
    shapes = published_shapes(name)
    return {key: torch.tensor(float(n)).expand(shape) for n, (key, shape) in enumerate(shapes.items())}


def contiguous(model: torch.nn.Module) -> dict[str, torch.Tensor]:
    return {key: value.contiguous() for key, value in model.state_dict().items()}


def saved(path: Path, content: object) -> Path:
    torch.save(content, path)
    return path


@pytest.mark.parametrize(
    ("name", "layers", "parameters", "keys"),
    [("cats_spair", SPAIR_LAYERS, 49_173_320, 674), ("cats_pfpascal", PF_PASCAL_LAYERS, 49_060_552, 672)],
)
def test_published_checkpoints_load_strictly(tmp_path, name, layers, parameters, keys):
    state = published(name)
    wrapped = {
        "epoch": 11,
        "state_dict": {f"module.{key}": value for key, value in state.items()},
        "optimizer": {"state": {0: {"step": 3}}, "param_groups": [{"lr": 3e-5}]},
        "best_loss": np.float64(51.3),
    }
    path = saved(tmp_path / "model_best.pth", wrapped)
    model, digest = load_checkpoint("cats", path)
    assert model.backbone.layers == layers
    assert sum(parameter.numel() for parameter in model.parameters()) == parameters
    assert len(model.state_dict()) == keys == len(state)
    assert digest == sha256_of(path)
    assert not model.training
    for key, value in state.items():
        assert torch.equal(model.state_dict()[key_of(key)], value.to(model.state_dict()[key_of(key)].dtype)), key


@pytest.mark.parametrize(
    ("name", "context", "width", "parameters"),
    [("scorrsan_spair", 7, 2048, 46_705_832), ("scorrsan_pfpascal", 13, 1024, 45_652_136)],
)
def test_one_published_network_of_scorrsan_loads_strictly(tmp_path, name, context, width, parameters):
    state = published(name)
    path = saved(tmp_path / "model_best.pth", {"epoch": 3, "state_dict": state, "best_model_type": "teacher"})
    model, _ = load_checkpoint("scorrsan", path, {"pseudo_start": 9})
    assert model.pseudo_start == 9
    assert sum(parameter.numel() for parameter in model.parameters()) == parameters
    assert len(model.state_dict()) == len(state) == 630
    assert model.heads[0].encoder.conv.weight.shape == (width, 1024 + 4 * context, 1, 1)
    assert torch.equal(model.heads[0].x_normal, state["x_normal"])
    del state["SCEs.0.conv.bias"]
    with pytest.raises(InputError, match=r"1 of 630 weights missing \(heads\.0\.encoder\.conv\.bias\)"):
        load_weights(model, saved(tmp_path / "less.pth", state))
    del state["x_normal"]
    with pytest.raises(InputError, match=r"are no weights of SCorrSAN: there is no heads\.0\.x_normal"):
        load_checkpoint("scorrsan", saved(tmp_path / "none.pth", state))


def test_semimatch_starts_from_weights_of_cats_but_cats_not_from_its_own_run(tmp_path, small):
    model, _ = load_checkpoint("semimatch", saved(tmp_path / "cats.pth", published("cats_pfpascal")), {"keyout": 0.5})
    assert (registry.name_of(model), model.backbone.layers, model.keyout) == ("semimatch", PF_PASCAL_LAYERS, 0.5)
    for trained in ("cats", "semimatch"):
        run = tmp_path / "runs" / trained
        (run / "checkpoints").mkdir(parents=True)
        (run / "config.json").write_text(json.dumps({"model": trained, "arguments": SMALL}))
        save_file(contiguous(small), run / "checkpoints/best.safetensors")
    assert registry.name_of(load_checkpoint("semimatch", tmp_path / "runs/cats/checkpoints/best.safetensors")[0])
    with pytest.raises(InputError, match="holds weights of semimatch, not of cats"):
        load_checkpoint("cats", tmp_path / "runs/semimatch/checkpoints/best.safetensors")


def test_a_bare_state_without_classifier_and_counters_loads(tmp_path):
    state = {
        key: value
        for key, value in published("cats_spair").items()
        if ".fc." not in key and "num_batches_tracked" not in key
    }
    with torch.device("meta"):
        model = CATs(pretrained=False)
    model = model.to_empty(device="cpu")
    load_weights(model, saved(tmp_path / "bare.pth", state))
    assert torch.equal(model.x_normal, state["x_normal"])
    del state["decoder.proj.bias"]
    with pytest.raises(InputError, match=r"1 of 674 weights missing \(decoder\.proj\.bias\)"):
        load_weights(model, saved(tmp_path / "less.pth", state))


@pytest.fixture
def small():
    torch.manual_seed(0)
    return CATs(**SMALL).eval()


def test_our_own_formats_load(tmp_path, small):
    small.save_pretrained(tmp_path / "folder")
    run = tmp_path / "runs/cats/0"
    (run / "checkpoints").mkdir(parents=True)
    (run / "config.json").write_text(json.dumps({"model": "cats", "arguments": SMALL}))
    save_file(contiguous(small), run / "checkpoints/best.safetensors")
    for path in (tmp_path / "folder", tmp_path / "folder/model.safetensors", run, run / "checkpoints/best.safetensors"):
        model, digest = load_checkpoint("cats", path)
        assert all(torch.equal(value, small.state_dict()[key]) for key, value in model.state_dict().items())
        assert len(digest) == 64
    with pytest.raises(InputError, match=r"holds weights of cats, not of nearest\. Name the model cats"):
        load_checkpoint("nearest", run / "checkpoints/best.safetensors")
    with pytest.raises(InputError, match=r"without model\.safetensors. Nor is it a finished run"):
        load_checkpoint("cats", tmp_path / "runs")


def in_the_cache(cache: Path, repo: str, folder: Path) -> Path:
    """A folder as the Hub's client keeps a repository that it fetched."""
    home = cache / f"models--{repo.replace('/', '--')}"
    (home / "refs").mkdir(parents=True)
    (home / "refs/main").write_text("c0ffee")
    return shutil.copytree(folder, home / "snapshots/c0ffee")


def test_a_repository_is_loaded_by_its_name_and_recorded_by_it(tmp_path, monkeypatch, hub_offline, small):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    small.save_pretrained("folder")
    place = in_the_cache(tmp_path / "hub", "me/my-cats", Path("folder"))
    assert weights_file("me/my-cats") == place / "model.safetensors"
    model, digest = load_checkpoint("cats", "me/my-cats")
    assert digest == sha256_of("folder/model.safetensors")
    assert all(torch.equal(value, small.state_dict()[key]) for key, value in model.state_dict().items())
    assert [recorded_name(name) for name in ("me/my-cats", "folder")] == ["me/my-cats", "folder"]


@pytest.mark.parametrize(
    ("name", "line"),
    [
        ("me/unheard-of", r"the Hub says no \(HF_HUB_OFFLINE is set\). Unset it. There is no folder of this name here"),
        ("runs/best.pth", "no such file of weights"),
        ("none", "no such folder, and no repository OWNER/NAME"),
        ("a b/c", "is not the name of a repository"),
    ],
)
def test_a_name_that_cannot_be_had_is_one_line(name, line, tmp_path, monkeypatch, hub_offline):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    with pytest.raises(InputError, match=line) as caught:
        load_checkpoint("cats", name)
    assert str(caught.value).startswith(name)
    assert "\n" not in str(caught.value)


def test_weights_without_their_arguments_are_refused(tmp_path, small):
    save_file(contiguous(small), tmp_path / "alone.safetensors")
    with pytest.raises(InputError, match=r"2 layers, the first of 256 channels.*save_pretrained"):
        load_checkpoint("cats", tmp_path / "alone.safetensors")
    assert load_weights(small, tmp_path / "alone.safetensors") == sha256_of(tmp_path / "alone.safetensors")


OPTIMISER = {"state": {0: {"exp_avg": torch.zeros(3)}}, "param_groups": [{"lr": 3e-5}]}


@pytest.mark.parametrize(
    "prefix",
    [
        *("module.", "_orig_mod.", "model.", "net."),
        *("module._orig_mod.", "_orig_mod.module.", "model._orig_mod.", "model.net.module."),
    ],
)
def test_what_wrappers_put_before_every_key_is_dropped(tmp_path, small, prefix):
    """From the authors' files, ours, and files of backbone weights alike."""
    theirs = {f"{prefix}{key}": value for key, value in published("cats_spair").items()}
    assert load_checkpoint("cats", saved(tmp_path / "theirs.ckpt", {"epoch": 3, "state_dict": theirs}))[0].size == 256
    ours = {f"{prefix}{key}": value for key, value in contiguous(small).items()}
    small.save_pretrained(tmp_path / "folder")
    save_file(ours, tmp_path / "folder/model.safetensors")
    for model in (load_checkpoint("cats", tmp_path / "folder")[0], CATs.from_pretrained(tmp_path / "folder")):
        assert all(torch.equal(value, small.state_dict()[key]) for key, value in model.state_dict().items())
    net = timm.create_model("resnet10t")
    file = saved(tmp_path / "net.pth", {f"{prefix}{key}": value for key, value in net.state_dict().items()})
    again = create_network("resnet10t", str(file), 64)
    assert all(torch.equal(value, net.state_dict()[key]) for key, value in again.state_dict().items())


def test_a_part_that_was_compiled_and_a_running_mean_of_torch_load(tmp_path, small):
    state = contiguous(small)
    compiled = {key.replace("backbone.", "backbone._orig_mod.", 1): value for key, value in state.items()}
    assert any("_orig_mod" in key for key in compiled)
    load_weights(small, saved(tmp_path / "part.pth", compiled))
    averaged = torch.optim.swa_utils.AveragedModel(small).state_dict()
    assert "n_averaged" in averaged
    load_weights(small, saved(tmp_path / "mean.pth", averaged))
    with pytest.raises(InputError, match="holds a weight twice, wrapped and not"):
        load_weights(small, saved(tmp_path / "twice.pth", {**state, **compiled}))


@pytest.mark.parametrize(
    "wrapped",
    [
        lambda state: {"state_dict": state},
        lambda state: {"model_state_dict": state},
        lambda state: {"model": state},
        lambda state: {"model": {"state_dict": state}},
        lambda state: {"network": state},
    ],
)
def test_weights_beside_the_state_of_an_optimiser_are_found(tmp_path, small, wrapped):
    content = {"epoch": 3, **wrapped(contiguous(small)), "optimizer": OPTIMISER, "optimizer_states": [OPTIMISER]}
    load_weights(small, saved(tmp_path / "a.ckpt", content))


def test_of_weights_and_a_running_mean_the_weights_are_taken_and_it_is_said(tmp_path, small, caplog):
    state = contiguous(small)
    mean = {key: torch.zeros_like(value) for key, value in state.items()}
    lightning = {**{f"model.{key}": value for key, value in state.items()}, "ema_model.n_averaged": torch.tensor(3)}
    for content, line in (
        ({"model": state, "model_ema": mean}, "'model' are taken, not model_ema"),
        ({"state_dict_ema": mean, "state_dict": state}, "'state_dict' are taken, not state_dict_ema"),
        (
            {**lightning, **{f"ema_model.module.{key}": value for key, value in mean.items()}},
            "'model' are taken, not ema_model",
        ),
    ):
        caplog.clear()
        path = saved(tmp_path / "both.pth", content)
        found = read_state(path)
        assert all(torch.equal(found[key], value) for key, value in state.items())
        assert [record.getMessage() for record in caplog.records] == [f"{path}: of the weights it holds, {line}"]
    with pytest.raises(InputError, match=r"holds several sets of weights: first, second\. Save the one wanted alone"):
        read_state(saved(tmp_path / "two.pth", {"first": state, "second": state}))
    endless: dict[str, object] = {}
    endless["state_dict"] = endless
    with pytest.raises(InputError, match="holds no weights: state_dict are not tensors"):
        read_state(saved(tmp_path / "endless.pth", endless))


def test_what_only_some_keys_carry_is_no_wrapper(tmp_path, small):
    state = {f"model.{key}": value for key, value in contiguous(small).items()}
    with pytest.raises(InputError, match=r"unknown \(model\.x_normal.* and \d+ more\)"):
        load_weights(small, saved(tmp_path / "a.pth", {**state, "criterion.weight": torch.zeros(3)}))


class Inner(Matcher):
    """All of its weights lie in ``net``, and some of those in a ``net`` again."""

    def __init__(self) -> None:
        super().__init__()
        self.size = 64
        self.net = torch.nn.ModuleDict({"net": torch.nn.Linear(2, 2), "head": torch.nn.Linear(2, 1)})


def test_a_model_whose_weights_all_lie_in_its_net_saves_and_loads(tmp_path):
    model = Inner()
    model.save_pretrained(tmp_path)
    again = Inner.from_pretrained(tmp_path)
    assert all(torch.equal(value, model.state_dict()[key]) for key, value in again.state_dict().items())


def change(state, kind):
    if kind == "missing":
        return {key: value for key, value in state.items() if not key.startswith("proj.")}
    if kind == "extra":
        return {**state, "aligner.weight": torch.zeros(3)}
    if kind == "shape":
        return {**state, "x_normal": torch.zeros(16)}
    return {f"other.{key}": value for key, value in state.items()}


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        ("missing", r"4 of \d+ weights missing \(proj\.0\.weight, proj\.0\.bias, proj\.1\.weight and 1 more\)"),
        ("extra", r"1 unknown \(aligner\.weight\)"),
        ("shape", r"1 of another shape \(x_normal is 16, not 4\)"),
        ("other", r"unknown \(other\.x_normal"),
    ],
)
def test_what_does_not_fit_is_named_and_the_model_is_unchanged(tmp_path, small, kind, message):
    before = {key: value.clone() for key, value in small.state_dict().items()}
    path = saved(tmp_path / "w.pth", {key: value + 1 for key, value in change(small.state_dict(), kind).items()})
    with pytest.raises(InputError, match=r"w\.pth: does not fit cats with backbone resnet10t: .*" + message):
        load_weights(small, path)
    assert all(torch.equal(value, before[key]) for key, value in small.state_dict().items())


def test_weights_of_a_training_that_diverged_are_refused(tmp_path, small):
    state = contiguous(small)
    state["decoder.proj.bias"][0] = torch.nan
    for file in (saved(tmp_path / "a.pth", state), tmp_path / "a.safetensors"):
        save_file(state, tmp_path / "a.safetensors")
        with pytest.raises(
            InputError, match=r"a\.\w+: holds weights that are not numbers \(NaN\): decoder\.proj\.bias\."
        ):
            load_weights(small, file)


def test_another_models_file_is_named(tmp_path, small):
    nearest = registry.create("nearest", backbone="resnet10t", pretrained=False, size=64)
    path = saved(tmp_path / "nearest.pth", nearest.state_dict())
    with pytest.raises(InputError, match="are no weights of CATs: there is no x_normal"):
        load_checkpoint("cats", path)
    with pytest.raises(InputError, match="has no config"):
        load_checkpoint("nearest", path)


class Attack:
    """Unpickled the usual way, this would write a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self):
        return (Path.touch, (self.path,))


@pytest.mark.parametrize("writer", ["pickle", "torch"])
def test_a_pickle_with_code_is_refused_and_nothing_of_it_runs(tmp_path, writer):
    marker, path = tmp_path / "executed", tmp_path / "model_best.pth"
    content = {"state_dict": {"x_normal": torch.zeros(16)}, "extra": Attack(marker)}
    if writer == "pickle":
        path.write_bytes(pickle.dumps(content["extra"]))
    else:
        torch.save(content, path)
    with pytest.raises(InputError, match=r"model_best\.pth: "):
        load_checkpoint("cats", path)
    assert not marker.exists()


def test_the_arguments_file_beside_a_checkpoint_is_no_checkpoint(tmp_path):
    (tmp_path / "args.pkl").write_bytes(pickle.dumps(argparse.Namespace(depth=1, hyperpixel="[0, 8]")))
    with pytest.raises(
        InputError, match=r"args\.pkl: .*nothing in it was executed|args\.pkl: is not a file of weights"
    ):
        load_checkpoint("cats", tmp_path / "args.pkl")


def test_broken_files_are_one_line_each(tmp_path, small):
    whole = saved(tmp_path / "whole.pth", small.state_dict()).read_bytes()
    small.save_pretrained(tmp_path / "folder")
    tensors = (tmp_path / "folder/model.safetensors").read_bytes()
    cases = {
        "half.pth": whole[: len(whole) // 2],
        "few.pth": whole[:10],
        "empty.pth": b"",
        "text.pth": b"<html>quota exceeded</html>",
        "zeros.pth": bytes(3000),
        "half.safetensors": tensors[: len(tensors) // 2],
        "text.safetensors": b"<html>quota exceeded</html>",
    }
    for name, content in cases.items():
        (tmp_path / name).write_bytes(content)
        with pytest.raises(InputError) as caught:
            load_weights(small, tmp_path / name)
        assert "\n" not in str(caught.value)
        assert str(caught.value).startswith(str(tmp_path / name))
    for path in (tmp_path / "none.pth", tmp_path):
        with pytest.raises(InputError, match=r"no such file|without model"):
            load_weights(small, path)
    for content in ([1, 2], {"epoch": 3}, {"state_dict": {"a": "b"}}, {}):
        with pytest.raises(InputError, match="holds no weights"):
            read_state(saved(tmp_path / "values.pth", content))


def test_a_folder_with_a_broken_config_is_one_line(tmp_path, small):
    small.save_pretrained(tmp_path)
    (tmp_path / "config.json").write_text('{"backbone": "resnet10t", "unheard_of": 1}')
    with pytest.raises(InputError, match="unheard_of"):
        load_checkpoint("cats", tmp_path)
    (tmp_path / "config.json").write_text("{")
    with pytest.raises(InputError, match=r"config\.json: is not valid JSON"):
        load_checkpoint("cats", tmp_path)
