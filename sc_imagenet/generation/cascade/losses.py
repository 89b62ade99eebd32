"""What one training step of the cascade minimises, from class labels alone (section "Training", Eq. 2 and 3)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sc_imagenet.generation.cascade.labels import TrainingPairs, carry_matches, select_candidates, select_pairs
from sc_imagenet.generation.cascade.network import CascadeNetwork
from sc_imagenet.generation.cascade.options import STAGES, Stage, TrainingOptions
from sc_imagenet.generation.cascade.pmps import (
    Matches,
    PlaceMatches,
    cell_places,
    hough_scores,
    match_probability,
    match_votes,
)
from sc_imagenet.geometry.correlation import Grid
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
    """Of each row of logits (B, K, N) against ``wanted`` of sum 1: (B, K).

    [R] Binary, logits count from their row's mean, and the cells of the match weigh as much as all others: one cell
    in a thousand would else only teach that cosines should be low.
    """
    if kind == "softmax":
        return -(wanted * logits.log_softmax(-1)).sum(-1)
    centred = logits - logits.mean(-1, keepdim=True)
    match = wanted / wanted.amax(-1, keepdim=True)  # a cell at the very place is of the match
    of_match, of_others = match * F.softplus(-centred), (1 - match) * F.softplus(centred)
    return (of_match.sum(-1) / match.sum(-1) + of_others.sum(-1) / (1 - match).sum(-1)) / 2


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


def cascade_losses(
    network: CascadeNetwork, pairs: TrainingPairs, options: TrainingOptions, stages: Sequence[Stage] = STAGES
) -> Mapping[str, Tensor]:
    """The weighted losses of the stages that are trained at this step, by the stage's name; their sum is the step's.

    A loss without weight is not computed; see ``TrainingOptions.weight``.
    """
    wanted = [stage for stage in options.trained if stage in stages]
    losses: dict[str, Tensor] = {}
    if "image" in wanted:
        losses["image"] = options.weight("image") * _image_loss(network, pairs, options)
    if wanted in ([], ["image"]):
        return losses
    candidates = select_candidates(network, pairs, options)
    if "region" in wanted:
        losses["region"] = options.weight("region") * _region_loss(network, pairs, candidates, options)
    if "pixel" in wanted:
        matches = select_pairs(network, pairs, candidates, options)
        losses["pixel"] = options.weight("pixel") * _pixel_loss(network, pairs, matches, options)
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


def _region_loss(
    network: CascadeNetwork, pairs: TrainingPairs, candidates: Matches, options: TrainingOptions
) -> Tensor:
    """Loss of the region level on the windows around candidates, negatives being the next pair's windows."""
    aims = candidates.target if candidates.closed is None else candidates.closed
    around = candidates
    if options.region_loss == "where":
        ours, theirs = (
            moved(cells, views.features.grid, network.region_side(views.features) // 2)
            for cells, views in ((candidates.source, pairs.source), (aims, pairs.target))
        )
        around = replace(candidates, source=ours, target=theirs)
    (source, source_cells), (target, target_cells) = pairs.regions(network, around)
    volume = network.volume("region", source, target)
    shift = candidates.source.shape[1]
    shifted = [int(k) for k in torch.arange(len(volume)).roll(-shift)]
    negative = network.volume("region", source, target[shifted])
    # A window is foreground by selection; pairs with fewer candidates fill up with cell 0, which must not count.
    counted = candidates.valid.flatten()
    if options.region_loss == "where":
        here, there = (
            own_place(cells, centre).flatten()
            for cells, centre in ((source_cells, candidates.source), (target_cells, aims))
        )
        before = negative.roll(shift, 0)  # of other classes' windows with this one's target
        return where_loss(volume, negative, before, here, there, counted, source.grid, network.options.temperature)
    return class_loss(
        pooled_score(volume, options.class_loss, network.options.temperature),
        pooled_score(negative, options.class_loss, network.options.temperature),
        options.class_loss,
        options.margin,
        counted & counted[shifted],
    )


def moved(cells: Tensor, grid: Grid, most: int) -> Tensor:
    """Flat cells up to ``most`` rows and columns off, at random, inside the grid.

    Windows in whose middle a match always lay would teach that the middle matches.

    >>> moved(torch.tensor([4]), (3, 3), 0).tolist()
    [4]
    """
    off = torch.randint(-most, most + 1, (2, *cells.shape), device=cells.device)
    rows = (cells // grid[1] + off[0]).clamp(0, grid[0] - 1)
    return rows * grid[1] + (cells % grid[1] + off[1]).clamp(0, grid[1] - 1)


def own_place(cells: Tensor, wanted: Tensor) -> Tensor:
    """Which of a window's cells is the wanted one: (B, K, n) and (B, K) flat cells -> (B, K); -1 if it is in none.

    >>> own_place(torch.tensor([[[6, 7], [6, 7]]]), torch.tensor([[7, 3]])).tolist()
    [[1, -1]]
    """
    same = cells == wanted[..., None]
    return torch.where(same.any(2), same.int().argmax(2), -1)


def where_loss(
    volume: Tensor,
    of_source: Tensor,
    of_target: Tensor,
    source: Tensor,
    target: Tensor,
    counted: Tensor,
    grid: Grid,
    temperature: float,
    sigma: float = 1.0,
) -> Tensor:
    """Cross entropy of where in its window a cell matches, both ways; cells of other windows are none of it.

    Args:
        volume: (M, n, n) of M pairs of windows of n cells.
        of_source: of the same source windows with target windows of another class.
        of_target: of source windows of another class with the same target windows.
        source, target: (M,) the cells of the windows that match; -1 where there is none.
        counted: bool (M,), which ones the mean is over, unless they have no such cells.
        grid: rows and columns of a window.
        temperature: of the softmax.
        sigma: of the Gaussian around the matching cell, in cells.
    """
    counted = counted & (source >= 0) & (target >= 0)
    each = torch.zeros_like(counted, dtype=volume.dtype)
    rows = torch.arange(len(volume), device=volume.device)
    for here, there, own, other in (
        (source, target, volume, of_source),
        (target, source, volume.transpose(1, 2), of_target.transpose(1, 2)),
    ):
        logits = torch.cat((own[rows, here.clamp(min=0)], other[rows, here.clamp(min=0)]), 1) / temperature
        wanted = gaussian_targets(cell_places(there.clamp(min=0), grid)[:, None], grid, sigma)[:, 0]
        each = each - (wanted * logits.log_softmax(1)[:, : own.shape[2]]).sum(1)
    return (each * counted).sum() / (2 * counted.sum().clamp(min=1))


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


def trained_parameters(
    network: CascadeNetwork, options: TrainingOptions, stages: Sequence[Stage] = STAGES
) -> list[nn.Parameter]:
    """Those that the losses of these stages may change; the others are frozen."""
    network.requires_grad_(False)
    for stage in options.trained:
        if stage not in stages:
            continue
        module = network.stage(stage)
        siamese = stage == "image" and options.image_trains == "projection" and options.network.token_projection
        for name, parameter in module.named_parameters():
            parameter.requires_grad_(not siamese or ".projection." in name)
    return [each for each in network.parameters() if each.requires_grad]
