"""What one training step of the cascade minimises, from class labels alone (Eq. 3)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from sc_imagenet.generation.cascade.losses import class_loss, pixel_loss, pooled_score
from sc_imagenet.generation.cascade.network import CascadeNetwork
from sc_imagenet.generation.cascade.network_options import STAGES, Stage
from sc_imagenet.generation.cascade.pmps import (
    Matches,
    PlaceMatches,
    cell_places,
    foreground_matches,
    hough_scores,
    match_votes,
    select_one_to_one,
    suppress_near,
)
from sc_imagenet.generation.cascade.training_options import TrainingOptions
from sc_imagenet.generation.cascade.view_features import Views
from sc_imagenet.generation.cascade.views import carry_cells
from sc_imagenet.generation.features import Features
from sc_imagenet.geometry.correlation import inner_product

LEAST_SCORE = 1e-4  # added to Hough scores, whose greatest is 1, before their logarithm


@dataclass(frozen=True)
class TrainingPairs:
    """Pairs of images of one class each; the target of the next pair is of another class.

    source, target  B whole images each
    between         a third image of each pair's class, that closed loops lead through; None: loops are not asked for
    views           views of the sources and of the targets that the pixel level sees; None: the whole images
    """

    source: Views
    target: Views
    between: Views | None = None
    views: tuple[Views, Views] | None = None


def cascade_losses(network: CascadeNetwork, pairs: TrainingPairs, options: TrainingOptions) -> Mapping[str, Tensor]:
    """The weighted losses of each stage that is trained, by the stage's name; their sum is the step's.

    A loss without weight is not computed; see ``TrainingOptions.weight``.
    """
    stages = network.options.stages
    losses: dict[str, Tensor] = {}
    if (weight := options.weight("image")) > 0:
        losses["image"] = weight * _image_loss(network, pairs, options)
    if stages == "image":
        return losses
    candidates = select_candidates(network, pairs, options)
    if (weight := options.weight("region")) > 0:
        losses["region"] = weight * _region_loss(network, pairs, candidates, options)
    if stages == "pixel" and (weight := options.weight("pixel")) > 0:
        matches = select_pairs(network, pairs, candidates, options)
        losses["pixel"] = weight * _pixel_loss(network, pairs, matches, options)
    return losses


def _image_loss(network: CascadeNetwork, pairs: TrainingPairs, options: TrainingOptions) -> Tensor:
    volume = network.volume("image", pairs.source.features, pairs.target.features)
    shifted = network.volume("image", pairs.source.features, pairs.target.features[_shifted(len(volume))])
    weights = _weights(pairs, network)
    shifted_weights = weights[0], None if weights[1] is None else weights[1].roll(-1, 0)
    temperature = network.options.temperature
    return class_loss(
        pooled_score(volume, options.class_loss, temperature, *weights),
        pooled_score(shifted, options.class_loss, temperature, *shifted_weights),
        options.class_loss,
        options.margin,
    )


def _shifted(count: int) -> list[int]:
    return [*range(1, count), 0]


def _weights(pairs: TrainingPairs, network: CascadeNetwork) -> tuple[Tensor | None, Tensor | None]:
    return (pairs.source.saliency, pairs.target.saliency) if network.options.saliency else (None, None)


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
    if pairs.between is not None and options.loop_radius > 0:
        first = _label_scores(network, pairs.source, pairs.between, options)
        second = _label_scores(network, pairs.between, pairs.target, options)
        through = second.argmax(2).gather(1, first.argmax(2))
        ends = (cell_places(cells, pairs.target.features.grid) for cells in (through, scores.argmax(2)))
        there, here = (places * places.new_tensor(pairs.target.features.grid[::-1]) for places in ends)
        allowed &= ((there - here).norm(dim=-1) <= options.loop_radius)[:, :, None]
    return select_one_to_one(scores, options.candidates, allowed)


def _label_scores(network: CascadeNetwork, source: Views, target: Views, options: TrainingOptions) -> Tensor:
    """Re-weighted matches of whole images, that labels are made from."""
    volume = _label_volume(network, "image", source.features, target.features, options)
    return network.reweighted(volume, source.features, target.features, source.saliency, target.saliency)


def _label_volume(
    network: CascadeNetwork, stage: Stage, source: Features, target: Features, options: TrainingOptions
) -> Tensor:
    """The volume that a stage selects from; see ``TrainingOptions.labels_from``."""
    if options.labels_from == "network":
        return network.volume(stage, source, target)
    raw = inner_product(source.tokens, target.tokens)
    return raw if options.labels_from == "features" else (raw + network.volume(stage, source, target)) / 2


def _region_loss(
    network: CascadeNetwork, pairs: TrainingPairs, candidates: Matches, options: TrainingOptions
) -> Tensor:
    """Windows around candidates match better than windows of two classes."""
    source, _ = network.regions(pairs.source.features, candidates.source)
    target, _ = network.regions(pairs.target.features, candidates.target)
    volume = network.volume("region", source, target)
    shifted = [int(k) for k in torch.arange(len(volume)).roll(-candidates.source.shape[1])]  # the next pair's regions
    negative = network.volume("region", source, target[shifted])
    # A window is foreground by selection; pairs with fewer candidates fill up with cell 0, which must not count.
    counted = candidates.valid.flatten()
    return class_loss(
        pooled_score(volume, options.class_loss, network.options.temperature),
        pooled_score(negative, options.class_loss, network.options.temperature),
        options.class_loss,
        options.margin,
        counted & counted[shifted],
    )


@torch.no_grad()
def select_pairs(
    network: CascadeNetwork, pairs: TrainingPairs, candidates: Matches, options: TrainingOptions
) -> Matches:
    """Region level of PMPS: the best pair of cells of each candidate's windows; of near ones the best stays."""
    source, source_cells = network.regions(pairs.source.features, candidates.source)
    target, target_cells = network.regions(pairs.target.features, candidates.target)
    ours, theirs = (
        saliency.gather(1, cells.flatten(1)).view(len(source.tokens), -1)
        for saliency, cells in ((pairs.source.saliency, source_cells), (pairs.target.saliency, target_cells))
    )
    volume = _label_volume(network, "region", source, target, options)
    scores = network.reweighted(volume, source, target, ours, theirs)
    if network.options.saliency:
        scores = scores * foreground_matches(ours, theirs)
    refined = network.refine(candidates, pairs.source.features, pairs.target.features, scores)
    grids = pairs.source.features.grid, pairs.target.features.grid
    return suppress_near(refined, *grids, options.pairs, options.radius)


