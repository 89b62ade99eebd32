"""What ``scbench generate`` does: runs the stages and shows how far they are."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from benchmark.running.cascade import train
from sc_imagenet.core.command import nested, settings_of
from sc_imagenet.core.errors import InputError, unknown_name
from sc_imagenet.core.files import files_in, write_json
from sc_imagenet.core.locks import held
from sc_imagenet.core.progress import bars, say
from sc_imagenet.data.catalog import catalog, embedded
from sc_imagenet.data.imagenet import IMAGENET, moved, train_folder
from sc_imagenet.data.record import read_record
from sc_imagenet.data.roots import imagenet_root, open_source
from sc_imagenet.generation.cascade.options import PRESETS, TrainingOptions
from sc_imagenet.generation.cascade.view_sources import feature_reading
from sc_imagenet.generation.export import Exported, export, lead_to, not_of_imagenet, write_release
from sc_imagenet.generation.features import FeatureReader
from sc_imagenet.generation.options import NETWORK, GenerationOptions
from sc_imagenet.generation.pipeline import PhotographSource, Pipeline, open_engine

LABEL_ERRORS = "label_errors.json"  # in a data set's folder


def photograph_source(given: str) -> PhotographSource:
    """The photographs that ``given`` names: a folder of class folders, an ImageNet folder, "imagenet" or a data set.

    Raises:
        InputError: none of these, or a data set without photographs of its own.
    """
    if given == IMAGENET and not Path(given).is_dir():
        return PhotographSource(train_folder(imagenet_root()))
    folder = Path(given).expanduser()
    if not folder.is_dir():
        found = open_source(given).photographs() if given in catalog() else None
        if found is None:
            fix = f"Give <folder>/<class>/<image>, imagenet or {embedded().name}."
            raise InputError("no such folder of photographs", where=given, fix=fix)
        return PhotographSource(*found)
    try:
        return PhotographSource(train_folder(folder))
    except InputError:
        return PhotographSource(folder)


def training_options(preset: str | None, given: Mapping[str, Any], settings: Sequence[str]) -> TrainingOptions:
    """The options of a training: a preset's, None being the default, with what was given and set.

    Args:
        preset: by name.
        given: options by name; those that are None are the preset's.
        settings: KEY=VALUE of ``TrainingOptions``; ``network.KEY`` is one of ``NetworkOptions``.

    Raises:
        InputError: no preset is called so, settings that cannot be used, or the paper's backbone without its weights.
    """
    if preset is not None and preset not in PRESETS:
        raise unknown_name("preset", preset, sorted(PRESETS))
    base = TrainingOptions() if preset is None else PRESETS[preset]()
    changes = {**{name: value for name, value in given.items() if value is not None}, **nested(settings_of(settings))}
    network = changes.pop("network", {})
    if not isinstance(network, Mapping):
        raise InputError(f"network = {network!r:.80} is no object", where="training")
    options = TrainingOptions.from_dict({**base.as_dict(), **changes, "network": {**asdict(base.network), **network}})
    if preset == "paper" and options.backbone == base.backbone and options.pretrained is True:
        raise InputError(
            f"the paper's {base.backbone} is iBOT's, whose weights no package brings",
            fix="Give the released teacher: --weights FILE, or another --backbone.",
        )
    return options


def train_network(
    source: str,
    out: Path,
    options: TrainingOptions,
    steps: int | None,
    read: str = "auto",
    loaders: int = 0,
    keep_every: int = 0,
) -> Path:
    """Train a cascade into ``<out>/work/network``, or go on; the folder of the trained network.

    Args:
        source: of photographs.
        out: the data set's folder.
        options: of the training.
        steps: end after so many.
        read, loaders, keep_every: see ``train``.

    Raises:
        InputError: photographs or settings that cannot be used.
    """
    training = replace(options, size=filled_size(options.backbone, options.layers, options.size))
    root = photograph_source(source).root
    with bars() as update:
        folder = train(
            training,
            root,
            out / NETWORK,
            read=feature_reading(read),
            loaders=loaders,
            max_steps=steps,
            keep_every=keep_every,
            report=update,
        )
    say(f"network: {folder}")
    return folder


def filled_size(backbone: str, layers: Sequence[int] | None, size: int) -> int:
    """The side of images that a backbone's cells fill; said where it is another than ``size``.

    Raises:
        InputError: a backbone or layers that are not there.
    """
    reader = FeatureReader(backbone, layers, size, pretrained=False)
    if reader.backbone.size_note is not None:
        say(reader.backbone.size_note)
    return reader.size


@dataclass(frozen=True)
class Generated:
    """A finished data set: what was written, and the true errors of its labels where they are known."""

    exported: Exported
    label_errors: dict[str, Any] | None


def generate_set(
    stages: tuple[str, ...],
    source: str,
    out: Path,
    options: GenerationOptions,
    engine: str,
    workers: int,
    quiet: bool = False,
) -> Generated | None:
    """Run stages up to the last of ``stages``; None unless that is "export".

    Where the truth is known of the photographs, the errors of labels are written to ``<out>/label_errors.json``.

    Raises:
        InputError: photographs, options or a class that cannot be used, or another process works in ``out``.
    """
    running = open_engine(engine, workers)
    photographs = photograph_source(source)
    if options.network is None:  # a trained one brings its size
        options = replace(options, size=filled_size(options.backbone, None, options.size))
    with held(out, "data set"), bars(quiet=quiet) as update:
        pipeline = Pipeline(photographs, out, options, running, report=update, say=say)
        found = pipeline.scan()
        labels = pipeline.label(found)
        if stages[-1] == "label":
            return None
        selected = pipeline.select(found, labels)
        if stages[-1] == "select":
            return None
        before = _manifests(out)
        exported = export(out, found, labels, selected, options)
    if (out / "spair").exists() and before != _manifests(out):
        say(f"{out / 'spair'} is not of this set yet: 'scbench generate export --out {out}' writes it anew")
    errors = None
    if source in catalog() and not Path(source).is_dir():
        errors = open_source(source).label_errors(files_in(out / "pairs", ".parquet"))
    if errors is not None:
        write_json(out / LABEL_ERRORS, errors)
    return Generated(exported, errors)


def _manifests(out: Path) -> list[str | None]:
    """Of a set's splits; of earlier ones that cannot be read any more none."""
    found: list[str | None] = []
    for split in ("train", "validation"):
        record = None
        with suppress(InputError):
            record = read_record(out / "pairs", split)
        found.append(None if record is None else record.manifest_sha256)
    return found


@dataclass(frozen=True)
class Release:
    """SPair-style JSON of a data set: its folder, pairs by split, photographs that are not ImageNet's."""

    folder: Path
    pairs: dict[str, int]
    others: tuple[str, ...]


def export_release(out: Path, photographs: Path | None = None) -> Release:
    """Write the SPair-style JSON of a finished data set.

    Args:
        out: the data set's folder.
        photographs: where they lie now; None: where ``<out>/JPEGImages`` leads.

    Raises:
        InputError: there is none in ``out``, or its photographs are not there.
    """
    records = {split: read_record(out / "pairs", split) for split in ("train", "validation")}
    written = {split: record for split, record in records.items() if record is not None}
    if not written:
        raise InputError("holds no finished data set", where=out, fix="'scbench generate run' makes one.")
    link = out / "JPEGImages"
    if photographs is not None:
        lead_to(link, photographs, written)
    elif not link.exists():
        raise InputError(moved(link), where=out, fix="Say where they are now: --photographs FOLDER")
    folder = write_release(out, written)
    pairs = {split: record.rows for split, record in written.items()}
    return Release(folder, pairs, tuple(not_of_imagenet(out, written)))
