"""What a person asks of ``scbench run``, and what of it departs from a recipe."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from accelerate import Accelerator, DistributedDataParallelKwargs

from benchmark.running.data import Pairs
from sc_imagenet.core.errors import InputError


@dataclass(frozen=True)
class Options:
    """What a person asked for, as typed; the fields are the options of ``scbench run``."""

    model: str
    pretrain: str | None = None
    finetune: str | None = None
    evaluate: tuple[str, ...] = ()
    backbone: str | None = None
    checkpoint: str | None = None  # as ``baselines.checkpoints.places.weights_file`` takes it
    preset: str = "paper"
    settings: Mapping[str, str] = field(default_factory=dict)
    limit: int | None = None
    max_steps: int | None = None
    seed: int = 0
    data_root: Path | None = None
    runs: Path = Path("runs")
    precision: str = "no"
    direction: str = "official"
    workers: int = 0
    tracker: str | None = None


def make_accelerator(options: Options) -> Accelerator:
    """The processes, device and precision of this run; ``accelerate launch`` decides how many processes."""
    # The whole published backbones are kept, layers that nobody reads too: they get no gradient.
    unused = DistributedDataParallelKwargs(find_unused_parameters=True)
    try:
        return Accelerator(
            mixed_precision=options.precision,
            log_with=options.tracker,
            project_dir=options.runs / "trackers",
            kwargs_handlers=[unused],
        )
    except (ValueError, ImportError) as error:
        raise InputError(f"this machine cannot run with these options: {error}") from error


def changes_of(options: Options, trained_on: Sequence[Pairs]) -> tuple[str, ...]:
    """What departs from the preset and from training on whole training splits, as it is typed."""
    numbers = (("--limit", options.limit), ("--max-steps", options.max_steps), ("--backbone", options.backbone))
    return (
        *(f"{name} {value}" for name, value in numbers if value is not None),
        *(f"{key}={value}" for key, value in options.settings.items()),
        *(f"trained on {pairs}" for pairs in trained_on if pairs.split != "train"),
        *(f"trained on {pairs.shortfall}" for pairs in trained_on if pairs.shortfall),
    )
