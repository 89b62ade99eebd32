"""Options that several commands share, each written once: its name, its words, its panel of the help."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import MISSING, Field, fields, is_dataclass
from pathlib import Path
from typing import Annotated, Any, get_type_hints

import typer

from sc_imagenet.core.errors import InputError

# The panels of the help, the same and in the same order in every command.

PANELS = (
    *(MODEL := "Model", DATA := "Data", LABELS := "Labels", SELECTION := "Selection"),
    *(TRAINING := "Training", EVALUATION := "Evaluation", OUTPUT := "Output", MACHINE := "Machine"),
)

# What is written as ``seed: Seed = 0`` in a command.

ModelName = Annotated[str, typer.Argument(help="The name of a model; 'scbench models' lists them.")]
_PRESET = typer.Option(
    help="The preset: paper, or small or tiny for laptops; other options change it.",
    rich_help_panel=MODEL,
    metavar="NAME",
)
Preset = Annotated[str, _PRESET]
PresetOrNone = Annotated[str | None, _PRESET]
Backbone = Annotated[
    str | None,
    typer.Option(help="Any timm model takes the place of the model's own backbone.", rich_help_panel=MODEL),
]
Checkpoint = Annotated[
    str | None,
    typer.Option(
        help="The weights, ours or the authors': a file, a folder, a run's folder, or OWNER/NAME of the Hub.",
        rich_help_panel=MODEL,
    ),
]
Settings = Annotated[
    list[str],
    typer.Option(
        "--set",
        help="A setting as KEY=VALUE, such as recipe.lr=1e-4; repeat it or separate by commas.",
        rich_help_panel=TRAINING,
    ),
]
MaxSteps = Annotated[
    int | None, typer.Option(min=1, help="Each training ends after so many steps.", rich_help_panel=TRAINING)
]
Seed = Annotated[
    int, typer.Option(min=0, help="What is drawn by chance is drawn from this seed.", rich_help_panel=TRAINING)
]
DataRoot = Annotated[
    Path | None,
    typer.Option(help="The folder that holds the data sets; by default $SC_DATA_ROOT.", rich_help_panel=DATA),
]
Limit = Annotated[
    int | None, typer.Option(min=1, help="Only so many pairs of each data set are used.", rich_help_panel=DATA)
]
Metrics = Annotated[
    list[str],
    typer.Option(
        "--metric",
        help="Scores are by these metrics instead, such as pck@0.1/bbox/image; repeat it or separate by commas.",
        rich_help_panel=EVALUATION,
    ),
]
Draws = Annotated[
    int,
    typer.Option(min=0, help="So many bootstrap draws lie behind the 95 % intervals.", rich_help_panel=EVALUATION),
]
Runs = Annotated[Path, typer.Option(help="The folder of the runs.", rich_help_panel=OUTPUT)]
Picture = Annotated[
    Path | None,
    typer.Option("--out", help="A picture is written here: .png, .jpg or .webp.", rich_help_panel=OUTPUT),
]
Json = Annotated[bool, typer.Option("--json", help="JSON is printed instead of tables.", rich_help_panel=OUTPUT)]
Precision = Annotated[str, typer.Option(help="Computing is in no (float32), bf16 or fp16.", rich_help_panel=MACHINE)]
Features = Annotated[
    str,
    typer.Option(
        "--features",
        help="What becomes of an image's features: keep on disk for later runs, memory until the command ends, off.",
        rich_help_panel=MACHINE,
    ),
]
FeaturesLimit = Annotated[
    int | None,
    typer.Option(
        min=1, help="So many MB of features are in memory, 1000 by default, the rest on disk.", rich_help_panel=MACHINE
    ),
]
Workers = Annotated[
    int, typer.Option(min=0, help="So many processes work beside the main one.", rich_help_panel=MACHINE)
]


def grouped(command: Callable[..., None]) -> Callable[..., None]:
    """A command of a function some of whose parameters are dataclasses of options.

    In its place such a parameter brings the options that are its fields, declared by ``Annotated`` or by a default
    of typer's. The function is given the dataclass, filled.
    """
    hints = get_type_hints(command, include_extras=True)
    groups: dict[str, Any] = {name: kind for name, kind in hints.items() if is_dataclass(kind)}
    parameters: list[inspect.Parameter] = []
    for name, parameter in inspect.signature(command).parameters.items():
        if name in groups:
            kinds = get_type_hints(groups[name], include_extras=True)
            parameters += [_option(each.name, _default(each), kinds[each.name]) for each in fields(groups[name])]
        else:
            parameters.append(_option(name, parameter.default, hints[name]))

    def called(**given: Any) -> None:
        filled = {
            name: kind(**{each.name: given.pop(each.name) for each in fields(kind)}) for name, kind in groups.items()
        }
        command(**filled, **given)

    called.__name__, called.__doc__ = command.__name__, command.__doc__
    called.__annotations__ = {each.name: each.annotation for each in parameters}
    called.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    return called


def _default(field: Field[Any]) -> Any:
    if field.default_factory is not MISSING:
        return field.default_factory()
    return inspect.Parameter.empty if field.default is MISSING else field.default


def _option(name: str, default: Any, kind: Any) -> inspect.Parameter:
    return inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=kind)


@contextmanager
def weights_by(option: str) -> Iterator[None]:
    """Where a backbone's weights cannot be had, name the option by which this command takes a file of them."""
    from sc_imagenet.backbones.pretrained import NoWeights  # imports torch, which the help does not need

    try:
        yield
    except NoWeights as error:
        raise InputError(f"{error} Or give a file of weights: {option}") from error
