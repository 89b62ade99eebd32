"""Models as folders of the Hub: saved, loaded and described; what the Hub's client raises is one line."""

from __future__ import annotations

import json

import huggingface_hub
import pytest
import torch
from huggingface_hub import ModelCard

from baselines import registry
from baselines.cats import CATs
from baselines.model_card import Score, Trained
from baselines.vat import VAT
from benchmark.running.check import warped_pairs
from sc_imagenet.core.errors import InputError
from sc_imagenet.core.hub import upload
from tests.baselines.test_every_model import NAMES, tiny


def carried(model) -> torch.Tensor:
    batch = warped_pairs(model, 1, 5, torch.Generator().manual_seed(0))
    with torch.no_grad():
        return model.eval().transfer(model(batch["source"], batch["target"]), batch["source_points"])


@pytest.mark.parametrize("name", NAMES)
def test_saved_and_loaded_a_model_carries_points_to_the_same_places(name, tmp_path):
    model = tiny(name)
    model.save_pretrained(tmp_path / "mine")
    assert sorted(path.name for path in (tmp_path / "mine").iterdir()) == [
        "README.md",
        "config.json",
        "model.safetensors",
    ]
    assert json.loads((tmp_path / "mine/config.json").read_text())["model"] == name
    expected = carried(model)
    for again in (type(model).from_pretrained(tmp_path / "mine"), registry.from_pretrained(str(tmp_path / "mine"))):
        assert type(again) is type(model)
        assert not again.training
        assert again.arguments == model.arguments
        assert torch.equal(carried(again), expected)


def test_the_card_is_the_hub_s_and_tells_what_is_known(tmp_path):
    recipe = {"lr": 0.001, "batch": 8, "model": {}}
    about = {
        "licence": "cc-by-4.0",
        "trainings": [Trained("sc-imagenet", "train", "a" * 64, recipe), Trained("my-set", "train", "b" * 64, recipe)],
        "scores": [Score("pf-willow", "test", "pck@0.1/bbox-kp/image", 57.66, 55.8, 59.7, 540)],
        "departs": ["--limit 20"],
        "seed": 3,
    }
    tiny("cats").save_pretrained(tmp_path, repo_id="me/mine", model_card_kwargs=about)
    card = ModelCard.load(tmp_path / "README.md")
    assert (card.data.license, card.data.library_name) == ("cc-by-4.0", "sc-imagenet")
    assert card.data.pipeline_tag == "keypoint-detection"
    assert card.data.datasets == ["sc-imagenet", "my-set"]
    [result] = card.data.eval_results
    assert (result.dataset_type, result.metric_name, result.metric_value) == (
        "pf-willow",
        "pck@0.1/bbox-kp/image",
        57.66,
    )
    for told in ("a" * 64, "b" * 64, "lr 0.001", "57.7 | 55.8 to 59.7 | 540", "--limit 20", "Seed 3", "3,417,648"):
        assert told in card.text
    assert 'load_model("me/mine")' in card.text


def test_the_card_of_unknown_weights_claims_nothing(tmp_path):
    tiny("nearest").save_pretrained(tmp_path / "mine")
    text = (tmp_path / "mine/README.md").read_text()
    assert "What these weights were trained on was not told." in text
    assert "Not measured." in text
    assert ModelCard(text).data.license == "unknown"
    assert str(tmp_path) not in text


def test_what_the_card_says_of_its_use_runs(tmp_path, monkeypatch, capsys):
    from PIL import Image

    monkeypatch.chdir(tmp_path)
    tiny("nearest").save_pretrained("mine")
    for name in ("a.jpg", "b.jpg"):
        Image.linear_gradient("L").convert("RGB").save(name)
    code = (tmp_path / "mine/README.md").read_text().split("```python")[1].split("```")[0]
    exec(compile(code, "README.md", "exec"), {})
    assert "[" in capsys.readouterr().out


def test_a_card_that_was_written_by_hand_stays(tmp_path):
    (tmp_path / "README.md").write_text("mine")
    tiny("nearest").save_pretrained(tmp_path)
    assert (tmp_path / "README.md").read_text() == "mine"


def test_folders_that_hold_no_model_of_ours_are_one_line(tmp_path):
    folder = tmp_path / "cats"
    tiny("cats").save_pretrained(folder)
    config, weights = folder / "config.json", folder / "model.safetensors"

    def refused(load, pattern):
        with pytest.raises(InputError, match=pattern) as raised:
            load(folder)
        assert "\n" not in str(raised.value)

    refused(VAT.from_pretrained, "holds cats, not VAT")
    whole = weights.read_bytes()
    weights.write_bytes(whole[:1000])
    refused(CATs.from_pretrained, "model.safetensors")
    weights.unlink()
    refused(registry.from_pretrained, r"no such file of weights")
    weights.write_bytes(whole)
    arguments = json.loads(config.read_text())
    config.write_text(json.dumps({**arguments, "size": 256, "projection": 32}))
    refused(registry.from_pretrained, r"does not fit CATs: .*of another shape")
    config.write_text(json.dumps({**arguments, "depht": 2}))
    refused(registry.from_pretrained, "CATs takes no argument 'depht'")
    config.write_text(json.dumps({**arguments, "model": "cat"}))
    refused(registry.from_pretrained, "unknown model 'cat'. Did you mean 'cats'")
    config.write_text("{")
    refused(registry.from_pretrained, "not valid JSON")
    config.write_text(json.dumps({key: value for key, value in arguments.items() if key != "model"}))
    refused(registry.from_pretrained, "does not say which model")
    assert CATs.from_pretrained(folder).size == 160
    config.unlink()
    refused(CATs.from_pretrained, r"config.json: no such file")


@pytest.mark.parametrize("name", ["no-such-folder", "/no/such", "a/b/c", "./mine"])
def test_a_name_that_is_neither_a_folder_nor_a_repository(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match="no such folder, and no repository OWNER/NAME"):
        registry.from_pretrained(name)


def test_without_the_hub_the_reason_is_one_line(tmp_path, monkeypatch):
    model = tiny("nearest")
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    for ask in (lambda: registry.from_pretrained("me/mine"), lambda: model.push_to_hub("me/mine")):
        with pytest.raises(
            InputError, match=r"me/mine: the Hub says no \(HF_HUB_OFFLINE is set\). Unset it."
        ) as raised:
            ask()
        assert "\n" not in str(raised.value)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", False)
    # The client made offline is kept; the function that drops it was renamed in version 1.
    (getattr(huggingface_hub.utils, "reset_sessions", None) or huggingface_hub.close_session)()
    monkeypatch.setattr(huggingface_hub.constants, "ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.setenv("HF_TOKEN", "none")
    with pytest.raises(InputError, match=r"me/mine: the Hub says no \(.*\)\. Is the network there.*Nothing was lost"):
        upload(tmp_path, "me/mine", "model")
    with pytest.raises(InputError, match=r"is not the name of a repository\. Give OWNER/NAME"):
        upload(tmp_path, "my own/model", "model")
