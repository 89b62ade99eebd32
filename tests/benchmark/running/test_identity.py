"""A run of the first release is found by the name that its configuration had then."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

from baselines.recipe import Recipe
from benchmark.running.arguments import RunConfig, RunStage, identity

KEPT = json.loads((Path(__file__).parent / "config_of_41574bc.json").read_text())  # scorrsan, tiny, on toy
NAME = "93e5a1577212"  # the folder it lay in


def of_today() -> RunConfig:
    """The same configuration as it is made now: what only training reads stands in the stage's recipe."""
    [stage] = KEPT["stages"]
    arguments = {key: value for key, value in KEPT["arguments"].items() if key != "pseudo_start"}
    kept = {key: tuple(value) if isinstance(value, list) else value for key, value in stage["recipe"].items()}
    recipe = Recipe(**{**kept, "model": {"pseudo_start": KEPT["arguments"]["pseudo_start"]}})
    return RunConfig(**{**KEPT, "arguments": arguments, "stages": (RunStage(**{**stage, "recipe": recipe}),)})


def test_a_configuration_of_the_first_release_names_the_same_folder():
    assert identity(KEPT) == KEPT
    assert of_today().id == NAME


def test_what_the_first_release_could_not_say_names_another_folder():
    config = of_today()
    [stage] = config.stages
    by_paper = replace(stage, recipe=replace(stage.recipe, validation="paper"))
    later = replace(stage, recipe=replace(stage.recipe, model={"pseudo_start": 3}))
    others = [replace(config, stages=stages) for stages in ((by_paper,), (later,), (stage, later), (later, stage))]
    assert len({NAME, *(other.id for other in others)}) == 5
