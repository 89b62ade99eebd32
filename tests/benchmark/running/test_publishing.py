"""``scbench push``: what would be uploaded of a run or a data set."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import huggingface_hub
import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from huggingface_hub import ModelCard
from safetensors.torch import load_file

from baselines import registry
from benchmark.commands.push import push
from benchmark.running.arguments import RunOptions, make_accelerator
from benchmark.running.data import NamedPairs
from benchmark.running.evaluate import predict_rows
from benchmark.running.publish import prepare, weights_of
from benchmark.running.run import Run
from benchmark.scoring.result import read_result
from sc_imagenet.core.errors import InputError
from sc_imagenet.data.pairs import PairDataset
from tests import PATIENCE
from tests.benchmark.running.test_data import generated
from tests.benchmark.runs import make_run

ROOT = Path(__file__).parents[3]


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> Path:
    """Two steps of CATs on four pairs, scored on six."""
    options = RunOptions(
        "cats",
        finetune="toy",
        evaluate=("toy",),
        preset="tiny",
        settings={"recipe.batch": "2", "recipe.model.pretrained": "false"},
        limit=6,
        max_steps=2,
        runs=tmp_path_factory.mktemp("runs"),
    )
    run = Run(options, make_accelerator(options))
    run.execute()
    return run.folder.path


def scbench(*arguments: object, **variables: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT), **variables}
    words = [sys.executable, "-m", "benchmark", *map(str, arguments)]
    return subprocess.run(words, env=environment, capture_output=True, text=True, timeout=PATIENCE)


def test_the_model_of_a_run_predicts_what_the_run_did(run, tmp_path):
    prepared = prepare(str(run), tmp_path / "out", "me/cats-toy", None, None)
    assert (prepared.kind, sorted(prepared.files)) == ("model", ["README.md", "config.json", "model.safetensors"])
    model = registry.from_pretrained(tmp_path / "out")
    state = load_file(run / "checkpoints/best.safetensors")
    assert all(torch.equal(value, state[key]) for key, value in model.state_dict().items())
    stored = pq.read_table(run / "predictions/toy-test.parquet")["predicted_points"].to_pylist()
    rows = PairDataset(NamedPairs.parse("toy", "test", None).open(6), model.size, model.mean, model.std)
    with torch.inference_mode():
        again = list(predict_rows(model, rows, range(6), model.direction, torch.device("cpu")))
    assert [np.asarray(row["predicted_points"], np.float32).tolist() for row in again] == stored


def test_the_card_of_a_run_tells_its_training_and_scores(run, tmp_path):
    result = read_result(run)
    prepare(str(run), tmp_path / "out", "me/cats-toy", None, "apache-2.0")
    card = ModelCard.load(tmp_path / "out/README.md")
    assert (card.data.license, card.data.datasets) == ("apache-2.0", ["toy"])
    scores = {entry.metric_name: entry.metric_value for entry in card.data.eval_results}
    measured = {name: score["value"] for name, score in result.metrics["toy"].items()}
    assert len(scores) == 3
    assert all(scores[name] == pytest.approx(measured[name], abs=0.005) for name in scores)
    config = json.loads((run / "config.json").read_text())
    for told in (config["stages"][0]["manifest_sha256"], "batch 2", "--limit 6", "--max-steps 2", "Seed 0"):
        assert told in card.text


def test_a_run_of_another_direction_shares_the_weights_of_its_training(run, tmp_path):
    runs = tmp_path / "cats"
    shutil.copytree(run, runs / run.name)
    shutil.copytree(run, runs / "other")
    shutil.rmtree(runs / "other/checkpoints")
    assert weights_of(runs / "other", read_result(runs / "other")) == runs / run.name / "checkpoints/best.safetensors"
    shutil.rmtree(runs / run.name / "checkpoints")
    with pytest.raises(InputError, match=r"the weights of this run are gone\. Run it again"):
        prepare(str(runs / "other"), tmp_path / "out", "me/x", None, None)


def test_what_cannot_be_published_is_one_line(tmp_path):
    untrained = make_run(tmp_path, "r1", model="nearest", title="Nearest neighbour", finetune=None, draws=2)
    half = tmp_path / "cats/half"
    half.mkdir(parents=True)
    (half / "config.json").write_text("{}")
    full = tmp_path / "full"
    full.mkdir()
    (full / "mine.txt").write_text("mine")
    for what, out, message in (
        (untrained.folder, tmp_path / "a", "was not trained, so there are no weights"),
        (half, tmp_path / "b", r"has no result\.json, so it is not a finished run"),
        ("no-such-set", tmp_path / "c", "unknown data set 'no-such-set'"),
        (untrained.folder, full, "is not an empty folder"),
    ):
        with pytest.raises(InputError, match=message) as raised:
            prepare(str(what), out, "me/x", None, None)
        assert "\n" not in str(raised.value)
    assert (full / "mine.txt").read_text() == "mine"
    unset = dict.fromkeys(("private", "licence", "data_root"))
    with pytest.raises(InputError, match=r"my own/set: is not the name of a repository\. Give OWNER/NAME"):
        push("toy", "my own/set", out=tmp_path / "d", dry_run=True, as_json=False, **unset)
    assert not (tmp_path / "d").exists()


def test_a_dry_run_shows_files_and_card_and_uploads_nothing(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    unset = dict.fromkeys(("private", "licence", "data_root"))
    out = tmp_path / "out"
    push(str(generated(tmp_path / "my-set")), "me/my-set", out=out, dry_run=True, as_json=False, **unset)
    said = capsys.readouterr().out
    assert "pairs/train-00000-of-00006.parquet" in said
    assert (out / "README.md").read_text() in said
    assert "nothing was uploaded" in said
    assert (out / "pairs/train.json").is_file()


def test_without_the_hub_a_push_ends_in_one_line_and_keeps_the_folder(run, tmp_path):
    done = scbench("push", run, "me/cats-toy", "--out", tmp_path / "out", HF_HUB_OFFLINE="1")
    assert (done.returncode, done.stdout) == (2, "")
    [line] = done.stderr.strip().splitlines()
    assert line.startswith("error: me/cats-toy: the Hub says no (HF_HUB_OFFLINE is set)")
    assert (tmp_path / "out/model.safetensors").is_file()
