"""Where views of a training come from: features kept in files, or computed at each step."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
import torch.nn.functional as F
from accelerate import Accelerator
from filelock import FileLock
from torch import Tensor
from torch.utils.data import DataLoader, Dataset
from torchvision.transforms.v2.functional import pil_to_tensor

from sc_imagenet.core.errors import InputError, unknown_name
from sc_imagenet.core.files import sha256_of
from sc_imagenet.core.processes import ended_with_the_reading, keep_freed_memory
from sc_imagenet.data.images import open_image
from sc_imagenet.generation.cascade.options import TrainingOptions
from sc_imagenet.generation.cascade.training_pairs import Draw, Draws, Requests
from sc_imagenet.generation.cascade.view_features import Step, ViewFeatures, Views, ViewSource, part_of_masks
from sc_imagenet.generation.cascade.views import View, draw_view, view_pixels
from sc_imagenet.generation.features import FeatureReader, Features, joined
from sc_imagenet.generation.options import key_of
from sc_imagenet.generation.photographs import Photograph, Scan
from sc_imagenet.generation.saliency import Saliency, open_saliency
from sc_imagenet.geometry.resize import normalised_image

# Features of training views computed at each step, for photographs whose features would fill no disk.
#
# Processes decode the images of coming steps while the network trains on this one's; a step depends on its number
# alone, whether or not it was read ahead.

BATCH = 64  # images a pass
AHEAD = 4  # steps that each decoding process reads ahead


class ComputedViews:
    """The views of every photograph, without a file of features.

    Args:
        scan: the photographs.
        reader: of features; its pass is of half precision (bfloat16) on a GPU.
        saliency: finds the object in whole images; of each view's image the whole is read too.
        seed: of the views.
        loaders: processes that decode images; 0 decodes here.
    """

    def __init__(self, scan: Scan, reader: FeatureReader, saliency: Saliency, seed: int, loaders: int) -> None:
        self.scan, self.reader, self.saliency, self.loaders = scan, reader, saliency, loaders
        self.seed = seed
        self.classes = [number for number, group in enumerate(scan.classes.values()) for _ in group]
        self._starts = np.cumsum([0, *(len(group) for group in scan.classes.values())])
        self._names = list(scan.classes)

    def steps(self, draws: Draws, start: int, stop: int, device: torch.device) -> Iterator[Step]:
        """The steps from ``start`` to before ``stop``.

        Raises:
            InputError: a photograph cannot be read any more.
        """
        images = _StepImages(self, draws)
        ahead: dict[str, Any] = {"prefetch_factor": AHEAD} if self.loaders else {}
        loader: DataLoader[Any] = DataLoader(
            images,
            batch_size=None,
            sampler=range(start, stop),
            num_workers=self.loaders,
            worker_init_fn=_begin_loader,
            pin_memory=device.type == "cuda",
            **ahead,
        )
        with ended_with_the_reading():
            for step, item in zip(range(start, stop), loader):
                if isinstance(item, str):
                    raise InputError(item)
                yield self._step(draws.at(step), item, device)

    def photograph(self, image: int) -> tuple[Photograph, int]:
        """A photograph by its number, and its number in its class."""
        number = self.classes[image]
        row = image - int(self._starts[number])
        return self.scan.classes[self._names[number]][row], row

    def _step(self, draw: Draw, pixels: Tensor, device: torch.device) -> Step:
        places = _places(draw)
        features = self._features(pixels, device)
        wholes = sorted({image for image, _ in places})
        row_of = {place: row for row, place in enumerate(places)}
        seen = features[[row_of[image, 0] for image in wholes]]
        masks = self.saliency.masks(self.scan.root, [self.photograph(image)[0] for image in wholes], seen).cpu()
        mask_of = dict(zip(wholes, masks))

        def views(requests: Requests) -> Views:
            placements = torch.tensor(
                [draw_view(self.seed, self.photograph(image)[1], number).placement() for image, number in requests]
            )
            parts = part_of_masks(torch.stack([mask_of[image] for image, _ in requests]), placements)
            of_views = features[[row_of[place] for place in requests]]
            return Views(of_views, parts.flatten(1).to(device), placements.to(device))

        sides = (*draw.wholes, draw.between, draw.source, draw.target)
        source, target, between, *shown = map(views, sides)
        return Step(source, target, between, shown[0], shown[1], draw.images)

    def _features(self, pixels: Tensor, device: torch.device) -> Features:
        parts = []
        for part in pixels.split(BATCH):
            with torch.autocast(device.type, torch.bfloat16, enabled=device.type == "cuda"):
                parts.append(self.reader(part.to(device, non_blocking=True)).to(torch.float32))
        return joined(parts)


def _places(draw: Draw) -> Requests:
    """The views of a step, each once, and the whole images, whose saliency they take their part of."""
    return sorted({*draw.source, *draw.target, *draw.between, *draw.wholes[0], *draw.wholes[1]})


class _StepImages(Dataset[Any]):
    """The pixels of the views of a step, by the step's number: (M, 3, S, S), or what is wrong with one in words."""

    def __init__(self, views: ComputedViews, draws: Draws) -> None:
        self.views, self.draws = views, draws

    def __getitem__(self, step: int) -> Tensor | str:
        reader = self.views.reader
        pixels = []
        for image, number in _places(self.draws.at(step)):
            photograph, row = self.views.photograph(image)
            view = draw_view(self.views.seed, row, number)
            path = self.views.scan.root / photograph.path
            try:
                pixels.append(view_pixels(path, view, reader.size, reader.mean, reader.std))
            except InputError as error:  # an exception would come back as a traceback of another process
                return str(error)
        return torch.stack(pixels)


def _begin_loader(_: int) -> None:
    keep_freed_memory()


# Regions as images of their own.


class WindowReader:
    """Reads parts of photographs, each as an image of the backbone's full size.

    Args:
        scan: the photographs, numbered in its order.
        reader: of features.
    """

    def __init__(self, scan: Scan, reader: FeatureReader) -> None:
        self.paths = [scan.root / each.path for group in scan.classes.values() for each in group]
        self.reader = reader

    def __call__(self, images: Sequence[int], boxes: Tensor, side: int) -> Features:
        """Features (B * K, C, side, side) of boxes (B, K, 4), left, top, right and bottom as shares of B photographs.

        Raises:
            InputError: a photograph cannot be read any more.
        """
        reader = self.reader
        pixels = []
        for number, of_image in zip(images, boxes.tolist()):
            image = open_image(self.paths[number])
            for box in of_image:
                part = pil_to_tensor(View(*box).apply(image, reader.size)).float().div_(255)
                pixels.append(normalised_image(part, reader.mean, reader.std))
        read = [reader(part.to(boxes.device)) for part in torch.stack(pixels).split(BATCH)]
        tokens = F.adaptive_avg_pool2d(torch.cat([part.tokens for part in read]), side)
        return Features(F.normalize(tokens, dim=1), torch.cat([part.global_token for part in read]))


# Where a training's views come from: features kept in files, or computed at each step where they would fill a disk.

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
    identity = reader.identity(weights)
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
