"""Stages of a run: each is trained, and its best weights are chosen, as its own recipe says."""

from __future__ import annotations

import json
from pathlib import Path

import datasets
import numpy as np
import pytest
import torch
from accelerate import Accelerator
from PIL import Image

import baselines.scorrsan
from baselines import registry
from baselines.matcher import Matcher
from baselines.recipe import Recipe
from baselines.registry import find_recipe
from benchmark.running.arguments import RunOptions
from benchmark.running.evaluate import Validation, selection_metric
from benchmark.running.folder import RunFolder
from benchmark.running.loop import MatcherTraining
from benchmark.running.run import Run, execute, points_left_out
from sc_imagenet.core.errors import InputError
from sc_imagenet.data.pairs import PairDataset
from sc_imagenet.data.schema import pair_features

SMALL = {"recipe.model.size": "64", "recipe.model.networks": "2", "recipe.model.width": "16", "recipe.batch": "4"}
TWO_STAGES = {**SMALL, "pretrain.model.pseudo_start": "0", "finetune.model.pseudo_start": "1"}


def options(runs: Path, settings=TWO_STAGES, **changes) -> RunOptions:
    """Two stages of four steps of SCorrSAN on eight pairs, two steps an epoch."""
    given = {"model": "scorrsan", "pretrain": "toy", "finetune": "toy", "evaluate": ("toy",), "preset": "tiny"}
    return RunOptions(**{**given, "settings": settings, "limit": 8, "max_steps": 4, "runs": runs, **changes})


@pytest.fixture
def pseudo_labelled(monkeypatch):
    """Steps that were taken so far, True for those in which the two networks learnt from each other."""
    steps: list[bool] = []
    step, mutual_loss = baselines.scorrsan.SCorrSAN.training_loss, baselines.scorrsan.mutual_loss

    def noted_step(self, batch, epoch):
        steps.append(False)
        return step(self, batch, epoch)

    def noted_loss(*arguments):
        steps[-1] = True
        return mutual_loss(*arguments)

    monkeypatch.setattr(baselines.scorrsan.SCorrSAN, "training_loss", noted_step)
    monkeypatch.setattr(baselines.scorrsan, "mutual_loss", noted_loss)
    return steps


def test_each_stage_learns_from_pseudo_labels_from_its_own_epoch_on(tmp_path, pseudo_labelled):
    result = execute(options(tmp_path))
    assert pseudo_labelled == [True] * 4 + [False, False, True, True]
    config = json.loads((tmp_path / "scorrsan" / result.run / "config.json").read_text())
    assert [stage["recipe"]["model"] for stage in config["stages"]] == [{"pseudo_start": 0}, {"pseudo_start": 1}]
    assert "pseudo_start" not in config["arguments"]
    assert result.arguments["pseudo_start"] == 1


@pytest.mark.parametrize("killed_in", [3, 7])
def test_a_stage_that_is_taken_up_again_goes_on_by_its_own_recipe(tmp_path, pseudo_labelled, monkeypatch, killed_in):
    monkeypatch.setattr("benchmark.running.loop.SAVE_SECONDS", 0)

    class Killed(list):
        def append(self, step):
            super().append(step)
            if len(self) == killed_in:
                raise RuntimeError("killed")

    with monkeypatch.context() as first:
        steps = Killed()
        learn = baselines.scorrsan.SCorrSAN.training_loss
        first.setattr(baselines.scorrsan.SCorrSAN, "training_loss", lambda *given: steps.append(1) or learn(*given))
        with pytest.raises(RuntimeError, match="killed"):
            execute(options(tmp_path))
    execute(options(tmp_path))
    assert pseudo_labelled == [True] * 4 + [False, False, True, True]


def test_pretrainings_that_differ_in_the_fine_tuning_alone_are_one(tmp_path, pseudo_labelled, capsys):
    execute(options(tmp_path))
    execute(options(tmp_path, {**TWO_STAGES, "finetune.model.pseudo_start": "9"}))
    assert pseudo_labelled[8:] == [False] * 4
    assert "trained already" in capsys.readouterr().err


