"""MARCO's mining (section "self-training" of its paper): dense matches of a pair that a teacher's features agree on.

Mutual nearest neighbours and the keypoints are triangulated to a flow; pixels of like flow form clusters, and only
those clusters stay that move keypoints to where they belong. Cells and pixels are (column, row)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from scipy.cluster.vq import kmeans2
from torch import Tensor

from sc_imagenet.geometry.triangulation import triangulated_flow

Mask = NDArray[np.bool_]
Points = NDArray[np.float64]

LEAST_PIXELS = 300  # with a flow, or a pair gives no matches
LEAST_MATCHES = 100
CLUSTERS, LEAST_CLUSTERS = 7, 3
REACH = 10  # pixels around a cluster that still belong to it, along each axis
ROWS_AT_ONCE = 2048  # of the similarities held at a time


@dataclass(frozen=True)
class Mined:
    """Matches of one pair: whole pixels of the source and of the target, each (M, 2)."""

    source: NDArray[np.int64]
    target: NDArray[np.int64]


def mine(
    source: Tensor,
    target: Tensor,
    masks: Sequence[Mask],
    points: Sequence[Points],
    side: int,
    most: int,
    draw: np.random.Generator,
) -> Mined | None:
    """Matches of a pair, drawn among all that are found; None where there are too few.

    Args:
        source, target: features (C, h, w).
        masks: the objects' pixels in source and target, (side, side).
        points: keypoints of both in pixels (K, 2).
        side: of both images.
        most: matches to draw.
        draw: of the clusters' starts and of the matches.
    """
    grid = source.shape[-1]
    of_cells = [coarse_mask(mask, grid) for mask in masks]
    cells = [each * (grid / side) for each in points]
    flow = cell_flow(source, target, of_cells, cells)
    fine = image_flow(flow, of_cells[0], side)
    colours = flow_colours(fine)
    valid = colours.any(-1)
    if valid.sum() < LEAST_PIXELS:
        return None
    labels = np.full(valid.shape, -1)
    labels[valid] = flow_clusters(colours[valid] / 255.0, draw)
    found = matches(fine, labels, kept_clusters(fine, labels, points), image_mask(of_cells[1], side))
    if len(found.source) < LEAST_MATCHES:
        return None
    chosen = draw.permutation(len(found.source))[:most]
    return Mined(found.source[chosen], found.target[chosen])


def coarse_mask(mask: Mask, grid: int) -> Mask:
    """Cells (grid, grid) that a mask (side, side) touches, resized bilinearly with corners aligned."""
    whole = torch.from_numpy(mask.astype(np.float32))[None, None]
    return (F.interpolate(whole, (grid, grid), mode="bilinear", align_corners=True)[0, 0] > 0).numpy()


def image_mask(mask: Mask, side: int) -> Mask:
    """A mask of cells as one of pixels (side, side), each that of its cell."""
    return F.interpolate(torch.from_numpy(mask).float()[None, None], (side, side))[0, 0].bool().numpy()


def cell_flow(source: Tensor, target: Tensor, masks: Sequence[Mask], points: Sequence[Points]) -> NDArray[np.float32]:
    """The flow (h, w, 2) in cells between mutual nearest neighbours inside the masks and keypoints (K, 2) in both."""
    own, other = mutual_nearest(source, target, masks)
    anchors = np.array(
        [all(mask[_cell(point, mask)] for mask, point in zip(masks, pair)) for pair in zip(*points)], bool
    )
    own, other = (np.concatenate((found, each[anchors])) for found, each in zip((own, other), points))
    return triangulated_flow(own, other, masks[0])


def _cell(point: NDArray[np.float64], mask: Mask) -> tuple[int, int]:
    column, row = (int(min(max(value, 0), length - 1)) for value, length in zip(point, mask.shape[::-1]))
    return row, column


def mutual_nearest(source: Tensor, target: Tensor, masks: Sequence[Mask]) -> tuple[Points, Points]:
    """Mutual nearest neighbours by cosine among the masked cells of two maps (C, h, w): two (M, 2)."""
    places = [torch.from_numpy(np.flatnonzero(mask)) for mask in masks]
    if not all(map(len, places)):
        return np.zeros((0, 2)), np.zeros((0, 2))
    own, other = (
        F.normalize(maps.detach().flatten(1), dim=0)[:, place.to(maps.device)]
        for maps, place in zip((source, target), places)
    )
    best, highest, back = [], None, None
    for start in range(0, own.shape[1], ROWS_AT_ONCE):
        rows = own[:, start : start + ROWS_AT_ONCE].T @ other
        best.append(rows.argmax(1))
        high, where = rows.max(0)
        if highest is None or back is None:
            highest, back = high, where
        else:
            better = high > highest
            highest, back = torch.where(better, high, highest), torch.where(better, where + start, back)
    assert back is not None
    nearest = torch.cat(best)
    mutual = (back[nearest] == torch.arange(len(nearest), device=nearest.device)).cpu()
    width = masks[0].shape[1]
    found = places[0][mutual].numpy(), places[1][nearest.cpu()[mutual]].numpy()
    one, two = (np.stack((cells % width, cells // width), 1).astype(np.float64) for cells in found)
    return one, two


def image_flow(flow: NDArray[np.float32], mask: Mask, side: int) -> NDArray[np.float32]:
    """A flow of cells (h, w, 2) as one of the pixels (side, side, 2) that lie in the mask's cells."""
    maps = torch.from_numpy(flow).permute(2, 0, 1)[None]
    fine = F.interpolate(maps, (side, side), mode="bilinear")[0].permute(1, 2, 0).numpy()
    return fine * np.float32(side / flow.shape[0]) * image_mask(mask, side)[..., None]


