"""Visual-AI's semantic correspondence: DINOv2 with its last two blocks fine-tuned on keypoints, and nothing else.

The loss is SD4Match's (Li et al., CVPR 2024): a Gaussian around each keypoint's place is what the similarities of that
keypoint with all cells of the target should be."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from baselines.matcher import Batch, Features, Matcher
from baselines.nearest import Described
from baselines.protocol import PublishedProtocol
from baselines.recipe import LAPTOP_BACKBONE, Recipe, recipe
from baselines.registry import register
from sc_imagenet.backbones.backbone import Backbone, build_backbone, last_blocks
from sc_imagenet.core.errors import InputError
from sc_imagenet.geometry.correlation import unit
from sc_imagenet.geometry.map_points import Readout, read_maps
from sc_imagenet.geometry.point_maps import aligned_cells, gaussian_cross_entropy, read_cells, similarities

PUBLISHED_BACKBONE = "vit_base_patch14_dinov2.lvd142m"
TEMPERATURE = 0.03
REACH = 3  # cells; how far a keypoint's Gaussian is looked at
READOUT = Readout("kernel-softmax", temperature=TEMPERATURE, sigma=7.0, place="aligned", query="aligned")


@register(
    "visual-ai",
    title="Visual-AI",
    paper="TPAMI 2025, arXiv 2505.18060",
    licence="none: the authors' repository has no licence file that we found",
    supervision="keypoints",
    backbone=PUBLISHED_BACKBONE,
    trained_on=("spair-71k",),
    protocol=PublishedProtocol(840, "forward"),
)
class VisualAI(Matcher):
    """A backbone whose last blocks are trained; the defaults are the published model.

    Args:
        backbone: timm's name.
        layers: layers to read (see ``sc_imagenet/backbones/backbone.py``); None: the last block of a vision
            transformer, behind its last norm, or the coarse layers of other networks.
        size: side S of the input; the next that the backbone's cells fill is taken.
        trained: how many of the network's last blocks (of a CNN: stages) are trained; all else stays as it is.
        sigma: of a keypoint's Gaussian in cells. The published 1.5 are 2.5 % of the frame at 60 x 60 cells.
        pretrained: the backbone's weights: True, False, or a file (see ``sc_imagenet/backbones/pretrained.py``).

    Raises:
        InputError: a backbone that cannot be had, or a sigma that is not above 0.
    """

    direction = "forward"
    training_arguments = ("sigma",)
    backbone: Backbone

    def __init__(
        self,
        backbone: str = PUBLISHED_BACKBONE,
        layers: Sequence[int] | None = None,
        size: int = 840,
        trained: int = 2,
        sigma: float = 1.5,
        pretrained: bool | str = True,
    ) -> None:
        super().__init__()
        self.sigma = sigma
        self.check_training_arguments()
        self.backbone = build_backbone(backbone, layers, size, pretrained, final_norm=True).requires_grad_(False)
        self.size, self.mean, self.std = self.backbone.size, self.backbone.mean, self.backbone.std
        for block in last_blocks(self.backbone.net, trained):
            block.requires_grad_(True)

    def check_training_arguments(self) -> None:
        """See ``Matcher``."""
        if not (isinstance(self.sigma, (int, float)) and self.sigma > 0):
            raise InputError(f"sigma = {self.sigma!r:.80} must be above 0", where="visual-ai")

    def encode(self, images: Tensor) -> list[Tensor]:
        """Images (B, 3, S, S) -> features (B, C, h, w); layers at the grid of the finest, each at unit length."""
        maps = self.backbone(images)
        if len(maps) == 1:
            return maps
        grid = max(features.shape[-1] for features in maps)
        return [torch.cat([F.interpolate(unit(each), (grid, grid), mode="bilinear") for each in maps], 1)]

    def match(self, source: Features, target: Features) -> Described:
        """Nothing yet: which similarities are computed depends on the points."""
        return Described(source[0], target[0])

    def similarity(self, output: Described, points: Tensor) -> Tensor:
        """Cosines (B, K, h, w) of the source's features, read at points (B, K, 2), with all cells of the target."""
        read = read_cells(output.source, aligned_cells(points, self.size, output.source.shape[-1]))
        return similarities(unit(read.mT).mT, unit(output.target))

    def transfer(self, output: Described, points: Tensor) -> Tensor:
        """Points (B, K, 2) of the source -> the expected place around the best cell of the target."""
        if points.shape[1] == 0:
            return points
        rows = self.similarity(output, points).float().cpu().numpy()
        return torch.from_numpy(np.stack([read_maps(READOUT, maps, self.size) for maps in rows])).to(points)

    def loss(self, output: Described, batch: Batch) -> Tensor:
        """Cross-entropy with a Gaussian around each keypoint's place, the mean over a pair's, then over the pairs."""
        rows, valid = self.similarity(output, batch["source_points"]), batch["valid"]
        cells = aligned_cells(batch["target_points"], self.size, rows.shape[-1])
        each = gaussian_cross_entropy(rows, cells, self.sigma, TEMPERATURE, REACH)
        return ((each * valid).sum(1) / valid.sum(1).clamp(min=1)).mean()


# Recipes of Visual-AI. Epochs, batch and resolution of the published run are not known; their script has toy values.

PAPER = Recipe(
    model={"backbone": PUBLISHED_BACKBONE, "size": 840},
    lr=1e-4,
    backbone_lr=1e-4,
    weight_decay=0.05,
    batch=4,
    epochs=3,
    milestones=(1, 2),
    gamma=0.5,
)


@recipe("visual-ai")
def any_data() -> Recipe:
    """``scbench run visual-ai --finetune spair-71k --eval spair-71k``: 14.2 M weights of DINOv2-B/14 are trained.

    AdamW, the rate halved after epochs 1 and 2, as the authors have it; batch and epochs are our reading. Authors,
    SPair-71k, PCK@.10: 85.1.
    """
    return PAPER


LAPTOP = replace(
    PAPER,
    model={"backbone": LAPTOP_BACKBONE, "layers": [5, 7], "size": 256, "trained": 3},
    backbone_lr=5e-4,
    batch=8,
    epochs=4,
    milestones=(2, 3),
    backbone_batchnorm="eval",
)


@recipe("visual-ai", preset="small")
def small() -> Recipe:
    """The last stages of EfficientNet-Lite0 at 256 px: ``--preset small --finetune NAME``."""
    return LAPTOP


@recipe("visual-ai", preset="tiny")
def tiny() -> Recipe:
    """The same at 160 px, 10 x 10 cells: ``scbench run visual-ai --preset tiny --finetune toy --eval toy``."""
    return replace(LAPTOP, model={**LAPTOP.model, "size": 160, "sigma": 0.5}, epochs=2, milestones=(1,))
