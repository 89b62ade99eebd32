"""The cascaded network that makes SC-ImageNet, as a model of the suite (Huang et al., ICCV 2023).

Trained from class labels alone: an image level that tells matching images from others, a region level that finds
the best cells of matching regions, a pixel level that learns from those. Inference re-weights the pixel level's
volume by Hough scores. ``sc_imagenet/generation`` holds the network, its losses and its training
(``scbench generate train``)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor
from torchvision.transforms.v2.functional import to_pil_image

from baselines.matcher import Batch, Matcher
from baselines.matcher import Features as Tensors
from baselines.recipe import Recipe, recipe
from baselines.registry import register
from sc_imagenet.backbones import LITE0
from sc_imagenet.core.errors import InputError
from sc_imagenet.generation.cascade.labels import TrainingPairs
from sc_imagenet.generation.cascade.losses import cascade_losses, trained_parameters
from sc_imagenet.generation.cascade.network import SHARPNESS, CascadeNetwork
from sc_imagenet.generation.cascade.options import STAGES, Stage, TrainingOptions, read_as_then
from sc_imagenet.generation.cascade.view_features import Views
from sc_imagenet.generation.cascade.views import View
from sc_imagenet.generation.features import FeatureReader, Features
from sc_imagenet.generation.options import POOLING, SIZE
from sc_imagenet.generation.saliency import OnnxSaliency, SaliencyFolder, mask_on_grid, open_saliency
from sc_imagenet.geometry.correlation import Grid
from sc_imagenet.geometry.grids import pixels_of, read_at
from sc_imagenet.geometry.soft_argmax import windowed_soft_argmax

AS_DEFAULT: dict[str, Any] = {}  # options of a training: each as it is by default


class Scores(NamedTuple):
    """Scores of all matches of a pair of images.

    volume  (B, N_source, N_target), non-negative
    source  the source's grid
    target  the target's grid
    """

    volume: Tensor
    source: Grid
    target: Grid


@register(
    "cascade",
    title="SC-ImageNet cascade",
    paper="Huang et al., ICCV 2023",
    licence="Apache-2.0: written here from the paper",
    supervision="weak",
    backbone=LITE0,
    trained_on=("filtered-imagenet",),
)
class Cascade(Matcher):
    """The three-stage generator with any backbone; untrained it is the backbone's features with Hough scores.

    Args:
        backbone: timm's name; the paper's is iBOT's ViT-B/16.
        layers: layers to read (see ``FeatureReader``).
        size: side S of the input; the next that the backbone's cells fill is taken.
        network: options of the network by name (see ``NetworkOptions``); those left out have their defaults.
        stage: the stage that is read, as a diagnostic; None: the last one.
        upsample: the target's scores are up-sampled so many times (bicubic) before the best is taken.
        window: half side, in cells, of the soft-argmax around the best. The paper does not say how; 3 x 3 cells
            are window 1 with upsample 1.
        pretrained: the backbone's weights: True, False, or a file (see ``sc_imagenet/backbones/pretrained.py``).
        saliency: "features", the backbone's own; or a U2-Net or IS-Net as an .onnx file, which sees the S x S images.
        training_options: options of its training on pairs by name (see ``TrainingOptions``); those left out have
            their defaults. Optimiser, rates and sizes are the recipe's, views and held-out photographs are none.
        pooling, standardise: see ``FeatureReader``.

    Raises:
        InputError: options that are not known, or a backbone that cannot be had.
    """

    direction = "forward"
    match_arguments = ("network", "stage", "upsample", "window", "training_options")
    match_weights = ("network.",)
    training_arguments = ("training_options",)
    backbone: FeatureReader

    def __init__(
        self,
        backbone: str = LITE0,
        layers: Sequence[int] | None = None,
        size: int = SIZE,
        network: Mapping[str, Any] | None = None,
        stage: Stage | None = None,
        upsample: int = 4,
        window: float = 2.5,
        pretrained: bool | str = True,
        saliency: str = "features",
        training_options: dict[str, Any] = AS_DEFAULT,
        pooling: float = POOLING,
        standardise: bool = True,
    ) -> None:
        super().__init__()
        options = TrainingOptions.from_dict({"network": dict(network or {})}).network
        if stage is not None and stage not in STAGES[: options.depth]:
            raise InputError(
                f"the network has no stage {stage!r} to read", fix=f"It has: {', '.join(STAGES[: options.depth])}"
            )
        self.stage, self.upsample, self.window = stage, upsample, window
        self.backbone = FeatureReader(backbone, layers, size, pretrained, pooling, standardise)
        self.size, self.mean, self.std = self.backbone.size, self.backbone.mean, self.backbone.std
        self.network = CascadeNetwork(self.backbone.channels, options)
        self.saliency = open_saliency(saliency)
        if isinstance(self.saliency, SaliencyFolder):
            raise InputError(
                "is a folder of masks, which are of photographs by name; pairs come without",
                where=saliency,
                fix="Give an .onnx file, or make a data set with these masks: 'scbench generate run' takes them.",
            )
        self.training_options = training_options or {}
        trained_parameters(self.network, self._training())  # freezes the stages that nothing reads

    @classmethod
    def as_saved(cls, arguments: Mapping[str, Any]) -> dict[str, Any]:
        """See ``Matcher``."""
        return read_as_then(arguments)

    @property
    def arguments(self) -> dict[str, Any]:
        """See ``Matcher``; training chooses how the network's stages are read."""
        given = super().arguments
        return {**given, "network": asdict(self.network.options)} if given else given

    def encode(self, images: Tensor) -> list[Tensor]:
        """Images (B, 3, S, S) -> tokens (B, C, h, w), global tokens (B, C) and masks (B, N)."""
        read = self.backbone(images)
        return [read.tokens, read.global_token, self._masks(images, read)]

    def match(self, source: Tensors, target: Tensors) -> Scores:
        """Features -> scores of all matches."""
        ours, theirs = Features(source[0], source[1]), Features(target[0], target[1])
        volume = self.network.scores(ours, theirs, source[2], target[2], self.stage)
        return Scores(volume, ours.grid, theirs.grid)

    def training_loss(self, batch: Batch, epoch: int) -> Tensor:
        """The cascade's losses with the pairs of a batch as positives; points are not looked at.

        Negatives are made by shifting the targets by one; ``scbench generate train``, which knows the classes,
        sees to it that they are of other classes.
        """
        both = self.backbone(torch.cat((batch["source"], batch["target"])))
        half = len(batch["source"])
        masks = self._masks(torch.cat((batch["source"], batch["target"])), both)
        whole = torch.tensor(View().placement(), device=masks.device).expand(half, -1)
        source, target = (Views(both[side], masks[side], whole) for side in (slice(half), slice(half, None)))
        pairs = TrainingPairs(source, target)
        return torch.stack(list(cascade_losses(self.network, pairs, self._training()).values())).sum()

    def _masks(self, images: Tensor, features: Features) -> Tensor:
        """What of normalised images (B, 3, S, S) is the object, by cells: (B, N) in [0, 1]."""
        if not isinstance(self.saliency, OnnxSaliency):
            assert features.masks is not None  # the reader's
            return features.masks.flatten(1)
        mean, std = (images.new_tensor(values).view(3, 1, 1) for values in (self.mean, self.std))
        pixels = (images * std + mean).clamp(0, 1)
        masks = [self.saliency.mask_of(to_pil_image(each.float().cpu())) for each in pixels]
        return torch.stack([mask_on_grid(mask, features.grid) for mask in masks]).flatten(1).to(images.device)

    def set_training_arguments(self, arguments: Mapping[str, Any]) -> None:
        """See ``Matcher``; they decide which parameters are trained."""
        super().set_training_arguments(arguments)
        trained_parameters(self.network, self._training())

    def _training(self) -> TrainingOptions:
        if "network" in self.training_options:
            raise InputError(
                "network is none of the training_options", fix="Options of the network are recipe.model.network."
            )
        return replace(TrainingOptions.from_dict(self.training_options), network=self.network.options)

    def transfer(self, output: Scores, points: Tensor) -> Tensor:
        """Points (B, K, 2) of the source -> the target; a point between cells reads its row bilinearly."""
        if points.shape[1] == 0:
            return points
        columns = output.volume.float().transpose(1, 2).unflatten(2, output.source)  # (B, N_target, h, w)
        rows = read_at(columns, points, self.size).unflatten(2, output.target)
        if self.upsample > 1:
            rows = F.interpolate(rows, scale_factor=self.upsample, mode="bicubic")
        rows = rows / rows.amax((2, 3), keepdim=True).clamp(min=1e-30)
        cells = windowed_soft_argmax(rows, self.window * self.upsample, SHARPNESS)
        return pixels_of(cells, self.size / rows.shape[-1])


