"""SCorrSAN: Sparse Correlation and Spatial Attention Networks, "Learning Semantic Correspondence with Sparse
Annotations" (Huang et al., ECCV 2022).

One layer of a backbone is enriched with each cell's similarities to the cells around it; a filtered correlation
at four times that layer's resolution gives a flow from the target into the source. Two such networks are trained
side by side: beside the keypoints, each learns from the other where both agree."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from baselines.matcher import Batch, Features, Matcher
from baselines.protocol import PublishedProtocol
from baselines.recipe import LAPTOP, LAPTOP_BACKBONE, Recipe, early_stages, recipe
from baselines.registry import register
from baselines.weights import PublishedWeights
from sc_imagenet.backbones.backbone import build_backbone
from sc_imagenet.core.errors import InputError
from sc_imagenet.data.tensor_files import State
from sc_imagenet.geometry.correlation import cosine, inner_product, mutual_nearest_neighbour, resize_target
from sc_imagenet.geometry.flow import carry_points, cells_read, end_point_error, labelled, mapping_to_flow
from sc_imagenet.geometry.grids import sparse_flow
from sc_imagenet.geometry.soft_argmax import upsampled_soft_argmax

RESNET101_LAYER = 30  # the last block of its third stage
UPSAMPLING = 4  # cells of the flow's grid a cell of the features, along each side
TEMPERATURE = 0.02  # of the soft-argmax
REACH = 5 / 4  # a keypoint labels the cells this many strides around it (5 pixels at stride 4)
DILATION = 7  # pseudo-labels are given within this square around labelled cells
PSEUDO_WEIGHT = 10.0
REMEMBERED = (0.2, 0.9)  # share of pseudo-labels that counts, in the first and from the tenth epoch of them
REMEMBER_EPOCHS = 10


@register(
    "scorrsan",
    title="SCorrSAN",
    paper="Huang et al., ECCV 2022",
    licence="that of the LICENSE file in the authors' repository, not read here",
    supervision="semi",
    backbone="resnet101.tv_in1k",
    trained_on=("spair-71k", "pf-pascal"),
    protocol=PublishedProtocol(256, "backward"),
)
class SCorrSAN(Matcher):
    """SCorrSAN with any backbone; the defaults are one network of the published model for SPair-71k.

    With ``networks=2`` a second one of the same kind is trained beside the first (section 3.3). Points are transferred
    by the first. The published code keeps the better of the two by validation; they are trained alike, so we
    always keep the first.

    Args:
        backbone: timm's name.
        layers: the one layer to read, as a list (see ``sc_imagenet/backbones/backbone.py``); None: ``RESNET101_LAYER``
            of a ResNet-101; of any other backbone the last of its coarse layers with the finest cells.
        size: side S of the input; the next that the backbone's cells fill is taken.
        context: each cell is compared with this many on each of four lines through it (odd; section 3.1).
        width: channels that features and similarities are mixed to.
        networks: 1, or 2 to train with a partner.
        pseudo_start: the epoch from which two networks learn from each other, counted from 0 in every training.
        pretrained: the backbones' weights: True, False, or a file (see ``sc_imagenet/backbones/pretrained.py``).

    Raises:
        InputError: not one layer, an even context, not one or two networks, or a backbone that cannot be had.
    """

    direction = "backward"
    training_arguments = ("pseudo_start",)
    backbone: nn.ModuleList
    coarse: int  # cells along each side of the features
    fine: int  # and of the flow

    def __init__(
        self,
        backbone: str = "resnet101.tv_in1k",
        layers: Sequence[int] | None = None,
        size: int = 256,
        context: int = 7,
        width: int = 2048,
        networks: int = 1,
        pseudo_start: int = 4,
        pretrained: bool | str = True,
    ) -> None:
        super().__init__()
        if layers is None:
            layers = [finest_coarse_layer(backbone, size)]
        if len(layers) != 1:
            raise InputError(f"SCorrSAN reads one layer, not {list(layers)}", fix="For instance layers=[30].")
        if context % 2 == 0 or context < 1:
            raise InputError(f"SCorrSAN: context={context} has no middle", fix="Take an odd number.")
        if networks not in (1, 2):
            raise InputError(f"SCorrSAN: networks={networks}", fix="1, or 2 to train with a partner.")
        self.pseudo_start = pseudo_start
        self.backbone = nn.ModuleList(build_backbone(backbone, layers, size, pretrained) for _ in range(networks))
        first: Any = self.backbone[0]
        self.size, self.mean, self.std = first.size, first.mean, first.std
        self.coarse = self.size // first.strides[0]
        self.fine = UPSAMPLING * self.coarse
        self.heads = nn.ModuleList(Head(first.channels[0], context, width, self.fine) for _ in range(networks))

    def encode(self, images: Tensor) -> list[Tensor]:
        """Images (B, 3, S, S) -> features (B, width, h, w) of the first network, enriched with their surroundings."""
        enrich: Any = self.heads[0].encoder
        return [enrich(self._to_grid(self.backbone[0](images)[0]))]

    def features(self, source: Tensor, target: Tensor, network: int = 0) -> tuple[Features, Features]:
        """The same of both images and either network."""
        enrich: Any = self.heads[network].encoder
        source_map, target_map = self.layer(source, target, network)
        return [enrich(source_map)], [enrich(target_map)]

    def match(self, source: Features, target: Features) -> Tensor:
        """Features -> filtered correlation (B, N_source, N_target) of their cells.

        ``flow`` reads it at the finer grid, where it is asked to.
        """
        return mutual_nearest_neighbour(cosine(source[0], target[0]))

    def correlate(self, source: Tensor, target: Tensor, network: int) -> Tensor:
        """The filtered correlation that one of the networks sees; shapes as in ``match``."""
        return self.match(*self.features(source, target, network))

    def layer(self, source: Tensor, target: Tensor, network: int) -> tuple[Tensor, Tensor]:
        """The layer that is read, of both images: (B, C, h, w) each."""
        backbone = self.backbone[network]
        if backbone.training:  # two passes: batch statistics of one image role each, as published
            (target_map,), (source_map,) = backbone(target), backbone(source)
        else:
            source_map, target_map = backbone(torch.cat((source, target)))[0].chunk(2)
        return self._to_grid(source_map), self._to_grid(target_map)

    def _to_grid(self, features: Tensor) -> Tensor:
        grid = (self.coarse, self.coarse)
        if features.shape[-2:] == grid:
            return features
        return F.interpolate(features, grid, mode="bilinear", align_corners=True)

    def flow(self, correlation: Tensor, cells: Tensor | None = None, network: int = 0) -> Tensor:
        """Correlation (B, N_source, N_target) -> flow (B, 2, H, W) on the fine grid of the target, in its cells.

        ``cells`` (B, H, W) bool are those where the flow is wanted; None wants all. Elsewhere nothing is computed,
        and the flow points at the source's centre.
        """
        head: Any = self.heads[network]
        coarse, fine = (self.coarse, self.coarse), (self.fine, self.fine)
        rows = resize_target(correlation, coarse, fine).transpose(1, 2)  # (B, N_fine, N_source)
        wanted = rows.new_ones(rows.shape[:2], dtype=torch.bool) if cells is None else cells.flatten(1)
        scores = rows[wanted].unflatten(1, coarse)
        positions = upsampled_soft_argmax(scores, head.x_normal, head.y_normal, TEMPERATURE)
        mapping = positions.new_zeros(*wanted.shape, 2).index_put((wanted,), positions)
        return mapping_to_flow(mapping.transpose(1, 2).unflatten(2, fine))

    def loss(self, output: Tensor, batch: Batch) -> Tensor:
        """End-point error of the first network's flow, see ``end_point_error``."""
        true = self.true_flow(batch)
        return end_point_error(self.flow(output, labelled(true)), true)

    def training_loss(self, batch: Batch, epoch: int) -> Tensor:
        """End-point error of every network; from epoch ``pseudo_start`` on, what two learn from each other too."""
        networks = range(len(self.heads))
        correlations = [self.correlate(batch["source"], batch["target"], network) for network in networks]
        true = self.true_flow(batch)
        cells = labelled(true)
        pseudo = len(networks) == 2 and epoch >= self.pseudo_start
        if pseudo:
            cells = F.max_pool2d(cells.float(), DILATION, 1, DILATION // 2) > 0
        flows = [self.flow(correlations[network], cells, network) for network in networks]
        supervised = torch.stack([end_point_error(flow, true) for flow in flows]).sum()
        if not pseudo:
            return supervised
        share = remembered(epoch - self.pseudo_start)
        return supervised + PSEUDO_WEIGHT * mutual_loss(flows[0], flows[1], cells, share)

    def true_flow(self, batch: Batch) -> Tensor:
        """The flow (B, 2, H, W) that keypoints give on the fine grid; 0 in cells that none covers."""
        stride = self.size / self.fine
        points = batch["source_points"], batch["target_points"]
        return sparse_flow(*points, batch["valid"], self.fine, stride, REACH * stride)[0]

    def transfer(self, output: Tensor, points: Tensor) -> Tensor:
        """Points (B, K, 2) of the target -> points of the source; whole pixels are transferred, as published."""
        return carry_points(self.flow(output, cells_read(points, self.size, self.fine)), points, self.size)


class Head(nn.Module):
    """What a network has beside its backbone."""

    def __init__(self, channels: int, context: int, width: int, fine: int) -> None:
        super().__init__()
        self.encoder = SpatialContextEncoder(channels, context, width)
        # The published model trains the coordinates that the soft-argmax reads.
        self.x_normal = nn.Parameter(torch.linspace(-1, 1, fine))
        self.y_normal = nn.Parameter(torch.linspace(-1, 1, fine))


class SpatialContextEncoder(nn.Module):
    """Features mixed with their similarities to the cells on four lines through each cell (section 3.1)."""

    def __init__(self, channels: int, context: int, width: int) -> None:
        super().__init__()
        steps = range(-(context // 2), context // 2 + 1)
        lines = ((1, 1), (1, 0), (1, -1), (0, 1))  # down the diagonal, down, down the anti-diagonal, right
        self.offsets = [(step * dy, step * dx) for dy, dx in lines for step in steps]
        self.conv = nn.Conv2d(channels + len(self.offsets), width, 1)

    def forward(self, features: Tensor) -> Tensor:
        """(B, C, h, w) -> (B, width, h, w)."""
        around = self_similarity(F.normalize(features, dim=1, eps=1e-12), self.offsets)
        return F.relu(self.conv(torch.cat((features, around), 1)))


def self_similarity(features: Tensor, offsets: Sequence[tuple[int, int]]) -> Tensor:
    """Inner product of every cell with the cells at each of the offsets (dy, dx), 0 beyond the border.

    (B, C, h, w) -> (B, len(offsets), h, w). They are entries of the Gram matrix of all cells, which one matrix
    product gives; shifted copies of the features are not made.

    >>> self_similarity(torch.tensor([[[[1.0, 2.0, 3.0]]]]), [(0, 0), (0, 1), (0, -1)])[0].tolist()
    [[[1.0, 4.0, 9.0]], [[2.0, 6.0, 0.0]], [[0.0, 2.0, 6.0]]]
    """
    height, width = features.shape[-2:]
    cells = height * width
    gram = inner_product(features, features)
    rows = torch.arange(height, device=features.device)[:, None]
    columns = torch.arange(width, device=features.device)
    entries, inside = [], []
    for dy, dx in offsets:
        row, column = rows + dy, columns + dx
        inside.append((row >= 0) & (row < height) & (column >= 0) & (column < width))
        there = row.clamp(0, height - 1) * width + column.clamp(0, width - 1)
        entries.append((rows * width + columns) * cells + there)
    return gram.flatten(1)[:, torch.stack(entries)] * torch.stack(inside)


def mutual_loss(first: Tensor, second: Tensor, cells: Tensor, share: float) -> Tensor:
    """What each of two networks loses against the other's flow, taken for true (section 3.3); see ``small_loss``."""
    return small_loss(first, second.detach(), cells, share) + small_loss(second, first.detach(), cells, share)


def small_loss(flow: Tensor, pseudo: Tensor, cells: Tensor, share: float) -> Tensor:
    """Mean distance of two flows over the ``share`` of the ``cells`` of the batch where it is smallest, in cells.

    flow, pseudo (B, 2, H, W), cells (B, H, W) bool. Where the networks disagree, one of them is wrong.
    """
    distance = torch.linalg.vector_norm(flow - pseudo, dim=1)[cells]
    if len(distance) == 0:
        return distance.sum()
    return distance.topk(max(1, int(share * len(distance))), largest=False).values.mean()


def remembered(epoch: int) -> float:
    """Share of the pseudo-labels that counts in an epoch after their start.

    >>> [round(remembered(epoch), 2) for epoch in (0, 3, 9, 50)]
    [0.2, 0.43, 0.9, 0.9]
    """
    first, last = REMEMBERED
    return first + (last - first) * min(epoch / (REMEMBER_EPOCHS - 1), 1)


def finest_coarse_layer(backbone: str, size: int) -> int:
    """Where a backbone is read by default: of its coarse layers (stride 16 and more) the last with the finest cells.

    >>> finest_coarse_layer("resnet18", 224)
    6
    """
    if backbone.split(".")[0] == "resnet101":
        return RESNET101_LAYER
    coarse = build_backbone(backbone, None, size, pretrained=False)
    return max(layer for layer, stride in zip(coarse.layers, coarse.strides) if stride == min(coarse.strides))


# Recipes of SCorrSAN (Huang et al., ECCV 2022; the authors' code for what the paper leaves open).
#
# Two networks are trained side by side, the backbones' batch norm on the statistics of the batch. No schedule within
# the 150 epochs: the authors halve the rates after the last. Their scripts name 50 epochs for SPair-71k in a variable
# that nothing reads.

PAPER = Recipe(
    model={
        "backbone": "resnet101.tv_in1k",
        "layers": [30],
        "size": 256,
        "context": 7,
        "width": 2048,
        "networks": 2,
        "pseudo_start": 4,
    },
    optimiser="adamw",
    lr=3e-5,
    backbone_lr=3e-6,
    weight_decay=0.05,
    batch=16,
    epochs=150,
    milestones=(150,),
    gamma=0.5,
    augmentation="photometric",
    points=40,
    validation="paper",
    backbone_batchnorm="train",
)


@recipe("scorrsan", "spair-71k")
def spair_71k() -> Recipe:
    """``scbench run scorrsan --finetune spair-71k --eval spair-71k``: 3,334 steps an epoch.

    Paper, PCK@0.1/bbox: 55.3.
    """
    return PAPER


@recipe("scorrsan", "pf-pascal")
def pf_pascal() -> Recipe:
    """``scbench run scorrsan --finetune pf-pascal --eval pf-pascal --eval pf-willow``: 184 steps an epoch.

    Paper, PCK@.05/.10/.15 (img): 81.5 / 93.3 / 96.6. The same weights on PF-WILLOW (bbox-padded, legacy):
    54.1 / 80.0 / 89.8.
    """
    return replace(PAPER, model={**PAPER.model, "context": 13, "width": 1024, "pseudo_start": 60})


@recipe("scorrsan", "sc-imagenet")
def sc_imagenet() -> Recipe:
    """``scbench run scorrsan --pretrain sc-imagenet --finetune spair-71k --eval spair-71k``: 49,664 steps an epoch.

    Pre-training with the values for SPair-71k: the SC-ImageNet paper says only that it "followed the vanilla
    implementation".
    """
    return PAPER


@recipe("scorrsan")
def any_data() -> Recipe:
    """Data that the authors did not train on: the values of PF-PASCAL."""
    return replace(pf_pascal(), validation="strict")


LAPTOP = replace(
    LAPTOP,
    model={
        "backbone": LAPTOP_BACKBONE,
        "layers": [5],
        "size": 256,
        "context": 7,
        "width": 256,
        "networks": 2,
        "pseudo_start": 2,
    },
    frozen=(*early_stages("backbone.0"), *early_stages("backbone.1")),
    augmentation="photometric",
)


@recipe("scorrsan", preset="small")
def small() -> Recipe:
    """SCorrSAN on EfficientNet-Lite0 at 256 px: ``scbench run scorrsan --preset small --finetune NAME``."""
    return LAPTOP


@recipe("scorrsan", preset="tiny")
def tiny() -> Recipe:
    """One network at 160 px, 40 x 40 cells: ``scbench run scorrsan --preset tiny --finetune toy --eval toy``."""
    return replace(LAPTOP, model={**LAPTOP.model, "size": 160, "networks": 1}, epochs=2, augmentation="none")


# Checkpoints of SCorrSAN's published code, which keeps one of the two networks; the authors released none.

# Beginnings of the authors' keys and of ours; the file holds the first network.
RENAMED = {
    "feature_extraction.backbone.": "backbone.0.net.",
    "SCEs.0.": "heads.0.encoder.",
    "x_normal": "heads.0.x_normal",
    "y_normal": "heads.0.y_normal",
}
CONV = "heads.0.encoder.conv.weight"
LINES = 4  # of cells that a cell is compared with
CHANNELS = 1024  # of the layer that is read


def from_published(state: State) -> State:
    """The authors' state under our keys."""
    return {key_of(key): value for key, value in state.items()}


def key_of(key: str) -> str:
    """The published key -> key.

    >>> key_of("feature_extraction.backbone.conv1.weight"), key_of("SCEs.0.conv.bias")
    ('backbone.0.net.conv1.weight', 'heads.0.encoder.conv.bias')
    """
    for published_part, part in RENAMED.items():
        if key.startswith(published_part):
            return part + key.removeprefix(published_part)
    return key


def arguments_of(state: Mapping[str, Tensor]) -> dict[str, Any]:
    """Arguments of ``SCorrSAN`` for these weights.

    Raises:
        InputError: not weights of SCorrSAN, or of another backbone than the published one.
    """
    needed = (CONV, "heads.0.x_normal", "heads.0.y_normal")
    if missing := [key for key in needed if key not in state]:
        raise InputError(f"are no weights of SCorrSAN: there is no {missing[0]}")
    width, channels = state[CONV].shape[:2]
    context, rest = divmod(channels - CHANNELS, LINES)
    if rest or context < 1 or "backbone.0.net.layer3.22.bn3.weight" not in state:
        raise InputError(
            f"holds SCorrSAN with {channels} channels before its encoder's convolution, not the published ResNet-101",
            fix="A model of another backbone is loaded from the folder that save_pretrained wrote.",
        )
    return {
        "layers": [RESNET101_LAYER],
        "size": 16 * state["heads.0.x_normal"].numel() // UPSAMPLING,
        "context": context,
        "width": width,
    }


SCorrSAN.published = PublishedWeights(
    about="Checkpoints of SCorrSAN's published code, which keeps one of the two networks; the authors released none.",
    marker=("feature_extraction.backbone.", "SCEs."),
    convert=from_published,
    arguments=arguments_of,
    optional=(".num_batches_tracked", "backbone.0.net.fc."),
)