def flow_colours(flow: NDArray[np.float32]) -> NDArray[np.uint8]:
    """A flow as RGB (h, w, 3): its angle is the hue, its length over the 95th percentile the value."""
    length = np.hypot(flow[..., 0], flow[..., 1])
    hue = (np.arctan2(flow[..., 1], flow[..., 0]).astype(np.float64) + np.pi) / (2 * np.pi)
    value = np.clip(length / (np.percentile(length, 95) + 1e-6), 0, 1)
    sector = np.floor(hue * 6)
    part = hue * 6 - sector
    falling, rising, none = value * (1 - part), value * part, np.zeros_like(value)
    channels = np.choose(
        (sector.astype(int) % 6)[None].repeat(3, 0),
        [
            np.stack(each)
            for each in (
                (value, rising, none),
                (falling, value, none),
                (none, value, rising),
                (none, falling, value),
                (rising, none, value),
                (value, none, falling),
            )
        ],
    )
    return (np.moveaxis(channels, 0, -1) * 255).astype(np.uint8)


def flow_clusters(colours: NDArray[np.float64], draw: np.random.Generator) -> NDArray[np.int64]:
    """The cluster of each colour (N, 3): k-means, then nearest clusters are joined while that improves the BIC."""
    if len(np.unique(colours, axis=0)) < CLUSTERS:
        return np.zeros(len(colours), np.int64)
    centres, labels = kmeans2(colours, CLUSTERS, minit="++", seed=draw)
    criterion = information(colours, centres, labels)
    while len(centres) > LEAST_CLUSTERS:
        apart = np.linalg.norm(centres[:, None] - centres, axis=-1) + np.diag(np.full(len(centres), np.inf))
        one, two = np.unravel_index(apart.argmin(), apart.shape)
        sizes = [max((labels == each).sum(), 1) for each in (one, two)]
        joined = np.average(centres[[one, two]], axis=0, weights=sizes)
        fewer = np.concatenate((np.delete(centres, [one, two], axis=0), joined[None]))
        assigned = ((colours[:, None] - fewer) ** 2).sum(-1).argmin(1)
        found = information(colours, fewer, assigned)
        if found <= criterion:
            break
        centres, labels, criterion = fewer, assigned, found
    return labels.astype(np.int64)


def information(values: NDArray[np.float64], centres: NDArray[np.float64], labels: NDArray[np.int64]) -> float:
    """Bayesian information criterion of spherical Gaussians of one variance; the larger the better."""
    (count, width), clusters = values.shape, len(centres)
    sizes = np.bincount(labels, minlength=clusters)
    squares = ((values - centres[labels]) ** 2).sum()
    variance = max(squares / (width * max(count - clusters, 1)), 1e-12)
    filled = sizes[sizes > 0]
    likelihood = (filled * np.log(filled / count)).sum() - count * width / 2 * np.log(2 * np.pi * variance)
    likelihood -= squares / (2 * variance)
    return float(likelihood - clusters * (width + 1) / 2 * np.log(count))


def kept_clusters(flow: NDArray[np.float32], labels: NDArray[np.int64], points: Sequence[Points]) -> list[int]:
    """Clusters that move at least half of the source's keypoints in them to where the target has them."""
    pixels = [np.clip(np.floor(each), 0, len(labels) - 1).astype(int) for each in points]
    kept = []
    for label in np.unique(labels[labels >= 0]):
        own = labels == label
        inside = near(own, pixels[0])
        if not inside.any():
            continue
        moved = np.zeros_like(own)
        _, places = moved_pixels(flow, own)
        there = ((places >= 0) & (places < len(labels))).all(1)
        moved[places[there, 1], places[there, 0]] = True
        if near(moved, pixels[1][inside]).mean() >= 0.5:
            kept.append(int(label))
    return kept


def near(mask: Mask, pixels: NDArray[np.int64]) -> Mask:
    """Whether a mask has a pixel at most ``REACH`` from each of some pixels (K, 2) along both axes: (K,)."""
    starts, stops = np.maximum(pixels - REACH, 0), pixels + REACH + 1
    return np.array([mask[y:v, x:u].any() for (x, y), (u, v) in zip(starts, stops)], bool)


def matches(flow: NDArray[np.float32], labels: NDArray[np.int64], kept: Sequence[int], target_mask: Mask) -> Mined:
    """All matches of the kept clusters that end on the target's object, cluster by cluster."""
    moved = [moved_pixels(flow, labels == label) for label in kept] or [(np.zeros((0, 2), np.int64),) * 2]
    own, other = (np.concatenate(each) for each in zip(*moved))
    there = ((other >= 0) & (other < len(labels))).all(1)
    own, other = own[there], other[there]
    on_object = target_mask[other[:, 1], other[:, 0]]
    return Mined(own[on_object], other[on_object])


def moved_pixels(flow: NDArray[np.float32], where: Mask) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Pixels of a mask, and the nearest whole pixels that the flow takes them to: two (N, 2)."""
    rows, columns = np.nonzero(where)
    pixels = np.stack((columns, rows), 1)
    return pixels, np.round(pixels.astype(np.float32) + flow[rows, columns]).astype(np.int64)
