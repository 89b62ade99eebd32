"""What the generator sees of an image: tokens on a grid and one global token, from a frozen backbone.

The paper takes iBOT's ViT-B/16 at 512 px. Any timm backbone serves: a vision transformer gives its patch tokens
and its class token; a CNN its chosen stages, each L2-normalised, on one grid, and their mean over the image. Channels
are standardised over the image, unless asked otherwise: one that is high everywhere does not tell where a part lies.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sc_imagenet.backbones import LITE0
from sc_imagenet.backbones.backbone import StagedBackbone, build_backbone
from sc_imagenet.core.errors import InputError
from sc_imagenet.generation.feature_masks import feature_masks
from sc_imagenet.generation.options import POOLING, SIZE, WIDEST

LITE0_LAYERS = (4, 5, 6)  # ends of both stages at stride 16 and of the first at 32


@dataclass(frozen=True)
class Features:
    """Features of B images.

    tokens        (B, C, h, w); the L2 norm over C is 1
    global_token  (B, C), of the tokens' scale
    masks         (B, h, w) in [0, 1], the object by the backbone's own features; None: nobody has looked
    """

    tokens: Tensor
    global_token: Tensor
    masks: Tensor | None = None

    @property
    def grid(self) -> tuple[int, int]:
        """Rows and columns of the grid."""
        return self.tokens.shape[-2], self.tokens.shape[-1]

    def __getitem__(self, images: slice | Tensor | list[int]) -> Features:
        """The features of some of the images.

        >>> Features(torch.zeros(3, 8, 2, 2), torch.zeros(3, 8))[[0, 2]].tokens.shape
        torch.Size([2, 8, 2, 2])
        """
        masks = None if self.masks is None else self.masks[images]
        return Features(self.tokens[images], self.global_token[images], masks)

    def to(self, target: torch.device | torch.dtype | str) -> Features:
        """The same on another device or of another precision."""
        where: Any = target
        masks = None if self.masks is None else self.masks.to(where)
        return Features(self.tokens.to(where), self.global_token.to(where), masks)


def joined(parts: Sequence[Features]) -> Features:
    """The features of several batches as those of one."""
    masks = [part.masks for part in parts if part.masks is not None]
    tokens, token = (torch.cat([getattr(part, name) for part in parts]) for name in ("tokens", "global_token"))
    return Features(tokens, token, torch.cat(masks) if len(masks) == len(parts) else None)


class FeatureReader(nn.Module):
    """Reads ``Features`` with a frozen backbone.

    Args:
        backbone: timm's name.
        layers: layers to read (see ``sc_imagenet/backbones/backbone.py``); None: 4, 5 and 6 of EfficientNet-Lite0
            (strides 16, 16 and 32), else the coarse ones of a CNN, the last block of a ViT.
        size: input side S in pixels that is asked for; the reader's own ``size`` is the next that the backbone's
            cells fill.
        pooling: cells of the finest layer along each side of one of the tokens'. Tokens of a larger image on as many
            cells cost more to read, and no more to match.
        pretrained: the backbone's weights: True, False, or a file; iBOT's released teachers load into
            ``vit_base_patch16_224`` (see ``sc_imagenet/backbones/pretrained.py``).
        standardise: give each channel of the tokens mean 0 and variance 1 over the image before their L2 norm. The
            global token is not.

    Raises:
        InputError: a backbone or weights that cannot be had, or a pooling below 1.
    """

    def __init__(
        self,
        backbone: str = LITE0,
        layers: Sequence[int] | None = None,
        size: int = SIZE,
        pretrained: bool | str = True,
        pooling: float = POOLING,
        standardise: bool = True,
    ) -> None:
        super().__init__()
        if not 1 <= pooling <= WIDEST:
            raise InputError(f"pooling = {pooling} must lie between 1 and {WIDEST}", where="features")
        if layers is None and backbone.split(".")[0] == LITE0:
            layers = LITE0_LAYERS
        self.backbone = build_backbone(backbone, layers, size, pretrained, final_norm=True).requires_grad_(False)
        self.size, self.mean, self.std = self.backbone.size, self.backbone.mean, self.backbone.std
        self.channels = sum(self.backbone.channels)
        self.standardise = standardise
        self.pooling = pooling
        self.eval()

    def identity(self, weights: str) -> str:
        """What its features depend on, beside the image; ``weights`` tells those of the backbone."""
        read = f"{self.backbone.layers} {self.size} {self.pooling} {self.standardise}"
        return f"{self.backbone.name} {weights} {read}"

    def train(self, mode: bool = True) -> FeatureReader:
        """The backbone is frozen: it stays in evaluation mode."""
        return super().train(False)

    @torch.no_grad()
    def forward(self, images: Tensor) -> Features:
        """Images (B, 3, S, S), normalised by ``mean`` and ``std`` -> features, C = ``channels``."""
        if self.backbone.has_class_token:
            maps, token = cast(StagedBackbone, self.backbone).with_class_token(images)
        else:
            maps, token = self.backbone(images), None
        finest = max(features.shape[-1] for features in maps)
        # Each layer weighs the same, however many channels it has and however large its values are.
        normalised = [_to_grid(F.normalize(features, dim=1), finest) for features in maps]
        tokens = _joined(normalised)
        if token is not None and token.shape[1] != tokens.shape[1]:
            token = None
        token = tokens.mean((2, 3)) if token is None else F.normalize(token, dim=1)
        plain = self._pooled(tokens)
        masks = feature_masks(plain.float())  # what is high everywhere tells objects, not parts
        if self.standardise:
            tokens = self._pooled(_joined([F.instance_norm(features) for features in normalised]))
        return Features(tokens if self.standardise else plain, token, masks)

    def _pooled(self, tokens: Tensor) -> Tensor:
        if self.pooling == 1:
            return tokens
        return F.normalize(_to_grid(tokens, max(1, round(tokens.shape[-1] / self.pooling))), dim=1)


def _joined(maps: Sequence[Tensor]) -> Tensor:
    """Maps of one grid as one map of norm 1, to which each contributes as much."""
    return F.normalize(torch.cat([F.normalize(features, dim=1) for features in maps], 1), dim=1)


def _to_grid(features: Tensor, grid: int) -> Tensor:
    if features.shape[-1] == grid:
        return features
    # Antialias where a map is made smaller: all that a cell covers counts.
    return F.interpolate(features, (grid, grid), mode="bilinear", antialias=features.shape[-1] > grid)
