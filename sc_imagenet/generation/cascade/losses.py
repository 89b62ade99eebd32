"""What one training step of the cascade minimises, from class labels alone (section "Training", Eq. 2 and 3)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sc_imagenet.generation.cascade.network import CascadeNetwork
from sc_imagenet.generation.cascade.options import STAGES, Stage, TrainingOptions
from sc_imagenet.generation.cascade.pmps import (
    Matches,
    PlaceMatches,
    cell_places,
    foreground_matches,
    hough_scores,
    match_probability,
    match_votes,
    select_one_to_one,
    suppress_near,
)
from sc_imagenet.generation.cascade.view_features import Views
from sc_imagenet.generation.cascade.views import carry_cells
from sc_imagenet.generation.features import Features
from sc_imagenet.geometry.correlation import Grid, inner_product
from sc_imagenet.geometry.grids import read_at

# The three losses of the cascade (section "Training" of the paper, Eq. 2 and 3).

ClassLoss = Literal["margin", "literal"]
PixelLoss = Literal["softmax", "binary"]


def class_loss(
    positive: Tensor, negative: Tensor, kind: ClassLoss, margin: float, counted: Tensor | None = None
) -> Tensor:
    """Eq. 2: images of one class match better than images of two.

    [R] "literal" is mean(-AP(positive) + AP(negative)) on the volumes themselves. It has no lower bound, and a free
    projection collapses under it. "margin" pools the probability of every match, which lies in [0, 1], and asks no
    more than that the positive pair leads by ``margin``.

    Args:
        positive, negative: pooled scores (B,), see ``pooled_score``.
        kind: "margin" or "literal".
        margin: lead that is enough, of a score in [0, 1].
        counted: bool (B,), which ones the mean is over; None: all.
    """
    each = negative - positive if kind == "literal" else (margin + negative - positive).relu()
    return each.mean() if counted is None else (each * counted).sum() / counted.sum().clamp(min=1)


def pooled_score(
    volume: Tensor,
    kind: ClassLoss,
    temperature: float,
    source_weight: Tensor | None = None,
    target_weight: Tensor | None = None,
) -> Tensor:
    """AP: maximum over the other image's cells, then the mean over cells, both directions averaged; (B,).

    Args:
        volume: (B, N_source, N_target).
        kind: "literal" pools the volume, "margin" the probability of every match.
        temperature: of that probability.
        source_weight, target_weight: (B, N) saliency by which cells count; None: all alike.

    >>> pooled_score(torch.eye(2)[None], "literal", 0.05).tolist()
    [1.0]
    """
    scores = volume if kind == "literal" else match_probability(volume, temperature).clamp(min=1e-12).sqrt()
    directions = []
    for dim, weight in ((2, source_weight), (1, target_weight)):
        best = scores.amax(dim)
        if weight is None:
            directions.append(best.mean(1))
        else:
            directions.append((best * weight).sum(1) / weight.sum(1).clamp(min=1e-6))
    return (directions[0] + directions[1]) / 2


def pixel_loss(
    logits: Tensor, matches: PlaceMatches, source: Grid, target: Grid, sigma: float, kind: PixelLoss = "softmax"
) -> Tensor:
    """Cross entropy between rows and columns of the volume and a Gaussian around the true place.

    A place between cells has the bilinear mean of their rows.

    Args:
        logits: (B, N_source, N_target), a volume divided by its temperature.
        matches: (B, K) of them; where invalid, they do not count.
        source, target: rows and columns of the grids.
        sigma: of the Gaussian, in cells.
        kind: "softmax" over a row's cells; or "binary", the paper's, where each cell is of the match or not by itself.

    Returns:
        Mean over the valid matches and both directions, a scalar; 0 if none is valid.
    """
    each = torch.zeros_like(matches.valid, dtype=logits.dtype)
    for volume, here, there, grid, other in (
        (logits, matches.source, matches.target, source, target),
        (logits.transpose(1, 2), matches.target, matches.source, target, source),
    ):
        each = each + _row_loss(rows_at(volume, here, grid), gaussian_targets(there, other, sigma), kind)
    return (each * matches.valid).sum() / (2 * matches.valid.sum().clamp(min=1))


def _row_loss(logits: Tensor, wanted: Tensor, kind: PixelLoss) -> Tensor:
    """Of each row of logits (B, K, N) against ``wanted`` of sum 1: (B, K)."""
    if kind == "softmax":
        return -(wanted * logits.log_softmax(-1)).sum(-1)
    peak = wanted.amax(-1, keepdim=True)  # a cell at the very place is of the match
    return F.binary_cross_entropy_with_logits(logits, wanted / peak, reduction="none").mean(-1)


def rows_at(volume: Tensor, places: Tensor, grid: Grid) -> Tensor:
    """Rows of a volume at places between its cells, bilinearly.

    Args:
        volume: (B, N, M).
        places: (B, K, 2), x and y as shares of the image.
        grid: rows and columns of the N cells.

    Returns:
        (B, K, M).

    >>> rows_at(torch.tensor([[[0.0], [1.0]]]), torch.tensor([[[0.5, 0.5], [0.75, 0.5]]]), (1, 2)).flatten().tolist()
    [0.5, 1.0]
    """
    maps = volume.transpose(1, 2).unflatten(2, grid)  # (B, M, h, w)
    return read_at(maps, places, 1)


def gaussian_targets(places: Tensor, grid: Grid, sigma: float) -> Tensor:
    """A Gaussian around each place, of sum 1 over the grid: (B, K, 2) shares of the image -> (B, K, N).

    >>> gaussian_targets(torch.tensor([[[0.5, 0.5]]]), (1, 3), 0.5)[0, 0].tolist()
    [0.106..., 0.786..., 0.106...]
    """
    rows = torch.arange(grid[0], device=places.device) + 0.5
    columns = torch.arange(grid[1], device=places.device) + 0.5
    down = (rows - places[..., 1:] * grid[0]).square()
    across = (columns - places[..., :1] * grid[1]).square()
    return (-(down[..., :, None] + across[..., None, :]).flatten(-2) / (2 * sigma**2)).softmax(-1)


# What one training step of the cascade minimises, from class labels alone (Eq. 3).

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
