"""CATs: Cost Aggregation Transformers for Visual Correspondence (Cho et al., NeurIPS 2021).

Source and target are correlated at several layers of a backbone; a transformer refines the correlations, first
seen from the target's cells, then from the source's; a soft-argmax reads a flow from the target into the source."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from baselines.matcher import Batch, Features, Matcher
from baselines.protocol import PublishedProtocol
from baselines.recipe import ANY, LAPTOP, LAPTOP_BACKBONE, Recipe, recipe
from baselines.registry import register
from baselines.weights import PublishedWeights
from sc_imagenet.backbones.backbone import Backbone, build_backbone
from sc_imagenet.core.errors import InputError
from sc_imagenet.data.tensor_files import State
from sc_imagenet.geometry.correlation import cosine, mutual_nearest_neighbour
from sc_imagenet.geometry.flow import carry_points, end_point_error, mapping_to_flow
from sc_imagenet.geometry.grids import sparse_flow
from sc_imagenet.geometry.soft_argmax import soft_argmax

SPAIR_LAYERS = (0, 8, 20, 21, 26, 28, 29, 30)  # hyperpixels of ResNet-101, found by Min et al. per data set
PF_PASCAL_LAYERS = (2, 17, 21, 22, 25, 26, 28)
PUBLISHED_START = 0.02  # standard deviation of the transformer's weights before training
REACH = 17 / 16  # a keypoint supervises the cells this many strides around it (35 pixels at stride 16)


@register(
    "cats",
    title="CATs",
    paper="Cho et al., NeurIPS 2021",
    licence="none: the authors' repository has no licence file that we found",
    supervision="keypoints",
    backbone="resnet101.tv_in1k",
    trained_on=("spair-71k", "pf-pascal"),
    protocol=PublishedProtocol(256, "backward"),
    step_seconds={ANY: 0.1837},
)
class CATs(Matcher):
    """CATs with any backbone; the defaults are the published model for SPair-71k.

    Args:
        backbone: timm's name.
        layers: layers to correlate at (see ``sc_imagenet/backbones/backbone.py``); None: ``SPAIR_LAYERS`` of a
            ResNet-101, the coarse layers of any other backbone.
        size: side S of the input; the next that the backbone's cells fill is taken.
        feature_size: cells along each side of the correlated grids; None: S / 16.
        projection: channels that each layer's features are projected to, beside the correlations.
        heads, depth, mlp_ratio: of the transformer.
        start: standard deviation of the refinement's last weights before training. The published 0.02 is noise
            that has to be unlearnt; 0 begins at the raw correlations.
        pretrained: the backbone's weights: True, False, or a file (see ``sc_imagenet/backbones/pretrained.py``).

    Raises:
        InputError: sizes that do not go together, or a backbone that cannot be had.
    """

    direction = "backward"
    match_arguments: ClassVar[Sequence[str]] = ("projection", "heads", "depth", "mlp_ratio", "start")
    match_weights = ("proj.", "decoder.", "x_normal", "y_normal")
    temperature = 0.02  # of the soft-argmax
    backbone: Backbone

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
        pretrained: bool | str = True,
    ) -> None:
        super().__init__()
        if layers is None and backbone.split(".")[0] == "resnet101":
            layers = SPAIR_LAYERS
        self.backbone = build_backbone(backbone, layers, size, pretrained, overhang=True)
        self.size, self.mean, self.std = self.backbone.size, self.backbone.mean, self.backbone.std
        self.feature_size = grid = feature_size or self.size // 16
        width = grid * grid + projection
        if width % (2 * heads):
            raise InputError(
                f"CATs: {grid} x {grid} cells + {projection} projected channels = {width} channels "
                f"are not a multiple of 2 x {heads} heads",
                fix=f"projection={projection + -width % (2 * heads)} would do.",
            )
        channels = self.backbone.channels
        self.proj = nn.ModuleList(nn.Linear(count, projection) for count in channels)
        self.decoder = Aggregator(grid, len(channels), projection, heads, depth, mlp_ratio)
        with torch.no_grad():
            self.decoder.proj.weight *= start / PUBLISHED_START
        # The published model trains the coordinates that the soft-argmax reads.
        self.x_normal = nn.Parameter(torch.linspace(-1, 1, grid))
        self.y_normal = nn.Parameter(torch.linspace(-1, 1, grid))

    def encode(self, images: Tensor) -> list[Tensor]:
        """Features of images (B, 3, S, S) at every layer, resized to the grid: a list of (B, C, h, w)."""
        return [self._to_grid(features) for features in self.backbone(images)]

    def features(self, source: Tensor, target: Tensor) -> tuple[Features, Features]:
        """Features of both images at every layer, resized to the grid: lists of (B, C, h, w)."""
        if self.backbone.training:  # two passes: batch statistics of one image role each, as published
            return self.encode(source), self.encode(target)
        return super().features(source, target)

    def match(self, source: Features, target: Features) -> Tensor:
        """Features -> flow (B, 2, h, w) on the target's grid into the source, in cells."""
        return self.flow(self.refine(source, target))

    def _to_grid(self, features: Tensor) -> Tensor:
        grid = (self.feature_size, self.feature_size)
        if features.shape[-2:] == grid:
            return features
        return F.interpolate(features, grid, mode="bilinear", align_corners=True)

    def correlate(self, source: Features, target: Features) -> Tensor:
        """Filtered correlations of all layers (section 3.2): (B, L, N_source, N_target)."""
        volumes = [cosine(source_map, target_map) for source_map, target_map in zip(source, target)]
        return mutual_nearest_neighbour(torch.stack(volumes, 1))

    def project(self, features: Features) -> Tensor:
        """Features of all layers projected to the same channels: (B, L, N, projection)."""
        tokens = [linear(maps.flatten(2).transpose(1, 2)) for linear, maps in zip(self.proj, features)]
        return torch.stack(tokens, 1)

    def refine(self, source: Features, target: Features) -> Tensor:
        """Features -> refined correlation (B, N_source, N_target), averaged over the layers (section 3.3)."""
        return self.decoder(self.correlate(source, target), self.project(source), self.project(target))

    def flow(self, correlation: Tensor) -> Tensor:
        """Refined correlation (B, N_source, N_target) -> flow (B, 2, h, w)."""
        grid = self.feature_size
        scores = correlation.unflatten(1, (grid, grid))
        mapping = soft_argmax(scores, self.x_normal, self.y_normal, self.temperature)
        return mapping_to_flow(mapping.unflatten(2, (grid, grid)))

    def loss(self, output: Tensor, batch: Batch) -> Tensor:
        """End-point error of the flow in cells, averaged over the supervised cells of the whole batch."""
        return end_point_error(output, self.true_flow(batch))

    def true_flow(self, batch: Batch) -> Tensor:
        """The flow (B, 2, h, w) that keypoints give; 0 in cells that none covers."""
        stride = self.size / self.feature_size
        points = batch["source_points"], batch["target_points"]
        return sparse_flow(*points, batch["valid"], self.feature_size, stride, REACH * stride)[0]

    def transfer(self, output: Tensor, points: Tensor) -> Tensor:
        """Points (B, K, 2) of the target -> points of the source; whole pixels are transferred, as published."""
        return carry_points(output, points, self.size)


