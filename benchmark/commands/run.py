"""``scbench run``: train, evaluate and score one model."""

from __future__ import annotations

from pathlib import Path

import typer

from benchmark.running.arguments import several, weights_by
from sc_imagenet.core.settings import settings_of


def add_to(app: typer.Typer) -> None:
    """Add the command to ``scbench``."""
    app.command("run")(run)


def run(
    model: str | None = typer.Argument(None, help="A name that 'scbench models' lists."),
    pretrain: str | None = typer.Option(
        None, help="Train on this first: sc-imagenet, or a folder made by 'scbench generate'."
    ),
    finetune: str | None = typer.Option(None, help="Then train on this: NAME or NAME:SPLIT."),
    evaluate: list[str] = typer.Option(
        [], "--eval", help="Score on this: NAME, NAME:SPLIT or a generated set's folder; repeat or separate by commas."
    ),
    backbone: str | None = typer.Option(None, help="Any timm model in place of the recipe's."),
    checkpoint: str | None = typer.Option(
        None, help="Start from these weights, ours or the authors': a file, a folder, a run's folder, or OWNER/NAME."
    ),
    preset: str = typer.Option("paper", help="paper, small or tiny."),
    settings: list[str] = typer.Option(
        [], "--set", help="recipe.KEY=VALUE, or pretrain. or finetune. for one stage; repeat or separate by commas."
    ),
    limit: int | None = typer.Option(None, min=1, help="Use so many pairs of each data set."),
    max_steps: int | None = typer.Option(None, min=1, help="End each training after so many steps."),
    seed: int = typer.Option(0, min=0, help="Of weights, order and augmentation."),
    data_root: Path | None = typer.Option(None, help="Where the data sets lie; else SC_DATA_ROOT."),
    runs: Path = typer.Option(Path("runs"), help="Where run folders lie."),
    precision: str = typer.Option("no", help="no (fp32), bf16 or fp16."),
    direction: str = typer.Option("official", help="official: the model's own; forward: source to target."),
    workers: int = typer.Option(0, min=0, help="Processes that load pairs; 0 loads in the main one."),
    tracker: str | None = typer.Option(None, help="tensorboard, wandb, ...: whatever accelerate knows."),
    table: int | None = typer.Option(None, help="In place of a model: all runs of this table of the paper."),
    dry_run: bool = typer.Option(False, "--dry-run", help="With --table: print the plan, run nothing."),
    as_json: bool = typer.Option(False, "--json", help="Print result.json, or the plan, instead of a table."),
) -> None:
    """Pre-train, fine-tune, evaluate and score a model; what is done already is not done again.

    [bold]scbench run nearest --backbone tf_efficientnet_lite0 --eval pf-willow[/bold]

    [bold]scbench run cats --pretrain sc-imagenet --finetune spair-71k --eval spair-71k[/bold]

    [bold]accelerate launch -m benchmark run cats --finetune spair-71k --eval spair-71k[/bold]

    [bold]scbench run --table 2 --dry-run[/bold]
    """
    from benchmark.running.arguments import Options
    from benchmark.running.run import execute
    from sc_imagenet.core.errors import InputError, unknown_name

    for value, valid, name in (
        (precision, ("no", "bf16", "fp16"), "precision"),
        (direction, ("official", "forward"), "direction"),
    ):
        if value not in valid:
            raise unknown_name(name, value, valid)
    options = Options(
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
    )
    if table is not None:
        from benchmark.report.plan import execute_plan, plan, print_plan

        if model or pretrain or finetune or evaluate:
            raise InputError("--table says what is run: no model, --pretrain, --finetune or --eval goes with it")
        planned = plan(table, runs, data_root)
        if dry_run:
            print_plan(planned, as_json)
        else:
            execute_plan(planned, options)
        return
    if not model:
        raise InputError("no model was named", fix="scbench run MODEL ..., or scbench run --table 2 --dry-run")
    if dry_run:
        raise InputError("--dry-run goes with --table")
    if checkpoint:  # says itself how the model is built
        execute(options, as_json)
        return
    with weights_by("--set recipe.model.pretrained=FILE"):
        execute(options, as_json)
