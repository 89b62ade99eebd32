"""Whether a stage matches better than the features it began with, told without labels, by loops that should close.

A crop of a held-out photograph is matched to a second photograph of its class, on to a third, and back to the whole of
the first. Where each cell of the crop should come out is known, and how far off it does is a distance in cells. A fixed
pattern, which makes images of a class alike and closes loops of whole images, does not know where the crop was taken.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from sc_imagenet.generation.cascade.network import SHARPNESS, CascadeNetwork
from sc_imagenet.generation.cascade.options import Stage
from sc_imagenet.generation.cascade.pmps import FOREGROUND, cell_places, read_out
from sc_imagenet.generation.cascade.view_features import Step, Views
from sc_imagenet.generation.cascade.views import carry_cells
from sc_imagenet.geometry.correlation import inner_product

TEMPERATURES = (0.05, 0.07, 0.1, 0.14)  # that a stage may be read with

ScoresOf = Callable[[Views, Views], Iterator[Tensor]]  # at each of some temperatures


@dataclass(frozen=True)
class Closing:
    """How well loops close.

    offset       the median over foreground cells of how far off they come out, in cells; infinite if there are none
    temperature  that the volume was read with
    """

    offset: float
    temperature: float


def closing_of(network: CascadeNetwork, stage: Stage, held: Sequence[Step]) -> Closing:
    """How well a stage, read as at inference, closes loops, at the temperature that closes them best.

    The pixel stage is read at the one its loss is taken at.
    """
    temperatures = (network.options.temperature,) if stage == "pixel" else temperatures_of(network)

    def scores_of(source: Views, target: Views) -> Iterator[Tensor]:
        features = source.features, target.features
        return network.scores_at(temperatures, stage, *features, source.saliency, target.saliency)

    return _best(temperatures, scores_of, held)


def closing_of_features(network: CascadeNetwork, held: Sequence[Step]) -> Closing:
    """The same of the features that every stage begins with."""
    temperatures = temperatures_of(network)

    def scores_of(source: Views, target: Views) -> Iterator[Tensor]:
        ours, theirs = source.features, target.features
        volume = inner_product(ours.tokens, theirs.tokens)
        for temperature in temperatures:
            yield network.reweighted(volume, ours, theirs, source.saliency, target.saliency, temperature)

    return _best(temperatures, scores_of, held)


@torch.no_grad()
def _best(temperatures: Sequence[float], scores_of: ScoresOf, held: Sequence[Step]) -> Closing:
    offsets: dict[float, list[Tensor]] = {temperature: [] for temperature in temperatures}
    for step in held:
        legs = (step.source_views, step.target), (step.target, step.between), (step.between, step.source)
        for temperature, scores in zip(temperatures, zip(*(scores_of(*leg) for leg in legs))):
            offsets[temperature].append(loop_offsets(scores, step))
    return Closing(*min((_median(each), temperature) for temperature, each in offsets.items()))


def temperatures_of(network: CascadeNetwork) -> tuple[float, ...]:
    """That a network's volumes may be read with; one where its reading has none."""
    options = network.options
    read = options.reading == "probability" or (options.hough and options.votes == "softmax")
    return TEMPERATURES if read else (options.temperature,)


def loop_offsets(scores: Iterable[Tensor], step: Step) -> Tensor:
    """How far off the foreground cells of the source's view come out, in cells: (M,).

    Args:
        scores: of the three legs, (B, N, N') each: view of the source, target, third image, source.
        step: B triples.
    """
    first, second, third = scores
    cells = second.argmax(2).gather(1, first.argmax(2))
    rows, columns = step.source.features.grid
    ends, _ = read_out(third, (rows, columns), SHARPNESS)
    ends = ends.gather(1, cells[..., None].expand(-1, -1, 2))
    grid = step.source_views.features.grid
    starts = cell_places(torch.arange(grid[0] * grid[1], device=cells.device), grid).expand(len(cells), -1, -1)
    true = carry_cells(starts, step.source_views.placements, step.source.placements)
    off = (ends + 0.5 - true * true.new_tensor([columns, rows])).norm(dim=-1)
    return off[step.source_views.saliency >= FOREGROUND]


def _median(parts: Sequence[Tensor]) -> float:
    return float(torch.cat(list(parts)).median()) if any(map(len, parts)) else math.inf
