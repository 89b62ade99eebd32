"""``python -m tests.fhog_statistics PHOTOGRAPHS``: makes ``baselines/fhog.safetensors`` of every other photograph.

The mean of a cell's 31 features and the covariances of two cells by their offset; that file was made of the photographs
of 54 categories of Caltech-101, without any label."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor
from torchvision.transforms.v2 import functional as F

from baselines.proposalflow import CELLS, STATISTICS
from sc_imagenet.core.files import atomic_path
from sc_imagenet.data.images import open_image
from sc_imagenet.data.photograph_pairs import photographs_below
from sc_imagenet.geometry.fhog import statistics


def main(folder: Path) -> None:
    """Write the file beside ``baselines/proposalflow.py``."""
    names = [name for name, _ in photographs_below(folder)[::2]]
    mean, covariances = statistics(_opened(folder, names), CELLS)
    place = Path(__file__).parents[1] / "baselines" / STATISTICS
    with atomic_path(place) as temporary:
        save_file({"mean": mean, "covariances": covariances.half()}, temporary)


def _opened(folder: Path, names: list[str]) -> Iterator[Tensor]:
    for name in names:
        yield F.pil_to_tensor(open_image(folder / name)).to(torch.float32) / 255


if __name__ == "__main__":
    main(Path(sys.argv[1]))