class Aggregator(nn.Module):
    """Refines correlations twice with the same blocks: rows seen from the target, then from the source."""

    def __init__(self, grid: int, levels: int, projection: int, heads: int, depth: int, mlp_ratio: float) -> None:
        super().__init__()
        cells = grid * grid
        width = cells + projection
        self.grid = grid
        self.pos_embed_x = nn.Parameter(torch.zeros(1, levels, 1, grid, width // 2))
        self.pos_embed_y = nn.Parameter(torch.zeros(1, levels, grid, 1, width // 2))
        self.blocks = nn.Sequential(*(MultiscaleBlock(width, heads, mlp_ratio) for _ in range(depth)))
        self.proj = nn.Linear(width, cells)
        # In published checkpoints, but never used; it gets no gradient.
        self.norm = nn.LayerNorm(width, eps=1e-6).requires_grad_(False)
        self.apply(_initialise)
        nn.init.trunc_normal_(self.pos_embed_x, std=PUBLISHED_START)
        nn.init.trunc_normal_(self.pos_embed_y, std=PUBLISHED_START)

    def forward(self, correlation: Tensor, source: Tensor, target: Tensor) -> Tensor:
        """Correlation (B, L, N_source, N_target), features (B, L, N, P) -> (B, N_source, N_target).

        The mean over the layers is taken before the last linear ones, with which it commutes.
        """
        position = self.position()
        seen_from_target = torch.cat((correlation.transpose(-1, -2), target), -1) + position
        refined = self.proj(self.blocks(seen_from_target)).transpose(-1, -2) + correlation
        seen_from_source = torch.cat((refined, source), -1) + position
        blocks: list[MultiscaleBlock] = list(self.blocks)  # type: ignore[arg-type]
        for block in blocks[:-1]:
            seen_from_source = block(seen_from_source)
        return self.proj(blocks[-1].averaged(seen_from_source)) + correlation.mean(1)

    def position(self) -> Tensor:
        """Learned position of every cell, half its channels by column, half by row: (1, L, N, width)."""
        by_column = self.pos_embed_x.expand(-1, -1, self.grid, -1, -1)
        by_row = self.pos_embed_y.expand(-1, -1, -1, self.grid, -1)
        return torch.cat((by_column, by_row), -1).flatten(2, 3)


class MultiscaleBlock(nn.Module):
    """Attention over the cells of each layer, then over the layers at each cell (section 3.3)."""

    def __init__(self, width: int, heads: int, mlp_ratio: float) -> None:
        super().__init__()
        self.attn = Attention(width, heads)
        self.attn_multiscale = Attention(width, heads)
        self.norm1, self.norm2, self.norm3, self.norm4 = (nn.LayerNorm(width, eps=1e-6) for _ in range(4))
        self.mlp = Mlp(width, int(width * mlp_ratio))
        self.mlp2 = Mlp(width, int(width * mlp_ratio))

    def forward(self, x: Tensor) -> Tensor:
        """(B, L, N, width) -> same shape."""
        x = self.attend(x)
        return x + self.mlp(self.norm2(x))

    def attend(self, x: Tensor) -> Tensor:
        """All but the last step; shapes as in ``forward``."""
        x = x + self.attn(self.norm1(x))
        if x.shape[1] > 1:
            x = x + self.mlp2(self.norm4(x))
            x = x + self.attn_multiscale(self.norm3(x).transpose(1, 2)).transpose(1, 2)
        return x

    def averaged(self, x: Tensor) -> Tensor:
        """The mean of ``forward`` over the layers: (B, L, N, width) -> (B, N, width)."""
        x = self.attend(x)
        hidden = F.gelu(self.mlp.fc1(self.norm2(x)))
        return x.mean(1) + self.mlp.fc2(hidden.mean(1))


class Attention(nn.Module):
    """Multi-head self-attention over the last but one dimension."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(width, 3 * width)
        self.proj = nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        """(A, B, N, width) -> same shape; A and B are batch dimensions."""
        qkv = self.qkv(x).unflatten(-1, (3, self.heads, -1))  # (A, B, N, 3, heads, channels)
        query, key, value = qkv.permute(3, 0, 1, 4, 2, 5).flatten(1, 2)
        mixed = F.scaled_dot_product_attention(query, key, value)  # (A * B, heads, N, channels)
        return self.proj(mixed.transpose(1, 2).flatten(2).unflatten(0, x.shape[:2]))


class Mlp(nn.Module):
    """Two linear layers with a GELU between them."""

    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(width, hidden)
        self.fc2 = nn.Linear(hidden, width)

    def forward(self, x: Tensor) -> Tensor:
        """(..., width) -> same shape."""
        return self.fc2(F.gelu(self.fc1(x)))


def _initialise(module: nn.Module) -> None:
    if isinstance(module, nn.Linear):
        nn.init.trunc_normal_(module.weight, std=PUBLISHED_START)
        nn.init.zeros_(module.bias)


# Recipes of CATs (Cho et al., NeurIPS 2021; the authors' code for what the paper leaves open).
#
# Every paper recipe is the UNFROZEN one, behind the paper's headline numbers. The authors' code freezes the backbone
# unless told otherwise; that variant is ``--set recipe.backbone_lr=0``. In both the backbone's batch norm runs on the
# statistics of the batch while training.

PAPER = Recipe(
    model={"backbone": "resnet101.tv_in1k", "layers": list(SPAIR_LAYERS), "size": 256},
    optimiser="adamw",
    lr=3e-5,
    backbone_lr=3e-6,
    weight_decay=0.05,
    batch=32,
    epochs=100,
    milestones=(70, 80, 90),
    gamma=0.5,
    augmentation="cats",
    points=40,
    validation="paper",
    backbone_batchnorm="train",
)


@recipe("cats", "spair-71k")
def spair_71k() -> Recipe:
    """``scbench run cats --finetune spair-71k --eval spair-71k``: 1,667 steps an epoch.

    Paper, PCK@0.1/bbox: 49.9; backbone frozen: 42.4. The authors say fewer than 100 epochs are enough unfrozen;
    the best weights by validation are kept.
    """
    return PAPER


@recipe("cats", "pf-pascal")
def pf_pascal() -> Recipe:
    """``scbench run cats --finetune pf-pascal --eval pf-pascal --eval pf-willow``: 92 steps an epoch.

    Paper, PCK@.05/.10/.15 (img): 75.4 / 92.6 / 96.4; backbone frozen: 67.5 / 89.1 / 94.9. The same weights on
    PF-WILLOW (bbox-padded, legacy): 50.3 / 79.2 / 90.3.
    """
    return replace(PAPER, model={**PAPER.model, "layers": list(PF_PASCAL_LAYERS)})


@recipe("cats", "sc-imagenet")
def sc_imagenet() -> Recipe:
    """``scbench run cats --pretrain sc-imagenet --finetune spair-71k --eval spair-71k``: 24,832 steps an epoch.

    Pre-training with CATs' own values, as the authors of SC-ImageNet published it, at most 40 points a pair; but
    unfrozen, where their code freezes the backbone by default. Their fine-tuning takes up optimiser, epoch and best
    score of the pre-training; ours takes its weights alone and starts afresh, at epoch 0 and the full rate. Paper,
    SPair-71k after fine-tuning: 54.6 (Table 2; Table 3 says 54.5).
    """
    return PAPER


@recipe("cats")
def any_data() -> Recipe:
    """Data that the authors did not train on: the values and hyperpixels of PF-PASCAL."""
    return replace(pf_pascal(), validation="strict")


LAPTOP = replace(
    LAPTOP,
    model={
        "backbone": LAPTOP_BACKBONE,
        "layers": [5, 7],
        "size": 256,
        "projection": 128,
        "heads": 6,
        "mlp_ratio": 2.0,
    },
)


@recipe("cats", preset="small")
def small() -> Recipe:
    """CATs on EfficientNet-Lite0 at 256 px, 16 x 16 cells: ``scbench run cats --preset small --finetune NAME``.

    Eight epochs (``--set recipe.epochs=8``) of ``pf-willow:images_train``, six classes, ten minutes on one core;
    ``images_test``, PCK@.05/.10/.15 (bbox-kp, original pixels, image average), mean of three seeds:
    38.3 / 67.4 / 81.0, where ``nearest`` has 34.3 / 53.6 / 66.4.
    """
    return replace(LAPTOP, model={**LAPTOP.model, "start": 0.0})


@recipe("cats", preset="tiny")
def tiny() -> Recipe:
    """CATs on EfficientNet-Lite0 at 160 px, 10 x 10 cells: ``scbench quickstart``, four minutes on two cores.

    On ``toy``, PCK@.05/.10/.15 (bbox-kp, original pixels, image average): 3.2 / 10.9 / 20.0 untrained,
    26.3 / 57.9 / 75.0 trained.
    """
    model = {**LAPTOP.model, "size": 160, "projection": 60, "heads": 4, "start": 0.01}
    return replace(LAPTOP, model=model, epochs=2, augmentation="none")


# The checkpoints that CATs' authors published: a ResNet-101 and one of two lists of hyperpixels.

PUBLISHED_PREFIX, PREFIX = "feature_extraction.backbone.", "backbone.net."

# The channels of the first hyperpixel tell the lists apart: 64 after max-pooling, 256 after a block of layer1.
LAYERS = {64: SPAIR_LAYERS, 256: PF_PASCAL_LAYERS}


def from_published(state: State) -> State:
    """The authors' state under our keys."""
    return {key_of(key): value for key, value in state.items()}


def key_of(key: str) -> str:
    """The published key -> key.

    >>> key_of("feature_extraction.backbone.conv1.weight"), key_of("proj.0.weight")
    ('backbone.net.conv1.weight', 'proj.0.weight')
    """
    return PREFIX + key.removeprefix(PUBLISHED_PREFIX) if key.startswith(PUBLISHED_PREFIX) else key


def arguments_of(state: Mapping[str, Tensor]) -> dict[str, Any]:
    """Arguments of ``CATs`` for these weights.

    Raises:
        InputError: not weights of CATs, or of a backbone or hyperpixels that the authors did not publish.
    """
    needed = ("x_normal", "proj.0.weight", "decoder.proj.weight", "decoder.blocks.0.mlp.fc1.weight")
    if missing := [key for key in needed if key not in state]:
        raise InputError(f"are no weights of CATs: there is no {missing[0]}")
    first = state["proj.0.weight"]
    levels = sum(key.startswith("proj.") and key.endswith(".weight") for key in state)
    layers = LAYERS.get(first.shape[1])
    if layers is None or len(layers) != levels or f"{PREFIX}layer3.22.bn3.weight" not in state:
        raise InputError(
            f"holds CATs with {levels} layers, the first of {first.shape[1]} channels, not one of the published "
            "ResNet-101 models",
            fix="A model of another backbone is loaded from the folder that save_pretrained wrote.",
        )
    grid = state["x_normal"].numel()
    hidden, width = state["decoder.blocks.0.mlp.fc1.weight"].shape
    return {
        "layers": list(layers),
        "size": 16 * grid,
        "feature_size": grid,
        "projection": first.shape[0],
        "depth": len({key.split(".")[2] for key in state if key.startswith("decoder.blocks.")}),
        "mlp_ratio": hidden / width,
    }


CATs.published = PublishedWeights(
    about="The checkpoints that CATs' authors published: a ResNet-101 and one of two lists of hyperpixels.",
    marker=PUBLISHED_PREFIX,
    convert=from_published,
    arguments=arguments_of,
)
