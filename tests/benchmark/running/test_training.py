"""Training: exact resume, order of pairs, what the log and the folder hold afterwards."""

from __future__ import annotations

import itertools
import os
import signal
import time

import datasets
import numpy as np
import pytest
import torch
from accelerate import Accelerator
from PIL import Image
from safetensors.torch import load_file

from baselines.matcher import Matcher
from baselines.recipe import Recipe
from benchmark.running.arguments import RunConfig, RunStage
from benchmark.running.folder import RunFolder
from benchmark.running.loop import MatcherTraining, rate_factor
from sc_imagenet.core.errors import InputError
from sc_imagenet.core.processes import Terminated
from sc_imagenet.data.batches import Batches, ProcessBatches
from sc_imagenet.data.pairs import PairDataset, collate_pairs
from sc_imagenet.data.schema import pair_features


class Shift(Matcher):
    """Predicts one learned shift of all points, with dropout so that random state matters."""

    def __init__(self) -> None:
        super().__init__()
        self.size = 32
        self.convolution = torch.nn.Conv2d(6, 2, 3, padding=1)
        self.dropout = torch.nn.Dropout(0.5)

    def forward(self, source, target):
        return self.dropout(self.convolution(torch.cat([source, target], 1))).mean((2, 3))

    def loss(self, output, batch):
        distance = (self.transfer(output, batch["source_points"]) - batch["target_points"]).norm(dim=-1)
        return (distance * batch["valid"]).sum() / batch["valid"].sum()

    def transfer(self, output, points):
        return points + output[:, None]


@pytest.fixture
def rows(tmp_path):
    draw = np.random.default_rng(0)
    table = []
    for k in range(10):
        paths = []
        for side in "ab":
            path = tmp_path / f"{k}{side}.png"
            Image.fromarray(draw.integers(0, 255, (40, 50, 3), dtype=np.uint8)).save(path)
            paths.append(str(path))
        points = draw.uniform(5, 30, (3 + k % 3, 2)).tolist()
        table.append(
            dict.fromkeys(pair_features(["x"]))
            | {
                "pair_id": str(k),
                "dataset": "made",
                "category": 0,
                "source": paths[0],
                "target": paths[1],
                "source_size": [50, 40],
                "target_size": [50, 40],
                "source_points": points,
                "target_points": [[x + 4, y - 3] for x, y in points],
                "mirrored": False,
            }
        )
    return datasets.Dataset.from_list(table, features=pair_features(["x"]))


def training(rows, folder, stop_at=None, **changes) -> MatcherTraining:
    recipe = Recipe(lr=0.01, batch=3, epochs=4, augmentation="cats", **changes)
    torch.manual_seed(0)
    matcher = Shift()
    pairs = PairDataset(rows, 32, matcher.mean, matcher.std, augment="cats", seed=7)
    made = MatcherTraining(matcher, recipe, pairs, RunFolder(folder), Accelerator(cpu=True), validate=None, seed=7)
    if stop_at is not None:
        step = made._step

        def stopping(batch):
            if made.position.step == stop_at:
                raise RuntimeError("killed")
            made._save()
            return step(batch)

        made._step = stopping
    return made


@pytest.mark.parametrize("stop_at", [1, 4, 9, 15])
def test_resumed_training_ends_with_the_same_bits(rows, tmp_path, stop_at):
    training(rows, tmp_path / "whole").run()
    with pytest.raises(RuntimeError):
        training(rows, tmp_path / "cut", stop_at).run()
    training(rows, tmp_path / "cut").run()
    whole, cut = (load_file(tmp_path / name / "checkpoints/last.safetensors") for name in ("whole", "cut"))
    assert whole.keys() == cut.keys()
    assert all(torch.equal(whole[key], cut[key]) for key in whole)
    assert not (tmp_path / "cut/checkpoints/resume.pt").exists()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_lets_the_step_end_and_saves_it(rows, tmp_path, number):
    training(rows, tmp_path / "whole").run()
    stopped = training(rows, tmp_path / "cut")
    step = stopped._step

    def signalled(batch):
        if stopped.position.step == 5:
            os.kill(os.getpid(), number)
        return step(batch)

    stopped._step = signalled
    with pytest.raises(KeyboardInterrupt) as ended:
        stopped.run()
    assert isinstance(ended.value, Terminated) == (number == signal.SIGTERM)
    resumed = training(rows, tmp_path / "cut")
    resumed._resume()
    assert resumed.position.step == 6
    training(rows, tmp_path / "cut").run()
    assert_same_weights(tmp_path)


