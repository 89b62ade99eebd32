"""What the generator sees of an image: tokens on a grid and one global token, from a frozen backbone.

The paper takes iBOT's ViT-B/16 at 512 px. Any timm backbone serves: a vision transformer gives its patch tokens
and its class token; a CNN its chosen stages, each L2-normalised, on one grid, and their mean over the image.
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

LITE0_LAYERS = (5, 7)  # ends of the stages at stride 16 and 32


@dataclass(frozen=True)
class Features:
    """Features of B images.

    tokens        (B, C, h, w); the L2 norm over C is 1
    global_token  (B, C), of the tokens' scale
    """

    tokens: Tensor
    global_token: Tensor

    @property
    def grid(self) -> tuple[int, int]:
        """Rows and columns of the grid."""
        return self.tokens.shape[-2], self.tokens.shape[-1]

    def __getitem__(self, images: slice | Tensor | list[int]) -> Features:
        """The features of some of the images.

        >>> Features(torch.zeros(3, 8, 2, 2), torch.zeros(3, 8))[[0, 2]].tokens.shape
        torch.Size([2, 8, 2, 2])
        """
        return Features(self.tokens[images], self.global_token[images])

    def to(self, target: torch.device | torch.dtype | str) -> Features:
        """The same on another device or of another precision."""
        where: Any = target
        return Features(self.tokens.to(where), self.global_token.to(where))


class FeatureReader(nn.Module):
    """Reads ``Features`` with a frozen backbone.

    Args:
        backbone: timm's name.
        layers: layers to read (see ``sc_imagenet/backbones/backbone.py``); None: 5 and 7 of EfficientNet-Lite0
            (strides 16 and 32), else the coarse ones of a CNN, the last block of a ViT.
        size: input side S in pixels that is asked for; the reader's own ``size`` is the next that the backbone's
            cells fill.
        grid: cells along each side; None: those of the finest layer read.
        pretrained: the backbone's weights: True, False, or a file; iBOT's released teachers load into
            ``vit_base_patch16_224`` (see ``sc_imagenet/backbones/pretrained.py``).

    Raises:
        InputError: a backbone or weights that cannot be had.
    """

    def __init__(
        self,
        backbone: str = LITE0,
        layers: Sequence[int] | None = None,
        size: int = 320,
        grid: int | None = None,
        pretrained: bool | str = True,
    ) -> None:
        super().__init__()
        if layers is None and backbone.split(".")[0] == LITE0:
            layers = LITE0_LAYERS
        self.backbone = build_backbone(backbone, layers, size, pretrained, final_norm=True).requires_grad_(False)
        self.size, self.mean, self.std = self.backbone.size, self.backbone.mean, self.backbone.std
        self.channels = sum(self.backbone.channels)
        self._grid = grid
        self.eval()

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
        grid = self._grid or max(features.shape[-1] for features in maps)
        # Each layer weighs the same, however many channels it has and however large its values are.
        normalised = [_to_grid(F.normalize(features, dim=1), grid) for features in maps]
        tokens = F.normalize(torch.cat([F.normalize(features, dim=1) for features in normalised], 1), dim=1)
        if token is not None and token.shape[1] == tokens.shape[1]:
            return Features(tokens, F.normalize(token, dim=1))
        return Features(tokens, tokens.mean((2, 3)))


def _to_grid(features: Tensor, grid: int) -> Tensor:
    if features.shape[-1] == grid:
        return features
    # Antialias where a map is made smaller: all that a cell covers counts.
    return F.interpolate(features, (grid, grid), mode="bilinear", antialias=features.shape[-1] > grid)
