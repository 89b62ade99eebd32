"""``scbench run`` from the command line: whole runs, killed runs, runs of two processes."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import datasets
import pyarrow.parquet as pq
import pytest
from safetensors.torch import load_file

from benchmark.commands.run import run_and_print
from benchmark.running.arguments import RunOptions
from benchmark.running.run import share_of, trained_on
from benchmark.scoring.prediction_files import read_predictions
from sc_imagenet.core.errors import InputError
from sc_imagenet.core.files import sha256_of
from tests import PATIENCE
from tests.benchmark.command_line import ended
from tests.ports import free_port

ROOT = Path(__file__).parents[3]
RUN = ["run", "cats", "--preset", "tiny", "--limit", "20", "--max-steps", "4", "--set", "recipe.batch=4"]
TRAIN = [*RUN, "--finetune", "toy", "--eval", "toy"]
# Saves after every step, so that a kill finds something to go on from.
SAVING = "import benchmark.running.loop as t; t.SAVE_SECONDS = 0; from benchmark.cli import main; main()"


def scbench(
    *arguments: str, prefix: tuple[str, ...] = ("-m", "benchmark"), folder: Path = ROOT, **options
) -> subprocess.Popen:
    # On a machine without GPUs, accelerate launches several processes with --multi_gpu and this variable.
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT), "ACCELERATE_USE_CPU": "1"}
    return subprocess.Popen(
        [sys.executable, *prefix, *arguments],
        env=environment,
        cwd=folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        **options,
    )


def finish(process: subprocess.Popen) -> tuple[int, str, str]:
    out, err = process.communicate(timeout=PATIENCE)
    return process.returncode, out, err


@pytest.fixture(scope="module")
def whole(tmp_path_factory) -> Path:
    """A run that nothing interrupted."""
    runs = tmp_path_factory.mktemp("whole")
    code, _, err = finish(scbench(*TRAIN, "--runs", str(runs)))
    assert code == 0, err
    return next(runs.glob("cats/*"))


def test_a_run_leaves_what_the_design_says(whole):
    result = json.loads((whole / "result.json").read_text())
    assert (result["model"], result["finetune"], result["preset"]) == ("cats", "toy", "tiny")
    assert result["weights_sha256"] == sha256_of(whole / "checkpoints/best.safetensors")
    assert "--limit 20" in result["changes"]
    assert 0 <= result["metrics"]["toy"]["pck@0.1/bbox-kp/image"]["value"] <= 100
    predictions = read_predictions(whole / "predictions/toy-test.parquet")
    assert len(predictions) == 20
    assert predictions.info.run == whole.name
    assert json.loads((whole / "environment.json").read_text())["versions"]["torch"]


def test_a_second_run_finds_everything_done(whole):
    before = (whole / "checkpoints/best.safetensors").stat().st_mtime_ns
    code, out, err = finish(scbench(*TRAIN, "--runs", str(whole.parents[1])))
    assert code == 0, err
    assert "trained already" in err
    assert "predicted already" in err
    assert "bbox-kp" in out
    assert (whole / "checkpoints/best.safetensors").stat().st_mtime_ns == before


def test_a_command_prints_the_scores_on_what_it_names(tmp_path, capsys):
    """Whatever its run was evaluated on before."""
    settings = {"recipe.model.backbone": "resnet10t", "recipe.model.pretrained": "false", "recipe.model.size": "64"}
    options = RunOptions(model="nearest", preset="tiny", settings=settings, limit=4, runs=tmp_path)
    for data, heading in (("toy:test", "toy test"), ("toy:validation", "toy validation")):
        result = run_and_print(replace(options, evaluate=(data,)))
        out = capsys.readouterr().out
        assert [line.split("   ")[0] for line in out.splitlines() if line.startswith("toy ")] == [heading]
    assert len(result.data) == 2


def test_a_killed_run_ends_with_the_same_bits(whole, tmp_path):
    process = scbench(*TRAIN, "--runs", str(tmp_path), prefix=("-c", SAVING), start_new_session=True)
    resume = tmp_path / "cats" / whole.name / "checkpoints/resume.pt"
    while not resume.exists() and process.poll() is None:
        time.sleep(0.01)
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()
    assert resume.exists()

    code, _, err = finish(scbench(*TRAIN, "--runs", str(tmp_path)))
    assert code == 0, err
    assert "resumed" in err
    folder = resume.parents[1]
    for name in ("best", "last"):
        one, other = (load_file(run / f"checkpoints/{name}.safetensors") for run in (whole, folder))
        assert all(one[key].equal(other[key]) for key in one)
    tables = [pq.read_table(run / "predictions/toy-test.parquet") for run in (whole, folder)]
    assert tables[0].equals(tables[1])
    assert not list(folder.rglob("*.tmp"))


def test_a_terminated_run_ends_and_says_how_to_go_on(whole, tmp_path):
    process = scbench(*TRAIN, "--runs", str(tmp_path), prefix=("-c", SAVING), start_new_session=True)
    resume = tmp_path / "cats" / whole.name / "checkpoints/resume.pt"
    while not resume.exists() and process.poll() is None:
        time.sleep(0.01)
    os.killpg(process.pid, signal.SIGTERM)
    code, _, err = finish(process)
    assert (code, err.splitlines()[-1].split(";")[0]) == (143, "ended by SIGTERM")
    assert "run the same command to go on" in err
    assert "Traceback" not in err


def test_two_processes_predict_every_pair_once(whole, tmp_path):
    launch = ("-m", "accelerate.commands.launch", "--multi_gpu", "--num_processes", "2", "--num_machines", "1")
    launch += (
        "--mixed_precision",
        "no",
        "--dynamo_backend",
        "no",
        "--main_process_port",
        free_port(),
        "-m",
        "benchmark",
    )
    code, _, err = finish(scbench(*TRAIN, "--runs", str(tmp_path), prefix=launch))
    assert code == 0, err
    folder = next(tmp_path.glob("cats/*"))
    one, other = (read_predictions(run / "predictions/toy-test.parquet") for run in (whole, folder))
    assert one.pair_ids.tolist() == other.pair_ids.tolist()
    assert json.loads((folder / "environment.json").read_text())["processes"] == 2


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["run", "cat", "--eval", "toy"], "unknown model 'cat'. Did you mean 'cats'"),
        (["run", "cats", "--eval", "toys"], "unknown data set 'toys'"),
        (["run", "cats", "--eval", "toy:tset"], "unknown split of toy 'tset'"),
        (["run", "cats", "--eval", "toy", "--set", "recipe.lrr=1"], "unknown setting 'recipe.lrr'"),
        (["run", "cats", "--eval", "toy", "--set", "recipe.lr=fast"], "recipe.lr=fast"),
        (["run", "cats", "--eval", "toy", "--set", "recipe.batch=0"], "recipe.batch=0 must be a number of at least 1"),
        (["run", "cats", "--eval", "toy", "--set", "recipe.schedule=x"], "unknown recipe.schedule 'x'"),
        (["run", "nearest", "--eval", "toy", "--set", "recipe.model.size=big"], "size = 'big' is no side of an image"),
        (["run", "nearest", "--eval", "toy", "--resume"], "Runs resume by themselves"),
        (["run", "nearest", "--eval", "tests"], "tests: holds no data set with pairs of 'validation'"),
        (["run", "cats", "--eval", "toy", "--preset", "big"], "unknown preset 'big'"),
        (["run", "cats"], "nothing to do"),
        (["run", "nearest", "--finetune", "toy", "--preset", "tiny"], "nothing to train"),
        (["run", "nearest", "--eval", "toy", "--evall"], "No such option"),
        (["run", "nearest", "--eval", "spair-71k", "--data-root", "/nowhere"], "no such folder"),
    ],
)
def test_a_mistake_is_one_line_and_exit_code_2(arguments, message, tmp_path):
    code, _, err = ended(*arguments, *(["--runs", str(tmp_path)] if arguments[0] == "run" else []))
    assert code == 2
    assert len(err.strip().splitlines()) == 1
    assert err.startswith("error: ")
    assert message in err


def test_weights_say_what_they_were_trained_on_or_nothing(tmp_path):
    weights = tmp_path / "model.safetensors"
    weights.touch()
    assert trained_on(weights) == {}
    (tmp_path / "trained_on.json").write_text('{"name": "filtered-imagenet", "images": 379458}')
    assert trained_on(weights) == {"name": "filtered-imagenet"}
    (tmp_path / "trained_on.json").write_text('{"name": "filtered-imagenet", "training": 3}')
    with pytest.raises(InputError, match="training is 3"):
        trained_on(weights)


def test_a_smaller_share_of_the_pairs_is_a_part_of_a_larger_one():
    rows = datasets.Dataset.from_dict({"pair": list(range(100))})
    quarter, half = (share_of(rows, share, seed=1)["pair"] for share in (0.25, 0.5))
    assert (len(quarter), len(half)) == (25, 50)
    assert set(quarter) < set(half)
    assert list(half) == sorted(half)
    assert share_of(rows, 1, seed=1)["pair"] == rows["pair"]
    assert share_of(rows, 0.25, seed=2)["pair"] != quarter


def test_a_setting_of_one_stage_leaves_the_other_alone(tmp_path):
    command = ["run", "cats", "--preset", "tiny", "--limit", "8", "--set", "recipe.batch=2,finetune.share=0.5"]
    command += ["--set", "pretrain.epochs=1,finetune.epochs=1", "--eval", "toy"]
    code, _, err = finish(scbench(*command, "--pretrain", "toy", "--finetune", "toy", "--runs", str(tmp_path)))
    assert code == 0, err
    assert "(8 of 2,500 pairs, 4 steps)" in err
    assert "(4 of 2,500 pairs, 2 steps)" in err
    code, _, err = finish(scbench(*command, "--finetune", "toy", "--runs", str(tmp_path)))
    assert code == 2
    assert "there is no --pretrain" in err
