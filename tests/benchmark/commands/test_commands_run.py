"""Every command that documents show ends well on small data, one after the other as a person would type them."""

from __future__ import annotations

import json
import os
import shlex

import numpy as np
import pytest
from PIL import Image

from tests.benchmark.command_line import commands, ended, split
from tests.benchmark.report.test_ablations import OPTIONS
from tests.sc_imagenet import made_data

# {run} and {other} are the runs that the first two lines make.
SHOWN = """
    run nearest --preset tiny --eval toy:validation --set recipe.model.temperature=0.05
    run cats --preset tiny --finetune toy --eval toy:validation --max-steps 1 --direction forward
    run --table 2 --dry-run
    score {run} --protocol all
    score {run} --protocol strict@1 --per-category --passport pass.json
    compare {run} {other}
    report
    view {run} {other} --images none
    submit {run} results --under geoaware@1,sd4match@1
    board verify results
    report --board --results results
    push {other} me/cats-toy --dry-run
    protocols geoaware
    check nearest
    models
    features list
    features prune --all
    match photographs/a/0.png photographs/a/1.png --model nearest --out matches.png
    match photographs/a/0.png photographs/a/1.png --model nearest --out pair.html
    data list
    data info spair-71k
    data verify pf-willow --data-root data
    data convert pf-willow:test --data-root data
    data show pf-willow --data-root data --out pairs.png
    data lists pf-willow --data-root data --out lists
    data compare-lists lists/test.txt lists/test.txt
    generate label photographs --out my-set --size 96
    generate select photographs --out my-set --size 96 --share 0.5
    generate run photographs --out my-set --size 96 --share 0.5
    generate export --out my-set --photographs photographs
    generate train photographs --out trained --size 96 --steps 1 --set batch=2 --set network.fold=2
    ablate photographs --only untrained-nearest --options options.json --seeds 0, --eval toy --limit 3 --max-steps 1
"""
LINES = [line.strip() for line in SHOWN.strip().splitlines()]
ELSEWHERE = {
    ("quickstart",),  # minutes: `make quickstart`
    ("speed",),  # a process for every pass: tests/benchmark/running/test_speed.py has what it measures
    ("data", "download"),  # of what is there: tests/benchmark/commands/test_data_command.py
}


def test_every_command_is_run_here_or_named_as_one_that_is_not():
    whole = {name for name, command in commands().items() if not hasattr(command, "commands")}
    assert {split(line.split())[0] for line in LINES} | ELSEWHERE == whole


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A folder with photographs of two classes, a small PF-WILLOW, and options of an ablation."""
    folder = tmp_path_factory.mktemp("commands")
    draw = np.random.default_rng(0)
    for name in "ab":
        (folder / "photographs" / name).mkdir(parents=True)
        for number in range(10):
            pixels = draw.integers(0, 255, (70, 70, 3), np.uint8)
            Image.fromarray(pixels).save(folder / "photographs" / name / f"{number}.png")
    made_data.willow_csv(folder / "data" / "pf-willow")
    (folder / "options.json").write_text(json.dumps(OPTIONS))
    return folder


def test_commands_as_documents_show_them_end_well(place, monkeypatch):
    """In their order: most take up what those before them made."""
    monkeypatch.chdir(place)
    for line in LINES:
        with monkeypatch.context() as patch:
            if line.startswith("features"):
                patch.setenv("SC_CACHE", str(place / "cache"))  # nobody else's are pruned
            found = sorted(place.glob("runs/*/*/predictions"), reverse=True)  # nearest's, cats'
            runs = [os.path.relpath(path.parent, place) for path in found]
            words = line.format(run=runs[0], other=runs[-1]) if runs else line
            code, out, err = ended(*shlex.split(words))
            assert not code, f"{words}: {out}{err}"
            assert out.strip() or err.strip(), words
