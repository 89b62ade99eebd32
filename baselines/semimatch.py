"""SemiMatch: "Semi-Supervised Learning of Semantic Correspondence with Pseudo-Labels" (Kim et al., CVPR 2022), on CATs.

Beside the keypoints, CATs learns from itself: where it is sure of a match in the plain target, the same match has to
be found in a strongly changed and warped one.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from math import pi

import torch
import torch.nn.functional as F
from torch import Tensor

from baselines.cats import LAPTOP as CATS_LAPTOP
from baselines.cats import PF_PASCAL_LAYERS, PUBLISHED_START, SPAIR_LAYERS, CATs
from baselines.matcher import Batch
from baselines.protocol import PublishedProtocol
from baselines.recipe import Recipe, recipe
from baselines.registry import register
from sc_imagenet.geometry.correlation import mutual_nearest_neighbour
from sc_imagenet.geometry.warps import affine_grid, thin_plate_grid, warp

SHARPNESS = 1.5  # how fast a pseudo-label's weight falls with its entropy
UNSUPERVISED_WEIGHT = 0.5
KEYOUT_SIDES = (0.03, 0.1)  # of a square cut out, in longer sides of the object's box
ROTATION, AXIS, SCALES, SHIFT = pi / 12, pi / 6, (0.75, 1.25), 0.25  # largest of the affine warp
CONTROL, MOVE = 3, 0.4  # control points along each side of the thin-plate warp, and their largest move


@register(
    "semimatch",
    title="CATs+SemiMatch",
    paper="Kim et al., CVPR 2022",
    licence="none: the authors' repository has no licence file that we found",
    supervision="semi",
    backbone="resnet101.tv_in1k",
    trained_on=("spair-71k", "pf-pascal"),
    protocol=PublishedProtocol(256, "backward"),
    step_seconds={"spair-71k": 0.1538},
)
class SemiMatch(CATs):
    """CATs, trained with pseudo-labels too; weights of CATs and of SemiMatch are interchangeable.

    Args:
        backbone, layers, size, feature_size, projection, heads, depth, mlp_ratio, start, pretrained: as for ``CATs``.
        temperature: of every softmax over a correlation, here and in evaluation.
        confidence: least probability of a pseudo-label.
        keyout: probability that a keypoint of the strong view is cut out.
        dynamic: rescale the unsupervised loss to the value of the supervised one at every step.
    """

    training_arguments = ("confidence", "keyout", "dynamic")
    match_arguments = (*CATs.match_arguments, "temperature")

    def __init__(
        self,
        backbone: str = "resnet101.tv_in1k",
        layers: Sequence[int] | None = None,
        size: int = 256,
        feature_size: int | None = None,
        projection: int = 128,
        heads: int = 6,
        depth: int = 1,
        mlp_ratio: float = 4.0,
        start: float = PUBLISHED_START,
        temperature: float = 0.1,
        confidence: float = 0.5,
        keyout: float = 0.2,
        dynamic: bool = False,
        pretrained: bool | str = True,
    ) -> None:
        super().__init__(backbone, layers, size, feature_size, projection, heads, depth, mlp_ratio, start, pretrained)
        self.temperature = temperature
        self.confidence = confidence
        self.keyout = keyout
        self.dynamic = dynamic

    def training_loss(self, batch: Batch, epoch: int) -> Tensor:
        """The supervised loss of CATs on the target, and the unsupervised one on two further views of it.

        ``batch`` holds the views ``target_plain`` and ``target_strong`` that the augmentation "semimatch" makes;
        without them the target stands for both, warped all the same. Pseudo-labels carry no gradient, and the
        source's features are the same beside every view: both cost a pass that the published code makes and
        nothing of its loss.
        """
        target = batch["target"]
        source = self.encode(batch["source"])
        supervised = self.loss(self.flow(self.refine(source, self.encode(target))), batch)
        with torch.no_grad():
            plain = self.refine(source, self.encode(batch.get("target_plain", target)))
        draws = random_warps(len(target), target.device)
        strong_view = key_out(batch.get("target_strong", target), batch, self.keyout)
        warped = warp(strong_view, grids(draws, self.size))
        strong = self.refine(source, self.encode(warped))
        unsupervised = self.unsupervised_loss(strong, plain, batch, grids(draws, self.feature_size))
        if self.dynamic:
            unsupervised = unsupervised * (supervised / unsupervised.clamp(min=1e-12)).detach()
        return supervised + unsupervised

    def unsupervised_loss(self, strong: Tensor, plain: Tensor, batch: Batch, cell_grids: Sequence[Tensor]) -> Tensor:
        """Cross-entropy of the strong view's correlation against the plain one's pseudo-labels (section 3.3).

        strong, plain (B, N_source, N_target); ``cell_grids`` warp the plain target's cells as the strong view's
        pixels were. Each label weighs exp(-1.5 entropy); without any the loss is 0.
        """
        labels, weights = self.pseudo_labels(mutual_nearest_neighbour(plain), batch, cell_grids)
        wrong = F.cross_entropy(strong / self.temperature, labels, reduction="none")
        return UNSUPERVISED_WEIGHT * (wrong * weights).sum() / (weights > 0).sum().clamp(min=1)

    def pseudo_labels(self, plain: Tensor, batch: Batch, cell_grids: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
        """The source cell of every cell of the warped target, and its weight, 0 where it is not trusted: (B, N_target).

        Trusted is a probability of at least ``confidence``, from inside the target's box into the source's, that
        survives the way there and back in ``plain`` (B, N_source, N_target).
        """
        cells = (self.feature_size, self.feature_size)
        trusted = self.box_mask(batch["target_bbox"]) & there_and_back(plain, cells)
        maps = torch.cat((plain.unflatten(2, cells), trusted.unflatten(1, cells)[:, None]), 1)
        warped = warp(maps, cell_grids, "nearest").flatten(2)
        probabilities = (warped[:, :-1] / self.temperature).softmax(1)
        sureness, labels = probabilities.max(1)
        shifted = probabilities + 1e-6
        entropy = -(shifted * shifted.log()).sum(1)
        trusted = warped[:, -1].bool() & (sureness >= self.confidence)
        trusted &= self.box_mask(batch["source_bbox"]).gather(1, labels)
        return labels, (-SHARPNESS * entropy).exp() * trusted

    def box_mask(self, boxes: Tensor) -> Tensor:
        """Cells (B, N) of the grid within boxes (B, 4) in pixels, rounded to whole cells; all without a box."""
        low, high = (boxes * (self.feature_size / self.size)).round()[..., None].split(2, 1)  # (B, 2, 1)
        cells = torch.arange(self.feature_size, device=boxes.device)
        inside = ((cells >= low) & (cells <= high)) | boxes.isnan().any(1)[:, None, None]
        return (inside[:, 1, :, None] & inside[:, 0, None, :]).flatten(1)


def there_and_back(correlation: Tensor, cells: tuple[int, int]) -> Tensor:
    """Target cells (B, N_target) that their best source cell leads back to, or near: the forward-backward check.

    With f and b the two displacements, |f + b|^2 <= 0.1 (|f|^2 + |b|^2) + 0.5, in cells.
    """
    rows, columns = torch.meshgrid(*(torch.arange(count, device=correlation.device) for count in cells), indexing="ij")
    places = torch.stack((columns, rows), -1).flatten(0, 1).to(correlation.dtype)
    best_source = correlation.argmax(1)  # (B, N_target)
    best_target = correlation.argmax(2).gather(1, best_source)
    there, back = places[best_source] - places, places[best_target] - places[best_source]
    allowed = 0.1 * (there.square() + back.square()).sum(-1) + 0.5
    return (there + back).square().sum(-1) <= allowed


def key_out(images: Tensor, batch: Batch, probability: float) -> Tensor:
    """KeyOut: images (B, 3, S, S) with squares around some of the target's keypoints set to 0 (section 3.4).

    A square's side is between 0.03 and 0.1 of the longer side of the object's box, or of the image without one.
    """
    points, boxes, size = batch["target_points"], batch["target_bbox"], images.shape[-1]
    longer = (boxes[:, 2:] - boxes[:, :2]).amax(1).nan_to_num(nan=size)
    low, high = ((share * longer).floor()[:, None] for share in KEYOUT_SIDES)
    drawn, chosen = (torch.rand(points.shape[:2]).to(points.device) for _ in range(2))
    sides = (low + drawn * (high - low)).floor() * (chosen < probability) * batch["valid"]
    pixels = torch.arange(size, device=points.device)
    # -side / 2 <= pixel - point < side / 2: nothing for a side of 0
    start = (points - sides[..., None] / 2).round()[..., None]
    covered = (pixels >= start) & (pixels < start + sides[..., None, None])  # (B, K, 2, S)
    columns, rows = covered.to(images.dtype).unbind(2)
    return images * (rows.mT @ columns == 0)[:, None]


def random_warps(count: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """Draws of an affine and of a thin-plate warp: (count, 6), (count, 9, 2), uniform in [0, 1)."""
    return torch.rand(count, 6).to(device), torch.rand(count, CONTROL * CONTROL, 2).to(device)


def grids(draws: tuple[Tensor, Tensor], side: int) -> tuple[Tensor, Tensor]:
    """The affine and the thin-plate warp of ``random_warps`` for maps of ``side`` x ``side``, to be done in turn."""
    unit = 2 * draws[0] - 1
    middle, spread = (SCALES[1] + SCALES[0]) / 2, (SCALES[1] - SCALES[0]) / 2
    scales, shift = middle + spread * unit[:, 2:4], SHIFT * unit[:, 4:]
    moves = MOVE * (2 * draws[1] - 1)
    return affine_grid(ROTATION * unit[:, 0], AXIS * unit[:, 1], scales, shift, side), thin_plate_grid(moves, side)


# Recipes of SemiMatch on CATs (Kim et al., CVPR 2022; the authors' code for what the paper leaves open).
#
# Both start from weights of CATs: ``--checkpoint FILE``, an authors' checkpoint, a folder, or ``best.safetensors`` of
# a run of ours. Their code chooses the best epoch on the test split; here the validation split chooses.

PF_PASCAL = Recipe(
    model={
        "backbone": "resnet101.tv_in1k",
        "layers": list(PF_PASCAL_LAYERS),
        "size": 256,
        "temperature": 0.1,
        "confidence": 0.9,
        "keyout": 0.2,
        "dynamic": False,
    },
    optimiser="adamw",
    lr=3e-5,
    backbone_lr=3e-6,
    weight_decay=0.05,
    batch=4,
    epochs=200,
    milestones=(150, 220),
    gamma=0.5,
    augmentation="semimatch",
    points=40,
    validation="paper",
    backbone_batchnorm="train",
)
SPAIR = replace(
    PF_PASCAL,
    model={**PF_PASCAL.model, "layers": list(SPAIR_LAYERS), "confidence": 0.5, "dynamic": True},
    lr=1e-6,
    batch=8,
)


@recipe("semimatch", "spair-71k")
def spair_71k() -> Recipe:
    """``scbench run semimatch --checkpoint CATS --finetune spair-71k --eval spair-71k``: 6,668 steps an epoch.

    Paper, PCK@0.1/bbox: 50.7, from a CATs trained for 11 epochs. The script does not say for how many epochs;
    200 are those for PF-PASCAL, and the best by validation are kept.
    """
    return SPAIR


@recipe("semimatch", "pf-pascal")
def pf_pascal() -> Recipe:
    """``scbench run semimatch --checkpoint CATS --finetune pf-pascal --eval pf-pascal``: 735 steps an epoch.

    Paper, PCK@.05/.10/.15 (img): 80.1 / 93.5 / 96.6, from a CATs trained for 10 epochs. The same weights on PF-WILLOW
    (bbox-padded, legacy): 54.0 / 82.1 / 92.1.
    """
    return PF_PASCAL


@recipe("semimatch", "sc-imagenet")
def sc_imagenet() -> Recipe:
    """``scbench run semimatch --pretrain sc-imagenet --finetune spair-71k --eval spair-71k``: 99,327 steps an epoch.

    Pre-training with the values for SPair-71k but from a new CATs, therefore at the rate of CATs: the SC-ImageNet
    paper says only that it "followed the vanilla implementation".
    """
    return replace(SPAIR, lr=3e-5)


@recipe("semimatch")
def any_data() -> Recipe:
    """Data that the authors did not train on: the values and hyperpixels of PF-PASCAL."""
    return replace(PF_PASCAL, validation="strict")


LAPTOP = replace(CATS_LAPTOP, model={**CATS_LAPTOP.model, "temperature": 0.1}, augmentation="semimatch")


@recipe("semimatch", preset="small")
def small() -> Recipe:
    """SemiMatch on EfficientNet-Lite0 at 256 px: ``scbench run semimatch --preset small --finetune NAME``."""
    return replace(LAPTOP, model={**LAPTOP.model, "start": 0.0})


@recipe("semimatch", preset="tiny")
def tiny() -> Recipe:
    """At 160 px, 10 x 10 cells: ``scbench run semimatch --preset tiny --finetune toy --eval toy``."""
    return replace(LAPTOP, model={**LAPTOP.model, "size": 160, "projection": 60, "heads": 4, "start": 0.01}, epochs=2)


# SemiMatch's checkpoints have the keys of CATs, with which its authors start.

assert CATs.published is not None
SemiMatch.published = replace(
    CATs.published,
    about="SemiMatch's checkpoints have the keys of CATs, with which its authors start.",
    settings=("temperature",),
)
