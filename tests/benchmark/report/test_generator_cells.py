"""The paper's cells of the generator, filled by the commands that the report prints, and by nothing else."""

from __future__ import annotations

import shlex
from dataclasses import asdict, replace

import numpy as np
import pytest
import timm
import torch
from PIL import Image

from benchmark import cli
from benchmark.report import paper_tables, reproduction
from benchmark.report.contents import build, build_from
from benchmark.report.reproduction import preparation_for
from benchmark.scoring.runs import FoundRun, find_runs
from sc_imagenet.data.catalog import info
from sc_imagenet.generation import classes
from sc_imagenet.generation.cascade.options import NetworkOptions, TrainingOptions
from tests.sc_imagenet import made_data

BACKBONE = "vit_tiny_patch16_224"
TINY = TrainingOptions(
    network=NetworkOptions(fold=2, stages="pixel", hough_scales=(1.0,)),
    backbone=BACKBONE,
    size=64,
    batch=2,
    epochs=1,
    views=1,
    candidates=4,
    pairs=2,
    optimiser="sgd",
    lr=1e-4,
    warmup=0,
)
KEPT = [each for each in classes.imagenet_classes() if each.kept][:2]


@pytest.fixture(scope="module")
def small_paper(tmp_path_factory):
    """The paper at a size that trains in seconds: its backbone, options, classes, and the pairs of one test split."""
    folder = tmp_path_factory.mktemp("paper")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(reproduction, "paper_options", lambda: TINY)
        patch.setattr(paper_tables, "GENERATOR_BACKBONE", BACKBONE)
        patch.setitem(paper_tables.FULL_PROCEDURE, "size", TINY.size)
        patch.setattr(classes, "imagenet_classes", lambda: tuple(KEPT))
        patch.setitem(info("pf-willow").pairs, "test", 2)
        patch.setenv("SC_CACHE", str(folder / "cache"))
        patch.setattr("datasets.config.HF_DATASETS_CACHE", str(folder / "hf"))
        patch.chdir(folder)
        made_data.willow_csv(folder / "data" / "pf-willow")
        patch.setenv("SC_DATA_ROOT", str(folder / "data"))
        patch.setenv("IMAGENET_ROOT", str(folder / "imagenet"))
        noise = np.random.default_rng(0)
        for each in KEPT:
            (folder / "imagenet" / each.wnid).mkdir(parents=True)
            for number in range(3):
                pixels = noise.integers(0, 256, (70, 70, 3), np.uint8)
                Image.fromarray(pixels).save(folder / "imagenet" / each.wnid / f"{each.wnid}_{number}.JPEG")
        torch.manual_seed(0)
        state = timm.create_model(BACKBONE, num_classes=0).state_dict()
        torch.save({f"backbone.{name}": value for name, value in state.items()}, folder / paper_tables.IBOT)
        yield folder


def call(words):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("sys.argv", words)
        with pytest.raises(SystemExit) as ended:
            cli.main()
    assert ended.value.code in (0, None), shlex.join(words)


def first_row(report):
    return next(view for view in report.tables if view.paper.number == 4).rows[0]


@pytest.fixture(scope="module")
def run(small_paper):
    """What the report's two commands for the full procedure leave, on the data set that is here."""
    row = first_row(build([])).row
    column = next(column for column in paper_tables.table_4().columns if column.dataset == "pf-willow")
    call(preparation_for(row).words)
    words = reproduction.command_for(row, column).words
    call([word.replace("pf-pascal,pf-willow", "pf-willow") for word in words])
    (found,), problems = find_runs(small_paper / "runs")
    assert not problems
    return found


def cells(found):
    return [cell for cell in first_row(build([found])).cells if cell.measured]


def test_the_commands_of_the_report_fill_the_cell_that_it_prints_them_for(small_paper, run):
    assert [cell.measured.runs for cell in cells(run)] == [(run.result.run,)] * 2
    assert any(cell.measured for cell in first_row(build_from(small_paper / "runs")).cells)
    assert run.result.trained_on == classes.FILTERED_IMAGENET
    assert run.result.backbone_weights == "ibot"
    assert TrainingOptions.from_dict({**run.result.trained_with["options"], "pretrained": True}) == TINY


def with_option(result, **options):
    return {"trained_with": {**result.trained_with, "options": {**result.trained_with["options"], **options}}}


def with_network(result, **options):
    network = {**asdict(TINY.network), **options}
    return {"arguments": {**result.arguments, "network": network}}


OTHERS = {
    "another rate": lambda result: with_option(result, lr=1e-3),
    "another optimiser": lambda result: with_option(result, optimiser="adamw"),
    "more epochs": lambda result: with_option(result, epochs=2),
    "another loss": lambda result: with_option(result, class_loss="literal"),
    "another network in training": lambda result: with_option(result, network={**asdict(TINY.network), "heads": 2}),
    "an option that is not known": lambda result: with_option(result, dropout=0.5),
    "training cut short": lambda result: {"trained_with": {**result.trained_with, "max_steps": 1}},
    "no word on the training": lambda result: {"trained_with": {}},
    "the backbone's supervised weights": lambda result: {"backbone_weights": "timm"},
    "a file of other weights": lambda result: {"backbone_weights": "file"},
    "no word on the backbone's weights": lambda result: {"backbone_weights": None},
    "another reading of the volume": lambda result: with_network(result, reading="mutual"),
    "another stage read": lambda result: {"arguments": {**result.arguments, "stage": "image"}},
    "another read-out": lambda result: {"arguments": {**result.arguments, "upsample": 1}},
    "another size": lambda result: {"arguments": {**result.arguments, "size": 96}},
    "other photographs": lambda result: {"trained_on": "caltech-101 (101 classes, 8,677 images)"},
}


@pytest.mark.parametrize("what", OTHERS)
def test_another_generator_fills_no_cell(run, what):
    other = replace(run.result, **OTHERS[what](run.result))
    assert other != run.result
    assert not cells(FoundRun(run.folder, other)), what


@pytest.mark.parametrize("free", [{"seed": 3}, {"pretrained": "elsewhere/ibot.pth"}, {"saliency": "masks"}])
def test_seeds_and_names_of_files_may_differ(run, free):
    assert cells(FoundRun(run.folder, replace(run.result, **with_option(run.result, **free))))
