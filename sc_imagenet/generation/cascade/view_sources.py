"""Where a training's views come from: features kept in files, or computed at each step where they would fill a disk."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Literal

import torch
from accelerate import Accelerator
from filelock import FileLock

from sc_imagenet.core.errors import InputError, unknown_name
from sc_imagenet.core.files import sha256_of
from sc_imagenet.generation.cascade.computed_views import ComputedViews
from sc_imagenet.generation.cascade.training_options import TrainingOptions
from sc_imagenet.generation.cascade.view_features import ViewFeatures, ViewSource
from sc_imagenet.generation.features import FeatureReader
from sc_imagenet.generation.options import key_of
from sc_imagenet.generation.photographs import Scan
from sc_imagenet.generation.saliency import open_saliency

VIEW_SEED = 0  # of the views; not the training's: trainings of several seeds share the files
KEPT_BYTES = 50_000_000_000  # of features; more are computed at each step instead

FeatureReading = Literal["auto", "keep", "compute"]
FEATURE_READINGS: tuple[FeatureReading, ...] = ("auto", "keep", "compute")


def open_views(
    options: TrainingOptions,
    photographs: Scan,
    reader: FeatureReader,
    folder: Path,
    read: FeatureReading,
    loaders: int,
    accelerator: Accelerator,
    report: Callable[[str, int, int, str], None],
) -> ViewSource:
    """The views of the photographs; see ``train`` for ``read`` and ``loaders``, ``folder`` keeps the files.

    Raises:
        InputError: a photograph, its mask or the folder cannot be used.
    """
    if read == "auto":
        read = "keep" if kept_bytes(reader, photographs.count * options.views) <= KEPT_BYTES else "compute"
    if read == "keep":
        return _kept_views(options, photographs, reader, folder, accelerator, report)
    return ComputedViews(photographs, reader, open_saliency(options.saliency), VIEW_SEED, loaders)


def feature_reading(name: str) -> FeatureReading:
    """How features are had, by name.

    Raises:
        InputError: no way is called so.
    """
    for known in FEATURE_READINGS:
        if name == known:
            return known
    raise unknown_name("way to read features", name, FEATURE_READINGS)


def kept_bytes(reader: FeatureReader, views: int) -> int:
    """Size of the files that would keep the features of so many views."""
    device = next(reader.parameters()).device
    one = reader(torch.zeros(1, 3, reader.size, reader.size, device=device))
    return 2 * views * (one.tokens.numel() + one.global_token.numel() + one.tokens[0, 0].numel())


@contextmanager
def one_at_a_time(path: Path) -> Iterator[None]:
    """Hold a lock that trainings beside this one share, so that they do not all read the same photographs."""
    lock = FileLock(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        lock.acquire()
    except OSError as error:
        raise InputError(f"cannot write here ({error.strerror})", where=path.parent) from error
    try:
        yield
    finally:
        lock.release()


def _kept_views(
    options: TrainingOptions,
    photographs: Scan,
    reader: FeatureReader,
    folder: Path,
    accelerator: Accelerator,
    report: Callable[[str, int, int, str], None],
) -> ViewFeatures:
    weights = sha256_of(options.pretrained) if isinstance(options.pretrained, str) else str(options.pretrained)
    if options.pretrained is False:
        weights = f"random {options.seed}"
    identity = f"{options.backbone} {weights} {reader.backbone.layers} {reader.size}"
    with accelerator.main_process_first(), one_at_a_time(folder / f"{key_of(identity)}.lock"):
        return ViewFeatures(
            photographs,
            reader,
            identity,
            open_saliency(options.saliency),
            options.views,
            VIEW_SEED,
            folder,
            lambda done, total: report("features", done, total, ""),
        )
