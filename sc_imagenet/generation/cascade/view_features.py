"""Features of the views that training sees, read once and kept in one file a class.

A file is named by a hash of what it depends on and written whole or not at all: what an interruption left is taken
up again. Files are mapped, not loaded: a step reads the rows it needs.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Protocol

import torch
import torch.nn.functional as F
from torch import Tensor

from sc_imagenet.generation.cascade.training_pairs import Draws, Requests
from sc_imagenet.generation.cascade.views import VIEWS_VERSION, ViewDataset
from sc_imagenet.generation.class_features import decode_ahead, kept, mapped
from sc_imagenet.generation.features import FeatureReader, Features
from sc_imagenet.generation.photographs import Photograph, Scan
from sc_imagenet.generation.saliency import Saliency
from sc_imagenet.geometry.grids import cell_centres, read_at

BATCH = 8  # images a pass

Report = Callable[[int, int], None]  # (done, of how many)


@dataclass(frozen=True)
class Views:
    """Some views.

    features    of B views
    saliency    (B, N) in [0, 1]
    placements  (B, 4), see ``View.placement``
    """

    features: Features
    saliency: Tensor
    placements: Tensor


@dataclass(frozen=True)
class Step:
    """What a training step takes.

    source, target              the pairs' whole images
    between                     a third image of each pair's class
    source_views, target_views  the pairs as the pixel level sees them
    images                      numbers of the pairs' photographs, the sources' and the targets'
    """

    source: Views
    target: Views
    between: Views
    source_views: Views
    target_views: Views
    images: tuple[Sequence[int], Sequence[int]] = ((), ())


class ViewSource(Protocol):
    """Where a training's views come from."""

    @property
    def classes(self) -> Sequence[int]:
        """Class number of each photograph."""

    def steps(self, draws: Draws, start: int, stop: int, device: torch.device) -> Iterator[Step]:
        """The steps from ``start`` to before ``stop``.

        Raises:
            InputError: a photograph cannot be read any more.
        """


class ViewFeatures:
    """The first ``count`` views of every photograph.

    Args:
        scan: the photographs.
        reader: of features.
        identity: of the reader and its weights.
        saliency: finds the object in whole images; views take their part of it.
        count: views of each photograph.
        seed: of the views.
        folder: where the files are kept.
        report: called with (photographs read, of how many).

    Raises:
        InputError: a photograph cannot be read.
    """

    def __init__(
        self,
        scan: Scan,
        reader: FeatureReader,
        identity: str,
        saliency: Saliency,
        count: int,
        seed: int,
        folder: Path,
        report: Report = lambda done, total: None,
    ) -> None:
        from sc_imagenet.generation.options import key_of

        self.count = count
        self.classes: list[int] = []  # of each photograph
        self._place: list[tuple[dict[str, Tensor], int]] = []  # file and row of each photograph
        for number, photographs in enumerate(scan.classes.values()):
            about = [identity, saliency.identity, count, seed, VIEWS_VERSION]
            key = key_of(about, *(each.content for each in photographs), *saliency.content(photographs))
            path = folder / f"views-{key}.safetensors"
            views = mapped(path)
            if views is None:
                data = ViewDataset(
                    [scan.root / each.path for each in photographs], reader.size, reader.mean, reader.std, seed
                )
                views = kept(path, read_views(data, scan.root, photographs, reader, saliency, count))
            self.classes += [number] * len(photographs)
            self._place += [(views, row) for row in range(len(photographs))]
            report(len(self._place), scan.count)

    def steps(self, draws: Draws, start: int, stop: int, device: torch.device) -> Iterator[Step]:
        """See ``ViewSource``."""
        for draw in map(draws.at, range(start, stop)):
            sides = (*draw.wholes, draw.between, draw.source, draw.target)
            source, target, between, *seen = (self._read(side, device) for side in sides)
            yield Step(source, target, between, seen[0], seen[1], draw.images)

    def _read(self, requests: Requests, device: torch.device) -> Views:
        """Views by (image, number), float32."""
        rows: dict[str, list[Tensor]] = {}
        for image, number in requests:
            views, row = self._place[image]
            for name, values in views.items():
                rows.setdefault(name, []).append(values[row, number])
        read = {name: torch.stack(values).to(device).float() for name, values in rows.items()}
        # Half precision has rounded the norms.
        features = Features(F.normalize(read["tokens"], dim=1), read["global_token"])
        return Views(features, read["saliency"].flatten(1), read["placements"])


@torch.no_grad()
def read_views(
    data: ViewDataset,
    root: Path,
    photographs: Sequence[Photograph],
    reader: FeatureReader,
    saliency: Saliency,
    count: int,
) -> dict[str, Tensor]:
    """Tokens (n, V, C, h, w), global tokens, saliency (n, V, h, w), half precision, and placements (n, V, 4)."""
    device = next(reader.parameters()).device
    parts: dict[str, list[Tensor]] = {"tokens": [], "global_token": [], "saliency": [], "placements": []}
    batches = [range(start, min(start + BATCH, len(photographs))) for start in range(0, len(photographs), BATCH)]
    decoded = decode_ahead(
        ([(index, number) for index in batch] for batch in batches for number in range(count)), data.__getitem__
    )
    for batch in batches:
        views: dict[str, list[Tensor]] = {name: [] for name in parts}
        masks: Tensor | None = None
        for items in islice(decoded, count):
            features = reader(torch.stack([item["image"] for item in items]).to(device)).to("cpu")
            placements = torch.stack([item["placement"] for item in items])
            if masks is None:  # view 0 is the whole image
                masks = saliency.masks(root, [photographs[index] for index in batch], features)
            views["tokens"].append(features.tokens.half())
            views["global_token"].append(features.global_token.half())
            views["saliency"].append(part_of_masks(masks, placements).half())
            views["placements"].append(placements)
        for name, values in views.items():
            parts[name].append(torch.stack(values, 1))
    return {name: torch.cat(values) for name, values in parts.items()}


def part_of_masks(masks: Tensor, placements: Tensor) -> Tensor:
    """What views see of their images' masks: (B, h, w) and (B, 4) -> (B, h, w).

    >>> left_dark = torch.tensor([[[0.0, 1.0], [0.0, 1.0]]])
    >>> part_of_masks(left_dark, torch.tensor([[-1.0, 1.0, 1.0, 0.0]])).tolist()
    [[[1.0, 0.0], [1.0, 0.0]]]
    """
    height, width = masks.shape[-2:]
    across, down = (cell_centres(side, 1) / side for side in (width, height))
    x = (across[None] - placements[:, 2:3]) / placements[:, :1]
    y = (down[None] - placements[:, 3:4]) / placements[:, 1:2]
    places = torch.stack((x[:, None].expand(-1, height, -1), y[:, :, None].expand(-1, -1, width)), -1)
    return read_at(masks[:, None].float(), places.flatten(1, 2), 1).view(-1, height, width)
