"""ProposalFlow: boxes of two images matched by their gradients and by where they lie (Ham et al., CVPR 2016).

Nothing is trained. The authors' code is MATLAB, its proposals are random and its file of gradient statistics cannot be
had: this is a reading of it, not its reproduction. What differs: boxes are sliding windows on a regular grid, not
selective search or randomised Prim; the mean and covariance of gradients are those of every other photograph
of 54 categories of Caltech-101; local offsets are exact medians, and all boxes are damped at once, where theirs are
damped one after the other and depend on the order of boxes; and points follow their box, without the filter that
smooths a dense flow."""

from __future__ import annotations

import functools
import hashlib
from collections import OrderedDict
from importlib.resources import files
from typing import NamedTuple

import torch
import torch.nn.functional as F
from safetensors.torch import load
from torch import Tensor
from torchvision.ops import box_iou, roi_align

from baselines.matcher import Matcher
from baselines.protocol import PublishedProtocol
from baselines.recipe import Recipe, recipe
from baselines.registry import register
from sc_imagenet.geometry.fhog import CELL, histograms, whitening
from sc_imagenet.geometry.resize import cut_out

SIDES = (32, 48, 72, 108, 162, 243)  # of windows, pixels
WIDEST = 2.3  # longer side : shorter side of a window
MARGIN = 0.01  # of an image's sides: a window ends inside it, or is the whole image
CELLS = 8  # of a window's descriptor, along a side
AT_ONCE = 64  # windows described together
KEPT = 64  # images whose descriptors are kept: data sets show each image in many pairs
STATISTICS = "fhog.safetensors"  # beside this file; ``python -m tests.fhog_statistics PHOTOGRAPHS`` makes it


class Proposals(NamedTuple):
    """Boxes (N, 4) of an image, x and y of two corners in its pixels, their whitened descriptors (N, D), its size."""

    boxes: Tensor
    descriptors: Tensor
    size: tuple[int, int]  # width, height

    @property
    def centres(self) -> Tensor:
        """(N, 2)."""
        return (self.boxes[:, :2] + self.boxes[:, 2:]) / 2

    @property
    def halves(self) -> Tensor:
        """Half of width and height, (N, 2)."""
        return (self.boxes[:, 2:] - self.boxes[:, :2]) / 2


class BoxMatch(NamedTuple):
    """The best target box of every source box of one pair, and how sure it is."""

    source: Tensor  # (N, 4)
    target: Tensor  # (N, 4)
    confidence: Tensor  # (N,)


