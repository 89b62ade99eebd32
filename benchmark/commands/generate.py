"""``scbench generate``: from photographs with class names to a data set of corresponding points."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import typer

SOURCE = typer.Argument(
    help="A folder of photographs, <folder>/<class>/<image>; an ImageNet folder; or 'toy'.", show_default=False
)
OUT = typer.Option(..., "--out", help="The data set's folder; what is there goes on where it was left.")
NETWORK = typer.Option(None, "--network", help="A trained cascade; by default raw features with Hough scores.")
BACKBONE = typer.Option("tf_efficientnet_lite0", "--backbone", help="Any timm model. [The paper: iBOT's ViT-B/16]")
PRETRAINED = typer.Option(None, "--weights", help="A file of the backbone's weights.")
SIZE = typer.Option(320, "--size", min=32, help="Input side in pixels. [The paper: 512]")
SALIENCY = typer.Option("features", "--saliency", help="features, a folder of masks, or a U2-Net or IS-Net .onnx.")
COUNTS = typer.Option("masks", "--counts", help="masks, a .csv of path and objects, or a COCO detector's .pth.")
LOOPS = typer.Option("clique", "--loops", help="clique, or independent: the paper's text, 27 times the matchings.")
LEAST_SINGLE = typer.Option(0.2, "--least-single", help="Leave out classes with a smaller share of one-object images.")
SHARE = typer.Option(0.3, "--share", help="Share of a class's images that is kept.")
PAIRS = typer.Option(7, "--pairs", min=1, help="Pairs of which each kept image is the source.")
POINTS = typer.Option(32, "--points", min=1, help="Points of each pair.")
SEED = typer.Option(0, "--seed", min=0, help="Of the groups of images.")
ENGINE = typer.Option("local", "--engine", help="local: processes; ray: this machine or the cluster of RAY_ADDRESS.")
WORKERS = typer.Option(1, "--workers", min=1, help="Processes; the data set is the same however many.")
TRAIN = typer.Option(False, "--train", help="Train a cascade on the photographs first, and label with it.")
STEPS = typer.Option(None, "--steps", min=1, help="End the training after so many steps.")
SETTINGS = typer.Option([], "--set", help="KEY=VALUE of TrainingOptions, such as lr=1e-3; repeat for several.")
READ = typer.Option(
    "auto",
    "--features",
    help="keep: read once into files; compute: from the images at each step; auto: keep up to 50 GB.",
)
LOADERS = typer.Option(0, "--loaders", min=0, help="Processes that decode images ahead with --features compute.")
AS_JSON = typer.Option(False, "--json", help="Print JSON instead of a table.")

generate = typer.Typer(no_args_is_help=True, rich_markup_mode="rich")


def add_to(app: typer.Typer) -> None:
    """Add the commands to ``scbench``."""
    app.add_typer(generate, name="generate", help="Make a data set from photographs with class names.")


@generate.command("train")
def train(
    source: str = SOURCE,
    out: Path = OUT,
    backbone: str = BACKBONE,
    weights: Path | None = PRETRAINED,
    size: int = SIZE,
    saliency: str = SALIENCY,
    steps: int | None = STEPS,
    settings: list[str] = SETTINGS,
    features: str = READ,
    loaders: int = LOADERS,
    seed: int = SEED,
) -> None:
    """Train the cascaded network on the photographs, from class names alone; several GPUs with accelerate launch.

    [bold]scbench generate train photographs --out my-set --steps 300[/bold]
    """
    options = _given({**locals(), "network": None})
    for name in ("steps", "settings", "features", "loaders"):
        del options[name]
    from benchmark.generating import train_network
    from sc_imagenet.generation.options import GenerationOptions

    print(train_network(source, out, GenerationOptions(**options), steps, settings, features, loaders))


@generate.command("label")
def label(
    source: str = SOURCE,
    out: Path = OUT,
    network: Path | None = NETWORK,
    backbone: str = BACKBONE,
    weights: Path | None = PRETRAINED,
    size: int = SIZE,
    saliency: str = SALIENCY,
    counts: str = COUNTS,
    loops: str = LOOPS,
    least_single: float = LEAST_SINGLE,
    seed: int = SEED,
    engine: str = ENGINE,
    workers: int = WORKERS,
) -> None:
    """Score every image by closed loops (section 3.4)."""
    _run(("label",), source, out, engine, workers, False, **_given(locals()))


@generate.command("select")
def select(
    source: str = SOURCE,
    out: Path = OUT,
    network: Path | None = NETWORK,
    backbone: str = BACKBONE,
    weights: Path | None = PRETRAINED,
    size: int = SIZE,
    saliency: str = SALIENCY,
    counts: str = COUNTS,
    loops: str = LOOPS,
    least_single: float = LEAST_SINGLE,
    share: float = SHARE,
    pairs: int = PAIRS,
    points: int = POINTS,
    seed: int = SEED,
    engine: str = ENGINE,
    workers: int = WORKERS,
) -> None:
    """Choose the best images, pairs and points; labels first what is not labelled."""
    _run(("label", "select"), source, out, engine, workers, False, **_given(locals()))


@generate.command("export")
def export(out: Path = OUT, as_json: bool = AS_JSON) -> None:
    """Write SPair-style JSON of a finished data set, in the layout of the released SC-ImageNet."""
    from benchmark.generating import export_release

    export_release(out, as_json)


@generate.command("run")
def run(
    source: str = SOURCE,
    out: Path = OUT,
    network: Path | None = NETWORK,
    backbone: str = BACKBONE,
    weights: Path | None = PRETRAINED,
    size: int = SIZE,
    saliency: str = SALIENCY,
    counts: str = COUNTS,
    loops: str = LOOPS,
    least_single: float = LEAST_SINGLE,
    share: float = SHARE,
    pairs: int = PAIRS,
    points: int = POINTS,
    seed: int = SEED,
    train: bool = TRAIN,
    steps: int | None = STEPS,
    settings: list[str] = SETTINGS,
    features: str = READ,
    loaders: int = LOADERS,
    engine: str = ENGINE,
    workers: int = WORKERS,
    as_json: bool = AS_JSON,
) -> None:
    """All of it: photographs to a data set that loads and pre-trains; what is done already is not done again.

    [bold]scbench generate run photographs --out my-set[/bold]

    [bold]scbench run cats --pretrain my-set --eval pf-willow[/bold]
    """
    options = _given(locals())
    for name in ("train", "steps", "settings", "features", "loaders"):
        del options[name]
    if train:
        from benchmark.generating import train_network
        from sc_imagenet.generation.options import GenerationOptions

        trained = train_network(source, out, GenerationOptions(**options), steps, settings, features, loaders)
        options["network"] = str(trained)
    _run(("label", "select", "export"), source, out, engine, workers, as_json, **options)


def _given(values: dict[str, Any]) -> dict[str, Any]:
    """The options of the labels among a command's arguments, as ``GenerationOptions`` calls them."""
    taken = {"source", "out", "engine", "workers", "as_json"}
    options = {name: value for name, value in values.items() if name not in taken}
    weights, network = options.pop("weights"), options.pop("network")
    options["pretrained"] = True if weights is None else str(weights)
    options["network"] = None if network is None else str(network)
    return options


def _run(
    stages: tuple[str, ...], source: str, out: Path, engine: str, workers: int, as_json: bool, **options: Any
) -> None:
    from benchmark.generating import generate_set, print_generated
    from sc_imagenet.generation.options import GenerationOptions

    generated = generate_set(stages, source, out, GenerationOptions(**options), engine, workers, quiet=as_json)
    if generated:
        print_generated(out, generated, as_json)
