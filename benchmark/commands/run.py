"""``scbench run``: train, evaluate and score one model."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

from benchmark.commands.options import (
    EVALUATION,
    OUTPUT,
    TRAINING,
    Backbone,
    Checkpoint,
    DataRoot,
    Features,
    FeaturesLimit,
    Json,
    Limit,
    MaxSteps,
    Precision,
    Preset,
    Runs,
    Seed,
    Settings,
    Workers,
    weights_by,
)
from benchmark.commands.score import print_tables, scored
from benchmark.scoring.result import Result
from sc_imagenet.core.command import settings_of, several
from sc_imagenet.core.errors import InputError, unknown_name
from sc_imagenet.core.progress import print_json, say

if TYPE_CHECKING:
    from benchmark.report.plan import PlannedRun
    from benchmark.running.arguments import RunOptions

app = typer.Typer(add_completion=False)


@app.command()
def run(
    model: Annotated[str | None, typer.Argument(help="The name of a model; 'scbench models' lists them.")] = None,
    pretrain: Annotated[
        str | None,
        typer.Option(
            help="It is trained on this first: sc-imagenet, or a folder made by 'scbench generate'.",
            rich_help_panel=TRAINING,
        ),
    ] = None,
    finetune: Annotated[
        str | None, typer.Option(help="It is then trained on this: NAME or NAME:SPLIT.", rich_help_panel=TRAINING)
    ] = None,
    evaluate: Annotated[
        list[str],
        typer.Option(
            "--eval",
            help="It is scored on this: NAME, NAME:SPLIT or a generated set's folder; repeat it or separate by commas.",
            rich_help_panel=EVALUATION,
        ),
    ] = [],
    backbone: Backbone = None,
    checkpoint: Checkpoint = None,
    preset: Preset = "paper",
    settings: Settings = [],
    limit: Limit = None,
    max_steps: MaxSteps = None,
    seed: Seed = 0,
    data_root: DataRoot = None,
    runs: Runs = Path("runs"),
    precision: Precision = "no",
    direction: Annotated[
        str,
        typer.Option(
            help="official: it predicts in the model's own direction; forward: from source to target.",
            rich_help_panel=EVALUATION,
        ),
    ] = "official",
    workers: Workers = 0,
    features: Features = "memory",
    features_limit: FeaturesLimit = None,
    tracker: Annotated[
        str | None,
        typer.Option(
            help="The training is also written to tensorboard, wandb or whatever else accelerate knows.",
            rich_help_panel=OUTPUT,
        ),
    ] = None,
    table: Annotated[
        int | None,
        typer.Option(
            help="In place of a model: all runs of this table of the paper are made.", rich_help_panel=EVALUATION
        ),
    ] = None,
    dry_run: Annotated[
        bool,
        typer.Option("--dry-run", help="What would be done is shown, nothing is done.", rich_help_panel=OUTPUT),
    ] = False,
    as_json: Json = False,
) -> None:
    """Pre-train, fine-tune, evaluate and score a model; what is done already is not done again.

    [bold]scbench run nearest --backbone tf_efficientnet_lite0 --eval pf-willow[/bold]

    [bold]scbench run cats --pretrain sc-imagenet --finetune spair-71k --eval spair-71k[/bold]

    [bold]accelerate launch -m benchmark run cats --finetune spair-71k --eval spair-71k[/bold]

    [bold]scbench run --table 2 --dry-run[/bold]
    """
    for value, valid, name in (
        (precision, ("no", "bf16", "fp16"), "precision"),
        (direction, ("official", "forward"), "direction"),
        (features, ("keep", "memory", "off"), "way to treat features"),
    ):
        if value not in valid:
            raise unknown_name(name, value, valid)
    from benchmark.running.arguments import RunOptions  # and with it torch, which help and mistakes do without
    from benchmark.running.features import LIMIT

    options = RunOptions(
        model=model or "",
        pretrain=pretrain,
        finetune=finetune,
        evaluate=tuple(several(evaluate)),
        backbone=backbone,
        checkpoint=checkpoint,
        preset=preset,
        settings=settings_of(settings),
        limit=limit,
        max_steps=max_steps,
        seed=seed,
        data_root=data_root,
        runs=runs,
        precision=precision,
        direction=direction,
        workers=workers,
        tracker=tracker,
        features=features,
        features_limit=features_limit or LIMIT,
    )
    if table is not None:
        if model or pretrain or finetune or evaluate:
            raise InputError("--table says what is run: no model, --pretrain, --finetune or --eval goes with it")
        from benchmark.report.plan import plan

        planned = plan(table, runs, data_root)
        if dry_run:
            print_plan(planned, as_json)
        else:
            run_plan(planned, options)
        return
    if not model:
        raise InputError("no model was named", fix="scbench run MODEL ..., or scbench run --table 2 --dry-run")
    if dry_run:
        raise InputError("--dry-run goes with --table")
    if checkpoint:  # says itself how the model is built
        run_and_print(options, as_json)
        return
    with weights_by("--set recipe.model.pretrained=FILE"):
        run_and_print(options, as_json)


def run_and_print(options: RunOptions, as_json: bool = False) -> Result:
    """Run, print the scores on what these options name, and return the result."""
    from benchmark.running.arguments import make_accelerator
    from benchmark.running.run import Run

    accelerator = make_accelerator(options)
    made = Run(options, accelerator)
    result = made.execute()
    if accelerator.is_main_process:
        if as_json:
            print_json(asdict(result))
        else:  # what was asked for now; what the run was evaluated on before is in its result.json
            print_tables([scored(file, "strict", (), None, 1000) for file in made.predictions], False, False)
        say(f"{made.folder.path}: done")
    return result


def run_plan(planned: Sequence[PlannedRun], template: RunOptions) -> None:
    """Run what is missing, one after the other; ``template`` gives the options that all share.

    A run whose data is not here is named and left out.

    Raises:
        InputError: none of them could be run.
    """
    from benchmark.report.plan import open_runs, options_of

    possible, left_out = open_runs(planned)
    for each in left_out:
        Console(stderr=True).print(f"left out for want of {', '.join(each.missing)}: {each.command}", soft_wrap=True)
    if left_out and not possible:
        raise InputError(
            "no run of this table can be made with the data on this machine",
            fix="'scbench data list' says what is missing; --dry-run prints the plan.",
        )
    for each in possible:
        run_and_print(replace(template, **options_of(each.command)))


def print_plan(planned: Sequence[PlannedRun], as_json: bool) -> None:
    """Print a plan as a table, or as JSON."""
    from baselines.registry import STEP_DEVICE

    if as_json:
        print_json([{**asdict(run), "command": str(run.command), "hours": run.hours} for run in planned])
        return
    console = Console(highlight=False, soft_wrap=True)
    for run in planned:
        console.print(f"[bold]{run.command}[/bold]{'  done' if run.done else ''}")
        for stage in run.stages:
            hours = f", {stage.hours:,.1f} h" if stage.hours is not None else ""
            console.print(
                f"    {stage.dataset}: {stage.pairs:,} pairs x {stage.epochs} epochs / {stage.batch} = "
                f"{stage.steps:,} steps{hours}"
                if stage.pairs
                else f"    {stage.dataset}: as many pairs as images x {stage.epochs} epochs / {stage.batch}"
            )
        if run.missing:
            console.print(f"    data missing here: {', '.join(run.missing)}")
    known = [run.hours for run in planned if run.hours is not None]
    console.print(
        f"{len(planned)} runs, {sum(run.done for run in planned)} done; {sum(known):,.0f} hours of computing on "
        f"{STEP_DEVICE}, for the {len(known)} whose step was measured, loading of images not counted."
    )