@register(
    "proposalflow",
    title="ProposalFlow",
    paper="Ham et al., CVPR 2016",
    licence="academic use only; nothing of the authors' is used here",
    supervision="none",
    backbone="none",
    protocol=PublishedProtocol(None, "forward", padded="bbox-kp"),
)
class ProposalFlow(Matcher):
    """Local offset matching of whitened gradients; our reading of the paper's best variant.

    Args:
        size: images whose longer side is longer are made smaller.
        windows: of each size, at most.
    """

    direction = "forward"
    keep_aspect = True
    average: Tensor
    whitener: Tensor
    mean, std = (0.0, 0.0, 0.0), (1.0, 1.0, 1.0)

    def __init__(self, size: int = 320, windows: int = 40) -> None:
        super().__init__()
        self.size, self.windows = size, windows
        average, whitener = gradient_statistics()
        self.register_buffer("average", average)
        self.register_buffer("whitener", whitener)
        self._described: OrderedDict[bytes, Proposals] = OrderedDict()

    @torch.no_grad()
    def forward(self, source: Tensor, target: Tensor) -> list[BoxMatch]:
        """Images (B, 3, S, S), each in its own shape at the top left, -> the matches of each pair."""
        return [
            best_boxes(self.propose(cut_out(ours)), self.propose(cut_out(theirs)))
            for ours, theirs in zip(source, target)
        ]

    def propose(self, image: Tensor) -> Proposals:
        """The windows of an image (3, H, W) and what they show; those of the last images are kept."""
        key = hashlib.sha256(image.cpu().numpy().tobytes()).digest() + str(image.shape).encode()
        if key not in self._described:
            height, width = image.shape[1:]
            boxes = sliding_windows(width, height, self.windows).to(image.device)
            self._described[key] = Proposals(boxes, self.describe(image, boxes), (width, height))
            if len(self._described) > KEPT:
                self._described.popitem(last=False)
        return self._described[key]

    def describe(self, image: Tensor, boxes: Tensor) -> Tensor:
        """Whitened gradients (N, 1984) of what boxes (N, 4) of an image show, and one cell around it."""
        halves = (boxes[:, 2:] - boxes[:, :2]) / (2 * CELLS)
        around = torch.cat((boxes[:, :2] - 2 * halves, boxes[:, 2:] + 2 * halves), 1)
        # Beyond the image its border goes on.
        rim = int(-(-(2 * halves).max().item() // 1)) + 1
        wide = F.pad(image[None].float(), (rim, rim, rim, rim), mode="replicate")
        side = (CELLS + 2) * CELL
        found = []
        for some in (around + rim).split(AT_ONCE):
            shown = roi_align(wide, [some], side, aligned=True)  # as many samples a pixel as the window has
            found.append((histograms(shown).flatten(1) - self.average) @ self.whitener.T)
        return torch.cat(found)

    def transfer(self, output: list[BoxMatch], points: Tensor) -> Tensor:
        """Points (B, K, 2) of the source -> of the target, as the surest box around them moves and stretches."""
        return torch.stack([move_with_boxes(one, own) for one, own in zip(output, points)])


@functools.cache
def gradient_statistics() -> tuple[Tensor, Tensor]:
    """The mean descriptor (1984,) and the matrix (1984, 1984) that whitens what is left without it."""
    known = load(files("baselines").joinpath(STATISTICS).read_bytes())
    mean, covariances = known["mean"], known["covariances"].float()
    return mean.repeat_interleave(CELLS * CELLS), whitening(covariances, CELLS)


def sliding_windows(width: int, height: int, most: int) -> Tensor:
    """Boxes (N, 4) of an image: at most some ``most`` of each size, evenly spread, and the whole image.

    >>> sliding_windows(40, 40, 4).tolist()[-1]
    [0.0, 0.0, 40.0, 40.0]
    """
    found = []
    left, top = MARGIN * width, MARGIN * height
    for w in SIDES:
        for h in SIDES:
            across, down = width - 2 * left - w, height - 2 * top - h
            if min(across, down) < 0 or max(w, h) > WIDEST * min(w, h):
                continue
            stride = max(((across + 1) * (down + 1) / most) ** 0.5, 1.0)
            xs = left + torch.linspace(0, across, max(round(across / stride), 1))
            ys = top + torch.linspace(0, down, max(round(down / stride), 1))
            corner = torch.cartesian_prod(xs, ys)
            found.append(torch.cat((corner, corner + torch.tensor([w, h])), 1))
    whole = torch.tensor([[0.0, 0.0, float(width), float(height)]])
    return torch.cat((*found, whole))


def best_boxes(source: Proposals, target: Proposals) -> BoxMatch:
    """The best target box of every source box by local offset matching."""
    scores = local_offsets(source, target, hough(source, target, box_similarity(source, target)))
    confidence, best = scores.max(1)
    return BoxMatch(source.boxes, target.boxes[best], confidence)


def box_similarity(source: Proposals, target: Proposals) -> Tensor:
    """Whitened inner products (N, M), negative ones as 0, and 0 where the proportions of boxes differ twofold."""
    ours, theirs = ((box.halves[:, 0] / box.halves[:, 1]).log2() for box in (source, target))
    alike = (theirs - ours[:, None]).abs() < 1
    return (source.descriptors @ target.descriptors.T).relu() * alike


def hough(source: Proposals, target: Proposals, scores: Tensor) -> Tensor:
    """Probabilistic Hough matching (section 3.2): scores (N, M) times how many boxes agree on the offset of a pair.

    A pair votes for where it takes the source image's lower right corner, and for its scale; of the pairs of a source
    box that vote alike the best counts.
    """
    (width, height), (own_width, own_height) = target.size, source.size
    cell = max((4 * width * height / 8000) ** 0.5, 5.0)
    counts = (max(round(2 * width / cell), 1), max(round(2 * height / cell), 1), 20)
    corner = scores.new_tensor([own_width, own_height])
    reach = (corner - source.centres) / source.halves
    ends = target.centres + target.halves * reach[:, None]  # (N, M, 2)
    areas = [box.halves.prod(1).log2() for box in (source, target)]
    place = torch.cat((ends, (areas[1] - areas[0][:, None])[..., None]), 2)
    low, high = scores.new_tensor([0, 0, -4]), scores.new_tensor([2 * width, 2 * height, 4])
    index = ((place - low) / (high - low) * scores.new_tensor(counts)).floor().long()
    within = ((index >= 0) & (index < index.new_tensor(counts))).all(-1)
    bins = (index[..., 0] * counts[1] + index[..., 1]) * counts[2] + index[..., 2]
    voting = within & (scores > 0)
    total = counts[0] * counts[1] * counts[2]
    rows = torch.arange(len(scores), device=scores.device)[:, None].expand_as(bins)
    votes, number = torch.unique((rows * total + bins)[voting], return_inverse=True)
    best = scores.new_zeros(len(votes)).scatter_reduce(0, number, scores[voting], "amax")
    space = scores.new_zeros(total).index_add(0, votes % total, best).view(1, 1, *counts)
    for axis in range(3):  # a Gaussian of 5 bins, full width at half maximum 2.5
        shape = [1, 1, 1, 1, 1]
        shape[2 + axis] = 5
        padding = [2 if axis == each else 0 for each in range(3)]
        space = F.conv3d(space, _gaussian(space).view(shape), padding=padding)
    return torch.where(within, scores * space.flatten()[bins.where(within, 0)], 0)


def _gaussian(like: Tensor) -> Tensor:
    steps = torch.arange(-2.0, 3.0, device=like.device)
    weights = (-(steps**2) / (2 * (5 / 2 / 2.354) ** 2)).exp()
    return (weights / weights.sum()).to(like.dtype)


def local_offsets(source: Proposals, target: Proposals, scores: Tensor) -> Tensor:
    """Local offset matching (section 3.3): scores (N, M) less where boxes move otherwise than those they overlap."""
    near = box_iou(source.boxes, source.boxes) > 0
    best, which = scores.max(1)
    areas = [box.halves.prod(1) for box in (source, target)]
    moves = source.centres[:, None] - target.centres
    offsets = torch.cat((moves, (areas[0][:, None] / areas[1])[..., None]), 2)  # (N, M, 3)
    usual = _medians(offsets[torch.arange(len(which)), which], near)
    away = offsets - usual[:, None]
    damping = (-0.05 * away[..., :2].norm(dim=2) - 0.3 * away[..., 2].abs()).exp()
    trust = (near * best).sum(1) / best.sum().clamp(min=torch.finfo(best.dtype).tiny)
    return scores * damping * trust[:, None]


def _medians(offsets: Tensor, near: Tensor) -> Tensor:
    """Medians (N, 3), axis by axis, of the offsets (N, 3) of those that are near each box (N, N)."""
    ranked = offsets.where(near[..., None], torch.inf).sort(1).values
    last = near.sum(1) - 1
    rows = torch.arange(len(near), device=near.device)
    return (ranked[rows, last // 2] + ranked[rows, (last + 1) // 2]) / 2


def move_with_boxes(found: BoxMatch, points: Tensor) -> Tensor:
    """Points (K, 2) as the surest box around each moves and stretches; outside all boxes, as the surest one does.

    >>> boxes = torch.tensor([[0.0, 0.0, 10.0, 10.0]])
    >>> move_with_boxes(BoxMatch(boxes, 2 * boxes + 5, torch.ones(1)), torch.tensor([[5.0, 10.0]])).tolist()
    [[15.0, 25.0]]
    """
    around = ((points[:, None] >= found.source[:, :2]) & (points[:, None] <= found.source[:, 2:])).all(2)
    box = torch.where(around, found.confidence, found.confidence - found.confidence.max() - 1).argmax(1)
    source, target = found.source[box], found.target[box]
    share = (points - source[:, :2]) / (source[:, 2:] - source[:, :2])
    return target[:, :2] + share * (target[:, 2:] - target[:, :2])


# ProposalFlow is not trained: its recipes only say how it is built.


@recipe("proposalflow")
def any_data() -> Recipe:
    """``scbench run proposalflow --eval pf-willow``: at most some 40 windows of each size.

    The paper's table, with the authors' proposals and statistics: PF-PASCAL 31.4 / 62.5 / 79.5, PF-WILLOW 28.4 / 56.8 /
    68.2 at .05 / .10 / .15.
    """
    return Recipe(model={"size": 320, "windows": 40}, epochs=0, lr=0.0, backbone_lr=0.0)


@recipe("proposalflow", preset="small")
def small() -> Recipe:
    """A third of the windows."""
    return Recipe(model={"size": 320, "windows": 14}, epochs=0, lr=0.0, backbone_lr=0.0)


@recipe("proposalflow", preset="tiny")
def tiny() -> Recipe:
    """At 160 px, a third of the windows."""
    return Recipe(model={"size": 160, "windows": 14}, epochs=0, lr=0.0, backbone_lr=0.0)