def test_a_signal_ends_a_validation_at_once_and_it_is_made_up_for(rows, tmp_path):
    validated, slept = [], []

    def validate(made, signals_at=None):
        def value():
            validated.append(made.position.step)
            if made.position.step == signals_at:
                os.kill(os.getpid(), signal.SIGTERM)
                time.sleep(20)
                slept.append(True)
            return made.matcher.convolution.weight.sum().item()

        made.validate = value
        return made

    validate(training(rows, tmp_path / "whole")).run()
    assert validated == [4, 8, 12, 16]
    with pytest.raises(Terminated):
        validate(training(rows, tmp_path / "cut"), signals_at=8).run()
    assert not slept
    validated.clear()
    validate(training(rows, tmp_path / "cut")).run()
    assert validated == [8, 12, 16]
    assert_same_weights(tmp_path)
    logs = [(tmp_path / name / "log.jsonl").read_text() for name in ("whole", "cut")]
    assert logs[0].count("validation_pck") == logs[1].count("validation_pck") == 4


def assert_same_weights(folder):
    for file in ("best", "last"):
        whole, cut = (load_file(folder / name / f"checkpoints/{file}.safetensors") for name in ("whole", "cut"))
        assert all(torch.equal(whole[key], cut[key]) for key in whole)


def test_log_has_each_step_once_after_a_resume(rows, tmp_path, monkeypatch):
    monkeypatch.setattr("benchmark.running.loop.LOG_STEPS", 1)
    with pytest.raises(RuntimeError):
        training(rows, tmp_path, stop_at=6).run()
    training(rows, tmp_path).run()
    steps = [line.split(",")[0] for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    assert steps == [f'{{"step": {k}' for k in range(1, 17)]


def test_loss_that_is_not_finite_is_one_clear_error(rows, tmp_path):
    made = training(rows, tmp_path)
    made.matcher.convolution.weight.data.fill_(float("nan"))
    with pytest.raises(InputError, match=r"loss is nan at step 0.*recipe\.lr"):
        made.run()


@pytest.mark.parametrize(("pairs", "batch", "processes"), [(10, 3, 2), (7, 3, 3), (5, 8, 2), (9, 2, 2), (4, 4, 4)])
def test_every_pair_is_seen_once_an_epoch_by_one_process(pairs, batch, processes):
    batches = Batches(pairs, batch, seed=3, processes=processes)
    steps = len(batches)
    shares = [list(ProcessBatches(batches, 0, 2 * steps, process)) for process in range(processes)]
    for epoch in range(2):
        seen = [
            row
            for share in shares
            for step in share[epoch * steps : (epoch + 1) * steps]
            for at, row in step
            if at == epoch
        ]
        assert sorted(seen) == list(range(pairs))
    assert all(step for share in shares for step in share)


def test_resumed_batches_are_the_rest_of_the_whole():
    batches = Batches(10, 3, seed=1)
    whole = list(ProcessBatches(batches, 0, 11))
    assert list(ProcessBatches(batches, 6, 11)) == whole[6:]


def test_rates_follow_the_schedule():
    recipe = Recipe(milestones=(70, 80, 90), gamma=0.5)
    assert [rate_factor(recipe, epoch * 5, 5, 500) for epoch in (0, 69, 70, 85, 99)] == [
        1,
        1,
        0.5,
        0.25,
        0.125,
    ]
    cosine = [rate_factor(Recipe(schedule="cosine", warmup=4), step, 5, 100) for step in (0, 3, 50, 99)]
    assert cosine == pytest.approx([0.25, 0.99778, 0.5, 0.000247], abs=1e-4)


def test_items_depend_on_seed_epoch_and_row_alone(rows):
    first, second = (PairDataset(rows, 32, (0, 0, 0), (1, 1, 1), augment="cats", seed=5) for _ in range(2))
    for epoch, index in itertools.product((0, 3), (4, 2)):
        one, other = first[epoch, index], second[epoch, index]
        assert all(torch.equal(one[key], other[key]) for key in ("source", "target", "source_points"))
    assert not torch.equal(first[0, 4]["source"], first[3, 4]["source"])


def test_points_are_padded_and_marked(rows):
    pairs = PairDataset(rows, 32, (0, 0, 0), (1, 1, 1))
    batch = collate_pairs([pairs[0], pairs[2]])
    assert batch["source_points"].shape == (2, 5, 2)
    assert batch["valid"].sum(1).tolist() == [3, 5]
    expected = np.array(rows[2]["source_points"]) * [32 / 50, 32 / 40]
    np.testing.assert_allclose(batch["source_points"][1], expected, rtol=1e-6)


def test_a_folder_refuses_another_configuration(tmp_path):
    config = RunConfig("shift", {}, (RunStage("toy", "train", None, "0", Recipe()),))
    folder = RunFolder(tmp_path)
    folder.claim(config, {"eval": []})
    folder.claim(config, {"eval": []})
    with pytest.raises(InputError, match="another configuration"):
        folder.claim(config.before, {"eval": []})


def test_a_folder_is_held_by_one_process(tmp_path):
    folder = RunFolder(tmp_path)
    with folder.lock(), pytest.raises(InputError, match="another process"), folder.lock():
        pass
    with folder.lock():
        pass