def test_a_recipe_says_how_a_checkpoint_is_trained_further(tmp_path, pseudo_labelled):
    trained = execute(options(tmp_path, SMALL, pretrain=None, evaluate=())).run
    pseudo_labelled.clear()
    further = {"recipe.batch": "4", "recipe.model.pseudo_start": "0"}
    folder = str(tmp_path / "scorrsan" / trained)
    execute(options(tmp_path, further, pretrain=None, checkpoint=folder))
    assert pseudo_labelled == [True] * 4


@pytest.mark.parametrize(
    ("name", "setting", "values"),
    [
        ("dhpf", "threshold", ("img", "bbox")),
        ("dhpf", "rate", (0.25, 1)),
        ("dhpf-weak", "rate", (0.25, 1)),
        ("semimatch", "confidence", (0.5, 0.9)),
        ("semimatch", "keyout", (0.0, 0.2)),
        ("semimatch", "dynamic", (True, False)),
    ],
)
def test_a_training_argument_holds_for_its_stage_and_is_kept_in_the_configuration(tmp_path, name, setting, values):
    settings = {
        f"{stage}.model.{setting}": value if isinstance(value, str) else json.dumps(value)
        for stage, value in zip(("pretrain", "finetune"), values)
    }
    config = Run(options(tmp_path, settings, model=name), Accelerator(cpu=True)).config.as_json()
    assert tuple(stage["recipe"]["model"][setting] for stage in config["stages"]) == values
    assert setting not in config["arguments"]
    matcher = registry.create(name, **{**config["arguments"], "pretrained": False})
    for stage, value in zip(config["stages"], values):
        matcher.set_training_arguments(stage["recipe"]["model"])
        assert getattr(matcher, setting) == value == matcher.arguments[setting]


@pytest.mark.parametrize(
    ("name", "others"),
    [
        ("dhpf", {"rate": 0.1, "threshold": "img"}),
        ("dhpf-weak", {"rate": 0.1, "threshold": "img"}),
        ("scorrsan", {"pseudo_start": 0}),
        ("semimatch", {"confidence": 0.1, "keyout": 0.9, "dynamic": True}),
    ],
)
def test_what_only_training_reads_changes_no_prediction(name, others):
    recipe = find_recipe(name, "toy", "tiny")
    matcher = registry.create(name, **{**recipe.model, "size": 96, "pretrained": False}).eval()
    assert set(others) == set(matcher.training_arguments)
    draw = torch.Generator().manual_seed(0)
    source, target = torch.rand(2, 2, 3, 96, 96, generator=draw)
    points = 96 * torch.rand(2, 5, 2, generator=draw)
    with torch.inference_mode():
        before = matcher.transfer(matcher(source, target), points)
        matcher.set_training_arguments(others)
        assert torch.equal(matcher.transfer(matcher(source, target), points), before)


@pytest.mark.parametrize(
    ("name", "setting", "message"),
    [
        ("dhpf", {"threshold": "box"}, r"unknown dhpf's threshold 'box'.*bbox"),
        ("semimatch", {"dynamic": 1}, r"dynamic=1 is not of the kind of its default, False"),
        ("semimatch", {"confidence": "high"}, r"confidence='high' is not of the kind of its default, 0\.5"),
    ],
)
def test_a_training_argument_of_another_kind_is_one_line(name, setting, message):
    with pytest.raises(InputError, match=message):
        registry.training_arguments(name, setting)


def rows_of(folder: Path) -> datasets.Dataset:
    """Two pairs of images four times as wide as high, their points in the same places."""
    table = []
    for name in "ab":
        path = folder / f"{name}.png"
        Image.fromarray(np.zeros((50, 200, 3), np.uint8)).save(path)
        points = [[20.0, 10.0], [60.0, 20.0], [100.0, 10.0], [140.0, 20.0]]
        table.append(
            dict.fromkeys(pair_features(["x"]))
            | {"pair_id": name, "dataset": "made", "category": 0, "mirrored": False}
            | {"source": str(path), "target": str(path), "source_size": [200, 50], "target_size": [200, 50]}
            | {"source_points": points, "target_points": points}
        )
    return datasets.Dataset.from_list(table, features=pair_features(["x"]))


