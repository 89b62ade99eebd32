"""``scbench run --table 2 --dry-run``: every run of the table with its data, steps and cost."""

from __future__ import annotations

import json

import pytest

from benchmark.commands.run import print_plan, run_plan
from benchmark.report import paper_tables
from benchmark.report.plan import options_of, plan
from benchmark.running.arguments import RunOptions
from sc_imagenet.core.command import Command
from sc_imagenet.core.errors import InputError


@pytest.fixture(autouse=True)
def _no_data(monkeypatch):
    monkeypatch.delenv("SC_DATA_ROOT", raising=False)
    monkeypatch.delenv("IMAGENET_ROOT", raising=False)


def test_every_command_of_table_2_is_planned_once(tmp_path):
    planned = plan(2, tmp_path, None)
    commands = [str(run.command) for run in planned]
    assert len(commands) == len(set(commands))
    assert "scbench run cats --pretrain sc-imagenet --finetune spair-71k --eval spair-71k" in commands
    assert {run.model for run in planned} <= set(paper_tables.MODELS.values())
    assert not any(run.done for run in planned)


def test_steps_follow_from_the_recipe(tmp_path):
    run = next(
        run for run in plan(2, tmp_path, None) if "cats --pretrain sc-imagenet --finetune spair" in str(run.command)
    )
    assert [(stage.dataset, stage.steps) for stage in run.stages] == [
        ("sc-imagenet", 100 * 24_832),  # 794,612 pairs in batches of 32
        ("spair-71k", 100 * 1_667),  # 53,340 pairs
    ]
    assert run.missing == ("sc-imagenet", "spair-71k", "ImageNet")


def test_hours_are_steps_times_the_measured_step(tmp_path):
    measured = {("cats", "spair-71k"): 0.1837, ("semimatch", "spair-71k"): 0.1538, ("scorrsan", "spair-71k"): None}
    met = set()
    for run in plan(2, tmp_path, None):
        for stage in run.stages:
            if (key := (run.model, stage.dataset)) in measured:
                seconds = measured[key]
                assert stage.hours == (None if seconds is None else pytest.approx(stage.steps * seconds / 3600))
                met.add(key)
    assert met == set(measured)


def test_a_planned_command_is_read_back():
    command = Command("run", ("cats",), {"finetune": "pf-pascal", "eval": ("pf-pascal", "pf-willow")})
    options = RunOptions(**options_of(command))
    assert (options.model, options.pretrain, options.finetune) == ("cats", None, "pf-pascal")
    assert options.evaluate == ("pf-pascal", "pf-willow")


def test_without_data_nothing_is_run_and_each_run_is_named(tmp_path, capsys):
    planned = plan(2, tmp_path, None)
    with pytest.raises(InputError, match="data on this machine"):
        run_plan(planned, RunOptions("", runs=tmp_path))
    assert capsys.readouterr().err.count("left out") == len(planned)


def test_it_prints_for_people_and_programs(tmp_path, capsys):
    planned = plan(3, tmp_path, None)
    print_plan(planned, as_json=True)
    assert [run["command"] for run in json.loads(capsys.readouterr().out)] == [str(run.command) for run in planned]
    print_plan(planned, as_json=False)
    assert "166,700 steps" in capsys.readouterr().out


def test_an_unknown_table_is_one_line(tmp_path):
    with pytest.raises(InputError, match="no table 9"):
        plan(9, tmp_path, None)
