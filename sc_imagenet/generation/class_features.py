"""Features and masks of photographs, computed once, kept in one file a class that is mapped, not loaded."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor
from torchvision.transforms.v2 import functional as F

from sc_imagenet.core.errors import InputError
from sc_imagenet.core.files import atomic_path
from sc_imagenet.data.images import open_image
from sc_imagenet.generation.features import FeatureReader, Features, joined
from sc_imagenet.generation.options import key_of
from sc_imagenet.generation.photographs import Photograph
from sc_imagenet.generation.saliency import Saliency
from sc_imagenet.geometry.resize import normalised_image

# Decoding images ahead in threads, while the network reads those before them.

Place = TypeVar("Place")
Image = TypeVar("Image")

AHEAD = 2  # batches in memory beside the one that is read


def decode_ahead(batches: Iterable[Sequence[Place]], decode: Callable[[Place], Image]) -> Iterator[list[Image]]:
    """What ``decode`` makes of each batch, in order; as many threads as torch computes with.

    Raises:
        whatever ``decode`` raises, when the batch's turn comes.

    >>> list(decode_ahead([[1, 2], [3]], str))
    [['1', '2'], ['3']]
    """
    with ThreadPoolExecutor(torch.get_num_threads()) as threads:
        waiting: deque[list[Future[Image]]] = deque()
        try:
            for batch in batches:
                waiting.append([threads.submit(decode, place) for place in batch])
                if len(waiting) > AHEAD:
                    yield [image.result() for image in waiting.popleft()]
            while waiting:
                yield [image.result() for image in waiting.popleft()]
        finally:
            for future in (each for batch in waiting for each in batch):
                future.cancel()


# Tensors in one file each that is mapped, not loaded; whole or not at all.


def mapped(path: Path) -> dict[str, Tensor] | None:
    """The tensors of a file, mapped; None where there is no whole one."""
    if not path.exists():
        return None
    try:
        with safe_open(path, "pt") as file:
            return {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (SafetensorError, OSError):
        return None  # cut short by something else than us: made again


def kept(path: Path, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Keep tensors in a file, and give them as a later process finds them: in the same order in memory.

    Sums depend on that order in their last bits; a class labelled after an interruption must get the same labels.
    """
    tensors = {name: tensor.contiguous() for name, tensor in tensors.items()}
    with atomic_path(path) as temporary:
        save_file(tensors, temporary)
    return mapped(path) or tensors


# Features and masks of a class's photographs: read once, kept in one file each that is mapped, not loaded.
#
# Files are named by a hash of what they hold depends on: the photographs' content, the backbone and its weights, the
# size. A changed photograph or setting makes another file; two data sets of the same photographs share them.

KEPT = ("tokens", "global_token", "masks")  # of an image's features
BATCH = 16  # images a pass; always the same, since sums may depend on it


@dataclass(frozen=True)
class ClassFeatures:
    """Features, half precision, and masks (n, h, w) of the n photographs of a class."""

    features: Features
    masks: Tensor

    def __getitem__(self, images: Sequence[int]) -> tuple[Features, Tensor]:
        """Features and masks of some of them, float32."""
        chosen = list(images)
        return self.features[chosen].to(torch.float32), self.masks[chosen]


def class_features(
    root: Path,
    photographs: Sequence[Photograph],
    reader: FeatureReader,
    identity: str,
    saliency: Saliency,
    folder: Path,
) -> ClassFeatures:
    """Read them from ``folder``, or compute them and keep them there.

    Args:
        root: that the photographs' paths are relative to.
        photographs: of one class.
        reader: of features.
        identity: of the reader: its backbone, weights, layers and size.
        saliency: of masks.
        folder: where the files are kept.

    Raises:
        InputError: a photograph is gone or has changed since it was scanned.
    """
    content = [each.content for each in photographs]
    key = key_of(identity, *content)
    path = folder / f"features-{key}.safetensors"  # and the masks by features among them
    state = mapped(path)
    if state is None:
        read = _compute(root, photographs, reader)
        state = kept(path, {name: getattr(joined(read), name) for name in KEPT})
    features = Features(*(state[name] for name in KEPT))
    mask_key = key_of([identity, saliency.identity], *content, *saliency.content(photographs))
    mask_path = folder / f"masks-{mask_key}.safetensors"
    masks = mapped(mask_path)
    if masks is None:
        parts = []
        for start in range(0, len(photographs), BATCH):
            rows = slice(start, start + BATCH)
            parts.append(saliency.masks(root, photographs[rows], features[rows].to(torch.float32)))
        masks = kept(mask_path, {"masks": torch.cat(parts)})
    return ClassFeatures(features, masks["masks"])


def _compute(root: Path, photographs: Sequence[Photograph], reader: FeatureReader) -> list[Features]:
    device = next(reader.parameters()).device
    parts = []
    batches = (photographs[start : start + BATCH] for start in range(0, len(photographs), BATCH))
    for images in decode_ahead(batches, lambda each: _pixels(root / each.path, each, reader)):
        parts.append(reader(torch.stack(images).to(device)).to(torch.float16).to("cpu"))
    return parts


def _pixels(path: Path, photograph: Photograph, reader: FeatureReader) -> Tensor:
    """An image as the network takes it."""
    image = open_image(path)
    if image.size != (photograph.width, photograph.height):
        raise InputError("has changed since it was scanned", where=path, fix="Run again to scan it anew.")
    pixels = F.pil_to_tensor(F.resize(image, [reader.size, reader.size])).float().div_(255)
    return normalised_image(pixels, reader.mean, reader.std)
