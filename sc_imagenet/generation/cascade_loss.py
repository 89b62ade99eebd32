"""What one training step of the cascade minimises, from class labels alone (Eq. 3)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from sc_imagenet.generation.cascade import CascadeNetwork
from sc_imagenet.generation.features import Features
from sc_imagenet.generation.losses import class_loss, pixel_loss, pooled_score
from sc_imagenet.generation.pmps import (
    Matches,
    foreground_matches,
    select_one_to_one,
    suppress_near,
)
from sc_imagenet.generation.training_options import TrainingOptions
from sc_imagenet.generation.views import carry_cells
from sc_imagenet.geometry.correlation import inner_product


@dataclass(frozen=True)
class TrainingPairs:
    """Pairs of images of one class each; the target of the next pair is of another class.

    source, target                    features of B images each
    source_saliency, target_saliency  (B, N) in [0, 1]
    """

    source: Features
    target: Features
    source_saliency: Tensor
    target_saliency: Tensor


def cascade_losses(network: CascadeNetwork, pairs: TrainingPairs, options: TrainingOptions) -> Mapping[str, Tensor]:
    """The weighted losses of each stage the network has, by the stage's name; their sum is the step's."""
    stages = network.options.stages
    image_volume = network.volume("image", pairs.source, pairs.target)
    losses = {"image": options.image_weight * _image_loss(network, pairs, image_volume, options)}
    if stages == "image":
        return losses
    candidates = select_candidates(network, pairs, image_volume.detach(), options)
    region, matches = _region_level(network, pairs, candidates, options)
    losses["region"] = options.region_weight * region
    if stages == "pixel":
        volume = network.volume("pixel", pairs.source, pairs.target)
        losses["pixel"] = options.pixel_weight * pixel_loss(
            volume, matches, pairs.source.grid, pairs.target.grid, network.options.temperature, options.sigma
        )
    return losses


def _image_loss(network: CascadeNetwork, pairs: TrainingPairs, volume: Tensor, options: TrainingOptions) -> Tensor:
    shifted = network.volume("image", pairs.source, pairs.target[_shifted(len(volume))])
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
    return (pairs.source_saliency, pairs.target_saliency) if network.options.saliency else (None, None)


@torch.no_grad()
def select_candidates(
    network: CascadeNetwork, pairs: TrainingPairs, image_volume: Tensor, options: TrainingOptions
) -> Matches:
    """Image level of PMPS: the candidates of each pair, one to one, both cells foreground.

    Args:
        network: its options say how matches are re-weighted.
        pairs: B of them.
        image_volume: v_f of the image level.
        options: which volume is looked at, and how many candidates are wanted.
    """
    raw = inner_product(pairs.source.tokens, pairs.target.tokens)
    volume = {"features": raw, "network": image_volume, "both": (raw + image_volume) / 2}[options.labels_from]
    scores = network.reweighted(volume, pairs.source, pairs.target, pairs.source_saliency, pairs.target_saliency)
    allowed = (volume == volume.amax(2, keepdim=True)) & (volume == volume.amax(1, keepdim=True))
    if network.options.saliency:
        allowed &= foreground_matches(pairs.source_saliency, pairs.target_saliency)
    return select_one_to_one(scores, options.candidates, allowed)


def _region_level(
    network: CascadeNetwork, pairs: TrainingPairs, candidates: Matches, options: TrainingOptions
) -> tuple[Tensor, Matches]:
    """Loss of the region level, and the pairs of cells that it leaves for the pixel level."""
    source, source_cells = network.regions(pairs.source, candidates.source)
    target, target_cells = network.regions(pairs.target, candidates.target)
    volume = network.volume("region", source, target)
    shifted = [int(k) for k in torch.arange(len(volume)).roll(-candidates.source.shape[1])]  # the next pair's regions
    negative = network.volume("region", source, target[shifted])
    temperature = network.options.temperature
    # A window is foreground by selection; pairs with fewer candidates fill up with cell 0, which must not count.
    counted = candidates.valid.flatten()
    both = counted & counted[shifted]
    loss = volume.sum() * 0
    if both.any():
        loss = class_loss(
            pooled_score(volume[both], options.class_loss, temperature),
            pooled_score(negative[both], options.class_loss, temperature),
            options.class_loss,
            options.margin,
        )
    with torch.no_grad():
        ours, theirs = (
            saliency.gather(1, cells.flatten(1)).view(len(volume), -1)
            for saliency, cells in (
                (pairs.source_saliency, source_cells),
                (pairs.target_saliency, target_cells),
            )
        )
        scores = network.reweighted(volume, source, target, ours, theirs)
        if network.options.saliency:
            scores = scores * foreground_matches(ours, theirs)
        refined = network.refine(candidates, pairs.source, pairs.target, scores)
        kept = suppress_near(refined, pairs.source.grid, pairs.target.grid, options.pairs, options.radius)
    return loss, kept


def warp_loss(
    network: CascadeNetwork,
    source: Features,
    target: Features,
    placements: tuple[Tensor, Tensor],
    options: TrainingOptions,
    generator: torch.Generator,
) -> Tensor:
    """[R] Exact supervision of the pixel level: cells of one view of an image and where they lie in another view.

    Args:
        network: its last stage must be the pixel level.
        source, target: features of two views of B images.
        placements: (B, 4) of both, see ``View.placement``.
        options: how many cells of each pair, and the Gaussian.
        generator: draws them.
    """
    matches = warped_cells(source.grid, target.grid, placements, options.pairs, generator)
    volume = network.volume("pixel", source, target)
    return options.warp_weight * pixel_loss(
        volume, matches, source.grid, target.grid, network.options.temperature, options.sigma
    )


def warped_cells(
    source: tuple[int, int],
    target: tuple[int, int],
    placements: tuple[Tensor, Tensor],
    count: int,
    generator: torch.Generator,
) -> Matches:
    """Random cells of the first view and the cells of the second that show the same place; both (B, count)."""
    batch = len(placements[0])
    drawn = torch.rand(batch, source[0] * source[1], generator=generator).argsort(1)
    cells = drawn.to(placements[0].device)
    centres = torch.stack((cells % source[1] + 0.5, cells // source[1] + 0.5), -1)
    there = carry_cells(centres / centres.new_tensor([source[1], source[0]]), *placements)
    visible = ((there > 0) & (there < 1)).all(-1)
    columns, rows = (there * there.new_tensor([target[1], target[0]])).long().unbind(-1)
    first = visible.int().argsort(dim=1, descending=True, stable=True)[:, :count]
    valid = visible.gather(1, first)
    found = (rows * target[1] + columns).gather(1, first)
    return Matches(cells.gather(1, first) * valid, found * valid, valid.float(), valid)
