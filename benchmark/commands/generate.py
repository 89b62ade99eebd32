"""``scbench generate``: from photographs with class names to a data set of corresponding points."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from benchmark.commands.options import (
    LABELS,
    MACHINE,
    MODEL,
    OUTPUT,
    SELECTION,
    TRAINING,
    Json,
    PresetOrNone,
    Seed,
    Settings,
    grouped,
    weights_by,
)
from benchmark.running.generate import Generated, export_release, generate_set, train_network, training_options
from sc_imagenet.core.errors import InputError
from sc_imagenet.core.progress import print_json, say
from sc_imagenet.data.catalog import embedded
from sc_imagenet.generation.options import GenerationOptions

DEFAULT = GenerationOptions()

app = typer.Typer(add_completion=False, no_args_is_help=True)

Out = Annotated[
    Path,
    typer.Option(
        "--out",
        help="The data set's folder; what is there goes on where it was left.",
        rich_help_panel=OUTPUT,
    ),
]


@dataclass(frozen=True)
class Reading:
    """What photographs are read with, for training as for labelling."""

    source: Annotated[
        str,
        typer.Argument(
            help="A folder of photographs, <folder>/<class>/<image>; imagenet, the folder of $IMAGENET_ROOT; or toy."
        ),
    ]
    out: Out
    backbone: Annotated[
        str | None,
        typer.Option(
            help=f"Features are any timm model's, by default {DEFAULT.backbone}'s; the paper's are iBOT's ViT-B/16.",
            rich_help_panel=MODEL,
        ),
    ] = None
    weights: Annotated[Path | None, typer.Option(help="A file of the backbone's weights.", rich_help_panel=MODEL)] = (
        None
    )
    size: Annotated[
        int | None,
        typer.Option(
            min=32,
            help=f"The side of its input in pixels, by default {DEFAULT.size}; the paper's is 512.",
            rich_help_panel=MODEL,
        ),
    ] = None
    pooling: Annotated[
        float | None,
        typer.Option(
            min=1,
            help=f"So many of its cells along each side become one, by default {DEFAULT.pooling}; the paper's are 1.",
            rich_help_panel=MODEL,
        ),
    ] = None
    saliency: Annotated[
        str,
        typer.Option(
            help="What is the object is told by features, a folder of masks, or a U2-Net or IS-Net .onnx.",
            rich_help_panel=MODEL,
        ),
    ] = "features"
    seed: Seed = 0


@dataclass(frozen=True)
class Labelling:
    """How images are scored."""

    network: Annotated[
        Path | None,
        typer.Option(help="A trained cascade; by default raw features with Hough scores.", rich_help_panel=LABELS),
    ] = None
    counts: Annotated[
        str,
        typer.Option(
            help="Objects are counted in masks, a .csv of path and objects, or by a COCO detector's .pth.",
            rich_help_panel=LABELS,
        ),
    ] = "masks"
    loops: Annotated[
        str,
        typer.Option(
            help="Images are scored by loops of a clique, or independent: the paper's text, 27 times the matchings; "
            "pairs are always chosen by cliques.",
            rich_help_panel=LABELS,
        ),
    ] = "clique"
    least_single: Annotated[
        float,
        typer.Option(help="Classes with a smaller share of one-object images are left out.", rich_help_panel=LABELS),
    ] = 0.2


@dataclass(frozen=True)
class Selecting:
    """What is kept."""

    share: Annotated[float, typer.Option(help="This share of a class's images is kept.", rich_help_panel=SELECTION)] = (
        0.3
    )
    pairs: Annotated[
        int,
        typer.Option(min=1, help="Each kept image is the source of so many pairs.", rich_help_panel=SELECTION),
    ] = 7
    points: Annotated[int, typer.Option(min=1, help="Each pair has so many points.", rich_help_panel=SELECTION)] = 32


@dataclass(frozen=True)
class Training:
    """How a cascade is trained."""

    preset: PresetOrNone = None  # paper: iBOT's ViT-B/16 at 512 px, given by --weights
    steps: Annotated[
        int | None, typer.Option(min=1, help="The training ends after so many steps.", rich_help_panel=TRAINING)
    ] = None
    settings: Settings = field(default_factory=list)
    features: Annotated[
        str,
        typer.Option(
            help="keep: read once into files; compute: from the images at each step; auto: keep up to 50 GB.",
            rich_help_panel=TRAINING,
        ),
    ] = "auto"
    loaders: Annotated[
        int,
        typer.Option(
            min=0, help="So many processes decode images ahead with --features compute.", rich_help_panel=MACHINE
        ),
    ] = 0
    keep_every: Annotated[
        int,
        typer.Option(
            min=0,
            help="The network is kept after every so many steps, as <out>/work/network/steps/<step>.",
            rich_help_panel=OUTPUT,
        ),
    ] = 0


@dataclass(frozen=True)
class Working:
    """Who does the work."""

    engine: Annotated[
        str,
        typer.Option(
            help="local: processes; ray: this machine or the cluster of RAY_ADDRESS.", rich_help_panel=MACHINE
        ),
    ] = "local"
    workers: Annotated[
        int,
        typer.Option(
            min=1, help="So many processes work; the data set is the same however many.", rich_help_panel=MACHINE
        ),
    ] = 1


@app.callback()
def generate() -> None:
    """Make a data set from photographs with class names."""


@app.command("train")
@grouped
def train(reading: Reading, training: Training) -> None:
    """Train the cascaded network on the photographs, from class names alone; several GPUs with accelerate launch.

    KEY of --set is an option of the training, network.KEY one of the network.

    [bold]scbench generate train photographs --out my-set --steps 300[/bold]
    """
    print(_train(reading, training))


@app.command("label")
@grouped
def label(reading: Reading, labelling: Labelling, working: Working) -> None:
    """Score every image by closed loops (section 3.4).

    [bold]scbench generate label photographs --out my-set --workers 4[/bold]
    """
    _make(("label",), reading, working, _options(reading, labelling))


@app.command("select")
@grouped
def select(reading: Reading, labelling: Labelling, selecting: Selecting, working: Working) -> None:
    """Choose the best images, pairs and points; labels first what is not labelled.

    [bold]scbench generate select photographs --out my-set --share 0.3[/bold]
    """
    _make(("label", "select"), reading, working, _options(reading, labelling, selecting))


@app.command("export")
def export(
    out: Out,
    photographs: Annotated[
        Path | None,
        typer.Option(help="The photographs lie here now, if they or the set were moved.", rich_help_panel=OUTPUT),
    ] = None,
    as_json: Json = False,
) -> None:
    """Write SPair-style JSON of a finished data set, in the layout of the released SC-ImageNet.

    [bold]scbench generate export --out my-set[/bold]
    """
    release = export_release(out, photographs)
    if release.others:
        say(
            f"{len(release.others):,} photographs, {release.others[0]} first, are not called as ImageNet's training "
            "images: they are in this set's JPEGImages, under numbers of its own, and in no IMAGENET_ROOT"
        )
    if as_json:
        print_json({"folder": str(release.folder), "pairs": release.pairs})
    else:
        print(f"{sum(release.pairs.values()):,} pairs in {release.folder}")


@app.command("run")
@grouped
def run(
    reading: Reading,
    labelling: Labelling,
    selecting: Selecting,
    training: Training,
    working: Working,
    train: Annotated[
        bool,
        typer.Option(
            "--train",
            help="A cascade is trained on the photographs first, and labels them.",
            rich_help_panel=TRAINING,
        ),
    ] = False,
    as_json: Json = False,
) -> None:
    """All of it: photographs to a data set that loads and pre-trains; what is done already is not done again.

    [bold]scbench generate run photographs --out my-set[/bold]

    [bold]scbench run cats --pretrain my-set --eval pf-willow[/bold]
    """
    if train and labelling.network:
        raise InputError("--train and --network were both given", fix="Label with the one or with the other.")
    given = {
        "--preset": training.preset,
        "--steps": training.steps,
        "--set": training.settings,
        "--loaders": training.loaders,
        "--keep-every": training.keep_every,
    }
    idle = [name for name, value in given.items() if value and not train]
    if idle:
        raise InputError(f"{idle[0]} concerns the training of a cascade, but there is no --train")
    if train:
        labelling = replace(labelling, network=_train(reading, training))
    _make(("label", "select", "export"), reading, working, _options(reading, labelling, selecting), as_json)


def _options(reading: Reading, *others: Labelling | Selecting) -> GenerationOptions:
    values: dict[str, Any] = {name: value for group in (reading, *others) for name, value in vars(group).items()}
    weights, network = values.pop("weights"), values.pop("network", None)
    values["pretrained"] = True if weights is None else str(weights)
    values["network"] = None if network is None else str(network)
    del values["source"], values["out"]
    for name in ("backbone", "size", "pooling"):
        if values[name] is None:
            del values[name]
    return GenerationOptions(**values)


def _train(reading: Reading, training: Training) -> Path:
    given = {name: getattr(reading, name) for name in ("backbone", "size", "pooling", "saliency", "seed")}
    if reading.weights is not None:
        given["pretrained"] = str(reading.weights)
    options = training_options(training.preset, given, training.settings)
    with weights_by("--weights FILE"):
        return train_network(
            reading.source,
            reading.out,
            options,
            training.steps,
            read=training.features,
            loaders=training.loaders,
            keep_every=training.keep_every,
        )


def _make(
    stages: tuple[str, ...], reading: Reading, working: Working, options: GenerationOptions, as_json: bool = False
) -> None:
    with weights_by("--weights FILE"):
        generated = generate_set(
            stages, reading.source, reading.out, options, working.engine, working.workers, quiet=as_json
        )
    if generated:
        print_generated(reading.out, generated, as_json)


def print_generated(out: Path, generated: Generated, as_json: bool) -> None:
    """Print the counts of a data set, and the errors of its labels where they are known."""
    exported, errors = generated.exported, generated.label_errors
    counts = exported.statistics.as_dict()
    if as_json:
        print_json({"folder": str(out), **counts, "label_errors": errors})
        return
    table = Table(show_header=False, box=None)
    table.add_column()
    table.add_column(justify="right")
    for name in ("images", "images_of_one_object", "kept_images", "classes", "pairs", "points"):
        table.add_row(name.replace("_", " "), f"{counts[name]:,}")
    for split, record in exported.records.items():
        table.add_row(f"pairs in {split}", f"{record.rows:,}")
    table.add_row("median loop offset, all matched points", f"{counts['median_offset_matched']} px")
    table.add_row("median loop offset, selected points", f"{counts['median_offset_selected']} px")
    for name, value in (errors or {}).items():
        table.add_row(f"true error: {name}", f"{value:,}" if isinstance(value, int) else f"{value:.1f}")
    Console(highlight=False).print(table)
    for name, reason in counts["left_out"].items():
        say(f"no pairs of {name}: {reason}")
    short = len(counts["shortfalls"])
    if short:
        say(f"{short} classes have fewer pairs or points than asked for: see {out / 'README.md'}")
    print(f"data set: {out}    next: scbench run cats --pretrain {out} --preset tiny --eval {embedded().name}")
