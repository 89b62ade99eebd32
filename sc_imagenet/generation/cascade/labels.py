"""Pseudo labels: the pairs of cells that the image and the region level select for the levels after them (PMPS)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from sc_imagenet.generation.cascade.network import CascadeNetwork
from sc_imagenet.generation.cascade.options import Stage, TrainingOptions
from sc_imagenet.generation.cascade.pmps import (
    Matches,
    PlaceMatches,
    cell_places,
    foreground_matches,
    select_one_to_one,
    suppress_near,
    window_starts,
)
from sc_imagenet.generation.cascade.view_features import Views
from sc_imagenet.generation.cascade.views import carry_cells
from sc_imagenet.generation.features import Features
from sc_imagenet.geometry.correlation import inner_product

Windows = Callable[[Tensor, int], Features]  # boxes, and cells along each side


@dataclass(frozen=True)
class TrainingPairs:
    """Pairs of images of one class each; the target of the next pair is of another class.

    source, target  B whole images each
    between         a third image of each pair's class, that closed loops lead through; None: loops are not asked for
    views           views of the sources and of the targets that the pixel level sees; None: the whole images
    windows         reads boxes (B, K, 4) of the sources and of the targets, shares of the images, as images of their
                    own; None: windows are cut from the images' features
    """

    source: Views
    target: Views
    between: Views | None = None
    views: tuple[Views, Views] | None = None
    windows: tuple[Windows, Windows] | None = None

    def regions(self, network: CascadeNetwork, candidates: Matches) -> tuple[tuple[Features, Tensor], ...]:
        """Windows around candidates in the sources and in the targets; see ``CascadeNetwork.regions``."""
        found = []
        for number, (views, cells) in enumerate(((self.source, candidates.source), (self.target, candidates.target))):
            features, inside = network.regions(views.features, cells)
            if self.windows is not None:
                side, grid = features.grid[0], views.features.grid
                starts = window_starts(cells, grid, side).flip(-1).float()
                boxes = torch.cat((starts, starts + side), -1) / starts.new_tensor([*grid[::-1], *grid[::-1]])
                features = self.windows[number](boxes, side)
            found.append((features, inside))
        return tuple(found)


@torch.no_grad()
def select_candidates(network: CascadeNetwork, pairs: TrainingPairs, options: TrainingOptions) -> Matches:
    """Image level of PMPS: the candidates of each pair, one to one, both cells foreground, on closed loops.

    Args:
        network: its options say how matches are re-weighted.
        pairs: B of them.
        options: which volume is looked at, how many candidates are wanted, and how near loops must close.
    """
    scores = _label_scores(network, pairs.source, pairs.target, options)
    allowed = torch.ones_like(scores, dtype=torch.bool)
    if network.options.saliency:
        allowed &= foreground_matches(pairs.source.saliency, pairs.target.saliency)
    if pairs.between is None or options.loop_radius == 0:
        return select_one_to_one(scores, options.candidates, allowed)
    first = _label_scores(network, pairs.source, pairs.between, options)
    second = _label_scores(network, pairs.between, pairs.target, options)
    through = second.argmax(2).gather(1, first.argmax(2))
    ends = (cell_places(cells, pairs.target.features.grid) for cells in (through, scores.argmax(2)))
    there, here = (places * places.new_tensor(pairs.target.features.grid[::-1]) for places in ends)
    allowed &= ((there - here).norm(dim=-1) <= options.loop_radius)[:, :, None]
    found = select_one_to_one(scores, options.candidates, allowed)
    return replace(found, closed=through.gather(1, found.source))


def _label_scores(network: CascadeNetwork, source: Views, target: Views, options: TrainingOptions) -> Tensor:
    """Re-weighted matches of whole images, that labels are made from."""
    volume = _label_volume(network, "image", source.features, target.features, options)
    return network.reweighted(
        volume,
        source.features,
        target.features,
        source.saliency,
        target.saliency,
        _temperature(network, "image", options),
    )


def _temperature(network: CascadeNetwork, stage: Stage, options: TrainingOptions) -> float:
    """That a stage's matches are read with; volumes of features have no stage."""
    own = options.labels_from == "network"
    return network.options.temperature_of(stage) if own else network.options.temperature


def _label_volume(
    network: CascadeNetwork, stage: Stage, source: Features, target: Features, options: TrainingOptions
) -> Tensor:
    """The volume that a stage selects from; see ``TrainingOptions.labels_from``."""
    if options.labels_from == "network":
        return network.volume(stage, source, target)
    raw = inner_product(source.tokens, target.tokens)
    return raw if options.labels_from == "features" else (raw + network.volume(stage, source, target)) / 2


@torch.no_grad()
def select_pairs(
    network: CascadeNetwork, pairs: TrainingPairs, candidates: Matches, options: TrainingOptions
) -> Matches:
    """Region level of PMPS: the best pair of cells of each candidate's windows; of near ones the best stays."""
    (source, source_cells), (target, target_cells) = pairs.regions(network, candidates)
    ours, theirs = (
        saliency.gather(1, cells.flatten(1)).view(len(source.tokens), -1)
        for saliency, cells in ((pairs.source.saliency, source_cells), (pairs.target.saliency, target_cells))
    )
    volume = _label_volume(network, "region", source, target, options)
    scores = network.reweighted(volume, source, target, ours, theirs, _temperature(network, "region", options))
    if network.options.saliency:
        scores = scores * foreground_matches(ours, theirs)
    refined = network.refine(candidates, pairs.source.features, pairs.target.features, scores)
    grids = pairs.source.features.grid, pairs.target.features.grid
    return suppress_near(refined, *grids, options.pairs, options.radius)


def carry_matches(matches: Matches, pairs: TrainingPairs, source: Views, target: Views) -> PlaceMatches:
    """Matches of cells of whole images, as places of two views of them; invalid where a view does not show them."""
    valid = matches.valid
    carried = []
    for cells, whole, view in ((matches.source, pairs.source, source), (matches.target, pairs.target, target)):
        places = carry_cells(cell_places(cells, whole.features.grid), whole.placements, view.placements)
        valid = valid & ((places > 0) & (places < 1)).all(-1)
        carried.append(places)
    return PlaceMatches(carried[0], carried[1], valid)
