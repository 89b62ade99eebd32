"""``scbench generate``: from photographs with class names to a data set of corresponding points."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from benchmark.running.arguments import grouped

if TYPE_CHECKING:
    from sc_imagenet.generation.options import GenerationOptions

OUT = typer.Option(..., "--out", help="The data set's folder; what is there goes on where it was left.")
AS_JSON = typer.Option(False, "--json", help="Print JSON instead of a table.")

generate = typer.Typer(no_args_is_help=True, rich_markup_mode="rich")


@dataclass(frozen=True)
class Reading:
    """What photographs are read with, for training as for labelling."""

    source: str = typer.Argument(
        help="A folder of photographs, <folder>/<class>/<image>; imagenet, the folder of $IMAGENET_ROOT; or toy.",
        show_default=False,
    )
    out: Path = OUT
    backbone: str = typer.Option("tf_efficientnet_lite0", help="Any timm model. [The paper: iBOT's ViT-B/16]")
    weights: Path | None = typer.Option(None, help="A file of the backbone's weights.")
    size: int = typer.Option(320, min=32, help="Input side in pixels. [The paper: 512]")
    saliency: str = typer.Option("features", help="features, a folder of masks, or a U2-Net or IS-Net .onnx.")
    seed: int = typer.Option(0, min=0, help="Of the groups of images.")


@dataclass(frozen=True)
class Labelling:
    """How images are scored."""

    network: Path | None = typer.Option(None, help="A trained cascade; by default raw features with Hough scores.")
    counts: str = typer.Option("masks", help="masks, a .csv of path and objects, or a COCO detector's .pth.")
    loops: str = typer.Option("clique", help="clique, or independent: the paper's text, 27 times the matchings.")
    least_single: float = typer.Option(0.2, help="Leave out classes with a smaller share of one-object images.")


@dataclass(frozen=True)
class Selecting:
    """What is kept."""

    share: float = typer.Option(0.3, help="Share of a class's images that is kept.")
    pairs: int = typer.Option(7, min=1, help="Pairs of which each kept image is the source.")
    points: int = typer.Option(32, min=1, help="Points of each pair.")


@dataclass(frozen=True)
class Training:
    """How a cascade is trained."""

    steps: int | None = typer.Option(None, min=1, help="End the training after so many steps.")
    settings: list[str] = typer.Option(
        [], "--set", help="KEY=VALUE of the training, network.KEY=VALUE of the network; repeat or separate by commas."
    )
    features: str = typer.Option(
        "auto", help="keep: read once into files; compute: from the images at each step; auto: keep up to 50 GB."
    )
    loaders: int = typer.Option(0, min=0, help="Processes that decode images ahead with --features compute.")


@dataclass(frozen=True)
class Working:
    """Who does the work."""

    engine: str = typer.Option("local", help="local: processes; ray: this machine or the cluster of RAY_ADDRESS.")
    workers: int = typer.Option(1, min=1, help="Processes; the data set is the same however many.")


def add_to(app: typer.Typer) -> None:
    """Add the commands to ``scbench``."""
    app.add_typer(generate, name="generate", help="Make a data set from photographs with class names.")


@generate.command("train")
@grouped
def train(reading: Reading, training: Training) -> None:
    """Train the cascaded network on the photographs, from class names alone; several GPUs with accelerate launch.

    [bold]scbench generate train photographs --out my-set --steps 300[/bold]
    """
    print(_train(reading, training))


@generate.command("label")
@grouped
def label(reading: Reading, labelling: Labelling, working: Working) -> None:
    """Score every image by closed loops (section 3.4)."""
    _make(("label",), reading, working, _options(reading, labelling))


@generate.command("select")
@grouped
def select(reading: Reading, labelling: Labelling, selecting: Selecting, working: Working) -> None:
    """Choose the best images, pairs and points; labels first what is not labelled."""
    _make(("label", "select"), reading, working, _options(reading, labelling, selecting))


@generate.command("export")
def export(
    out: Path = OUT,
    photographs: Path | None = typer.Option(None, help="Where the photographs lie now, if they or the set were moved."),
    as_json: bool = AS_JSON,
) -> None:
    """Write SPair-style JSON of a finished data set, in the layout of the released SC-ImageNet."""
    from benchmark.running.generate import export_release

    export_release(out, photographs, as_json)


@generate.command("run")
@grouped
def run(
    reading: Reading,
    labelling: Labelling,
    selecting: Selecting,
    training: Training,
    working: Working,
    train: bool = typer.Option(False, "--train", help="Train a cascade on the photographs first, and label with it."),
    as_json: bool = AS_JSON,
) -> None:
    """All of it: photographs to a data set that loads and pre-trains; what is done already is not done again.

    [bold]scbench generate run photographs --out my-set[/bold]

    [bold]scbench run cats --pretrain my-set --eval pf-willow[/bold]
    """
    from sc_imagenet.core.errors import InputError

    if train and labelling.network:
        raise InputError("--train and --network were both given", fix="Label with the one or with the other.")
    given = {"--steps": training.steps, "--set": training.settings, "--loaders": training.loaders}
    idle = [name for name, value in given.items() if value and not train]
    if idle:
        raise InputError(f"{idle[0]} concerns the training of a cascade, but there is no --train")
    if train:
        labelling = replace(labelling, network=_train(reading, training))
    _make(("label", "select", "export"), reading, working, _options(reading, labelling, selecting), as_json)


def _options(reading: Reading, *others: Labelling | Selecting) -> GenerationOptions:
    from sc_imagenet.generation.options import GenerationOptions

    values: dict[str, Any] = {name: value for group in (reading, *others) for name, value in vars(group).items()}
    weights, network = values.pop("weights"), values.pop("network", None)
    values["pretrained"] = True if weights is None else str(weights)
    values["network"] = None if network is None else str(network)
    del values["source"], values["out"]
    return GenerationOptions(**values)


def _train(reading: Reading, training: Training) -> Path:
    from benchmark.running.arguments import weights_by
    from benchmark.running.generate import train_network

    with weights_by("--weights FILE"):
        return train_network(
            reading.source,
            reading.out,
            _options(reading),
            training.steps,
            training.settings,
            training.features,
            training.loaders,
        )


def _make(
    stages: tuple[str, ...], reading: Reading, working: Working, options: GenerationOptions, as_json: bool = False
) -> None:
    from benchmark.running.arguments import weights_by
    from benchmark.running.generate import generate_set, print_generated

    with weights_by("--weights FILE"):
        generated = generate_set(
            stages, reading.source, reading.out, options, working.engine, working.workers, quiet=as_json
        )
    if generated:
        print_generated(reading.out, generated, as_json)