# Recipes of the cascade. ``scbench generate train`` trains it from photographs by class; these serve where pairs of
# photographs of one class are given, whose points are not looked at.

# The losses of the paper's text, which its optimiser moves.
LITERAL = {"image_trains": "all", "class_loss": "literal", "region_loss": "class", "pixel_loss": "binary"}

PAPER_SGD = Recipe(
    model={"training_options": {**LITERAL, "hough_share": 0.0}},
    optimiser="sgd",
    lr=3e-5,
    backbone_lr=0.0,
    momentum=0.9,
    batch=32,
    epochs=10,
    augmentation="none",
    backbone_batchnorm="eval",
)


@recipe("cascade")
def paper() -> Recipe:
    """``scbench run cascade --eval pf-willow --checkpoint MODEL``, MODEL being what ``generate train`` wrote.

    Paper (iBOT's ViT-B/16 at 512 px, Table 4), PCK@.05/.10: PF-PASCAL 56.8 / 81.5, PF-WILLOW 57.6 / 85.3.
    Without a checkpoint: the features of EfficientNet-Lite0 at 448 px with Hough scores, untrained.
    """
    return PAPER_SGD


@recipe("cascade", "sc-imagenet")
def sc_imagenet() -> Recipe:
    """The generator made SC-ImageNet and is not trained on it; pairs of one class serve its losses all the same."""
    return PAPER_SGD


@recipe("cascade", preset="small")
def small() -> Recipe:
    """The same at 256 px, a 16 x 16 grid, with AdamW: a step for every pair of photographs of one class."""
    return Recipe(
        model={"size": 256, "pooling": 1.0},
        optimiser="adamw",
        lr=1e-3,
        backbone_lr=0.0,
        weight_decay=0.01,
        batch=8,
        epochs=2,
        schedule="cosine",
        warmup=20,
        backbone_batchnorm="eval",
    )


@recipe("cascade", preset="tiny")
def tiny() -> Recipe:
    """The same at 160 px, a 10 x 10 grid."""
    base = small()
    return Recipe(**{**base.__dict__, "model": {"size": 160, "pooling": 1.0, "network": {"fold": 2}}})