class Worsening(Matcher):
    """After one step every point is a fifth of the height too low; after the second half the points are far off."""

    def __init__(self) -> None:
        super().__init__()
        self.size = 32
        self.steps = torch.nn.Parameter(torch.zeros(()))

    def forward(self, source, target):
        return self.steps

    def loss(self, output, batch):
        return -output  # plain gradient descent at a rate of 1 adds 1

    def transfer(self, output, points):
        if output < 1.5:
            return points + torch.tensor([0.0, 0.2 * self.size])
        return points + self.size * (torch.arange(points.shape[1]) % 2)[:, None]


@pytest.mark.parametrize(("protocol", "values", "best"), [("strict", [100, 50], 1), ("paper", [0, 50], 2)])
def test_the_best_epoch_is_chosen_under_the_protocol_of_the_recipe(tmp_path, protocol, values, best):
    # 10 px of height are within a tenth of the image's 200 px, but in the resized frame 6.4 of 32: not within 3.2.
    rows, matcher = rows_of(tmp_path), Worsening()
    recipe = Recipe(optimiser="sgd", lr=1.0, batch=2, epochs=2, validation=protocol)
    accelerator = Accelerator(cpu=True)
    metric = selection_metric(recipe, "pf-pascal", "worsening", matcher.size)
    validation = Validation(matcher, rows, metric, "pf-pascal", accelerator, 0)
    found = []

    def validate():
        found.append(validation())
        return found[-1]

    training = MatcherTraining(
        matcher,
        recipe,
        PairDataset(rows, matcher.size, matcher.mean, matcher.std),
        RunFolder(tmp_path),
        accelerator,
        validate=validate,
        seed=0,
    )
    training.run()
    assert found == values
    assert (training.position.best_step, matcher.steps.item()) == (best, best)


@pytest.mark.parametrize(
    ("name", "frame", "sets"),
    [
        # cats_vat_semimatch 0.3 and 0.4; dhpf_transformatcher_scorrsan_ncnet_hpf 6
        ("cats", 256, ("spair-71k", "pf-pascal", "sc-imagenet")),
        ("semimatch", 256, ("spair-71k", "pf-pascal", "sc-imagenet")),
        ("vat", 512, ("spair-71k", "pf-pascal", "sc-imagenet")),
        ("scorrsan", 256, ("spair-71k", "pf-pascal", "sc-imagenet")),
        ("dhpf", 240, ("spair-71k", "pf-pascal", "sc-imagenet")),
        ("dhpf-weak", 240, ("spair-71k", "pf-pascal")),
        ("transformatcher", 240, ("spair-71k", "pf-pascal", "sc-imagenet")),
        ("ncnet", 224, ("pf-pascal",)),
    ],
)
def test_paper_recipes_choose_the_best_epoch_as_the_authors_do_and_others_in_original_pixels(name, frame, sets):
    for dataset in sets:
        threshold = "img" if dataset == "pf-pascal" else "bbox"
        metric = selection_metric(find_recipe(name, dataset), dataset, name, 99)
        assert str(metric) == f"pck@0.1/{threshold}@{frame}/image"
    for dataset, preset in (("pf-willow", "paper"), ("spair-71k", "small"), ("spair-71k", "tiny")):
        assert selection_metric(find_recipe(name, dataset, preset), dataset, name, 99).frame is None


def test_points_that_are_left_out_are_counted_and_said(tmp_path, capsys):
    counts = [2, 5, 9, 4]
    features = datasets.Features(
        {"source_points": pair_features(["x"])["source_points"], "pair": datasets.Value("int32")}
    )
    lists = {"source_points": [[[0.0, 0.0]] * count for count in counts], "pair": range(4)}
    rows = datasets.Dataset.from_dict(lists, features=features)
    assert points_left_out(rows, 4) == (
        "6 of 20 points are left out: 2 of 4 pairs have more than 4 (--set recipe.points=N)"
    )
    assert points_left_out(rows.select([3, 1]), 4) == (
        "1 of 9 points are left out: 1 of 2 pairs have more than 4 (--set recipe.points=N)"
    )
    assert points_left_out(rows, 9) is None
    said = " of 8 pairs have more than 3 (--set recipe.points=N)"
    execute(options(tmp_path, {**SMALL, "recipe.points": "3"}, pretrain=None, evaluate=(), max_steps=1))
    assert said in capsys.readouterr().err