def _pixel_loss(network: CascadeNetwork, pairs: TrainingPairs, matches: Matches, options: TrainingOptions) -> Tensor:
    """Loss of the pixel level on the matches, a share of it after Hough scores have re-weighted the volume."""
    source, target = pairs.views or (pairs.source, pairs.target)
    places = carry_matches(matches, pairs, source, target)
    volume = network.volume("pixel", source.features, target.features)
    logits = volume / network.options.temperature
    grids = source.features.grid, target.features.grid
    share = options.hough_share if network.options.hough else 0.0
    loss = volume.sum() * 0
    if share < 1:
        loss = (1 - share) * pixel_loss(logits, places, *grids, options.sigma, options.pixel_loss)
    if share > 0:
        ours, theirs = (source.saliency, target.saliency) if network.options.saliency else (None, None)
        votes = match_votes(volume, network.options)
        scores = hough_scores(votes, *grids, network.options, ours, theirs)
        reweighted = logits + (scores + LEAST_SCORE).log()
        loss = loss + share * pixel_loss(reweighted, places, *grids, options.sigma, options.pixel_loss)
    return loss


def carry_matches(matches: Matches, pairs: TrainingPairs, source: Views, target: Views) -> PlaceMatches:
    """Matches of cells of whole images, as places of two views of them; invalid where a view does not show them."""
    valid = matches.valid
    carried = []
    for cells, whole, view in ((matches.source, pairs.source, source), (matches.target, pairs.target, target)):
        places = carry_cells(cell_places(cells, whole.features.grid), whole.placements, view.placements)
        valid = valid & ((places > 0) & (places < 1)).all(-1)
        carried.append(places)
    return PlaceMatches(carried[0], carried[1], valid)


def trained_parameters(network: CascadeNetwork, options: TrainingOptions) -> list[nn.Parameter]:
    """Those of the stages whose losses have a weight; the others, which nothing reads, are frozen."""
    network.requires_grad_(False)
    for stage in STAGES[: options.network.depth]:
        if options.weight(stage) > 0:
            network.stages[stage].requires_grad_(True)
    return [each for each in network.parameters() if each.requires_grad]
