"""NC-Net: Neighbourhood Consensus Networks for Estimating Image Correspondences (Rocco et al., NeurIPS 2018).

All matches of source and target cells are correlated; 4-D convolutions strengthen a match that its neighbours agree
with. It learns from pairs alone: matches of a pair that shows the same class should be surer than those of one
that does not."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

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
from sc_imagenet.geometry.conv4d import conv4d
from sc_imagenet.geometry.correlation import inner_product, resize_source, resize_target, unit

LAYERS = (30,)  # the end of ResNet-101's third stage
FRAME = 224  # side of the frame in which the authors normalise points, from the centre of its first pixel


@register(
    "ncnet",
    title="NC-Net",
    paper="Rocco et al., NeurIPS 2018",
    licence="that of the LICENSE file in the authors' repository, not read here",
    supervision="weak",
    backbone="resnet101.tv_in1k",
    trained_on=("pf-pascal",),
    protocol=PublishedProtocol(224, "backward"),
    step_seconds={ANY: 0.4459},
)
class NCNet(Matcher):
    """NC-Net with any backbone; the defaults are the published model for PF-PASCAL.

    Args:
        backbone: timm's name; frozen.
        layers: layers to correlate at (see ``sc_imagenet/backbones/backbone.py``), the mean of their correlations
            being taken; None: ``LAYERS`` of a ResNet-101, the coarse layers of any other backbone. A ResNet is
            read after its blocks' last ReLU.
        size: side S of the input; the next that the backbone's cells fill is taken.
        kernel: taps of the 4-D convolutions along each dimension.
        width: channels between the convolutions.
        sharpness: None starts with random weights, as published; a number with so many times the filtered
            correlation, random weights beside it.
        pretrained: the backbone's weights: True, False, or a file (see ``sc_imagenet/backbones/pretrained.py``).

    Raises:
        InputError: a backbone that cannot be had.
    """

    direction = "backward"
    match_arguments = ("kernel", "width", "sharpness")
    match_weights = ("consensus.",)
    trains_on_features = True
    backbone: Backbone

    def __init__(
        self,
        backbone: str = "resnet101.tv_in1k",
        layers: Sequence[int] | None = None,
        size: int = 400,
        kernel: int = 5,
        width: int = 16,
        sharpness: float | None = None,
        pretrained: bool | str = True,
    ) -> None:
        super().__init__()
        if layers is None and backbone.split(".")[0] == "resnet101":
            layers = LAYERS
        self.backbone = build_backbone(backbone, layers, size, pretrained, activated=True, overhang=True)
        self.backbone.requires_grad_(False)
        self.size, self.mean, self.std = self.backbone.size, self.backbone.mean, self.backbone.std
        self.consensus = Consensus(kernel, width)
        if sharpness is not None:
            self.consensus.start_at_correlation(sharpness)

    def encode(self, images: Tensor) -> list[Tensor]:
        """Images (B, 3, S, S) -> unit features (B, C, h, w) of every layer."""
        return [unit(maps) for maps in self.backbone(images)]

    def match(self, source: Features, target: Features) -> Tensor:
        """Features of all layers -> filtered matches (B, h, w, h', w'), source cells first (section 3)."""
        return mutual_matching(self.consensus(mutual_matching(self.correlate(source, target))))

    @staticmethod
    def correlate(source: Features, target: Features) -> Tensor:
        """Inner products of all cells, the mean of all layers on the grid of the finest: (B, h, w, h', w')."""
        grid = max(((maps.shape[2], maps.shape[3]) for maps in source), default=(0, 0))
        total = torch.zeros((), device=source[0].device)
        for source_map, target_map in zip(source, target):
            own = source_map.shape[2], source_map.shape[3]
            volume = resize_source(inner_product(source_map, target_map), own, grid)
            total = total + resize_target(volume, own, grid)
        return (total / len(source)).unflatten(2, grid).unflatten(1, grid)

    def training_loss(self, batch: Batch, epoch: int) -> Tensor:
        """How much surer the matches of wrong pairs are than those of the batch's pairs (section 3.4).

        A wrong pair is a target with the source of the pair before it, whatever its class.
        """
        source, target = self.features_of(batch)
        wrong = [maps.roll(1, 0) for maps in source]
        pairs = [torch.cat(both) for both in zip(source, wrong)], [torch.cat((maps, maps)) for maps in target]
        right, rolled = certainty(self.match(*pairs)).chunk(2)
        return rolled.mean() - right.mean()

    def transfer(self, output: Tensor, points: Tensor) -> Tensor:
        """Points (B, K, 2) of the target -> points of the source.

        The authors score in a frame of 224 pixels, the centres of whose first and last pixel are -1 and 1.
        """
        scale = FRAME / self.size
        transferred = transfer_normalised(output, points * (scale * 2 / (FRAME - 1)) - 1)
        return (transferred + 1) * ((FRAME - 1) / (2 * scale))


class Consensus(nn.Module):
    """Three 4-D convolutions that treat source and target alike (section 3.2)."""

    def __init__(self, kernel: int, width: int) -> None:
        super().__init__()
        channels = (1, width, width, 1)
        self.layers = nn.ModuleList(Conv4d(*pair, kernel) for pair in itertools.pairwise(channels))

    def forward(self, matches: Tensor) -> Tensor:
        """Matches (B, h, w, h', w') -> same shape: f(c) + f(c with its images exchanged), exchanged back.

        Both passes are one, where the two grids are alike; they always are of square images.
        """
        exchanged = (0, 3, 4, 1, 2)
        x = torch.cat((matches, matches.permute(exchanged)))[:, :, :, None]
        for layer in self.layers:
            x = layer(x).relu_()
        forth, back = x[:, :, :, 0].chunk(2)
        return forth + back.permute(exchanged)

    @torch.no_grad()
    def start_at_correlation(self, sharpness: float) -> None:
        """Let the first channel pass through all layers, at first ``sharpness`` / 2 times in each direction."""
        for layer, gain in zip(self.layers, (1.0, 1.0, sharpness / 2)):
            assert isinstance(layer, Conv4d)
            centre = layer.weight.shape[-1] // 2
            layer.weight[0] = 0.0
            layer.weight[0, 0, centre, centre, centre, centre] = gain
            layer.bias[0] = 0.0


class Conv4d(nn.Module):
    """A 4-D convolution over matches (B, h, w, C, h', w')."""

    def __init__(self, inputs: int, outputs: int, kernel: int) -> None:
        super().__init__()
        reach = (inputs * kernel**4) ** -0.5  # what torch gives its own convolutions
        self.weight = nn.Parameter(torch.empty(outputs, inputs, *4 * (kernel,)).uniform_(-reach, reach))
        self.bias = nn.Parameter(torch.empty(outputs).uniform_(-reach, reach))

    def forward(self, x: Tensor) -> Tensor:
        """(B, h, w, C, h', w') -> (B, h, w, O, h', w')."""
        return conv4d(x, self.weight, self.bias)


def mutual_matching(matches: Tensor, eps: float = 1e-5) -> Tensor:
    """Soft mutual nearest-neighbour filter of non-negative matches (section 3.3), same shape (B, h, w, h', w').

    >>> mutual_matching(torch.tensor([[0.5, 0.25], [0.0, 0.5]]).view(1, 1, 2, 1, 2), eps=0.0).flatten().tolist()
    [0.5, 0.0625, 0.0, 0.5]
    """
    over_source = matches.amax((1, 2), keepdim=True) + eps
    over_target = matches.amax((3, 4), keepdim=True) + eps
    return matches * ((matches / over_source) * (matches / over_target))


def certainty(matches: Tensor) -> Tensor:
    """Mean over all cells of both images of the greatest probability among their matches (section 3.4): (B,).

    >>> certainty(torch.zeros(1, 2, 2, 2, 2)).tolist()
    [0.25]
    """
    flat = matches.flatten(3).flatten(1, 2)
    best = [(flat.amax(dim) - flat.logsumexp(dim)).exp().mean(1) for dim in (1, 2)]
    return (best[0] + best[1]) / 2


def best_matches(matches: Tensor) -> Tensor:
    """Where in the source each target cell's best match lies, (B, 2, h', w'): x and y, -1 and 1 at outer cells."""
    height, width = matches.shape[1:3]
    best = matches.flatten(1, 2).argmax(1)
    xs, ys = (torch.linspace(-1, 1, count, device=matches.device) for count in (width, height))
    return torch.stack((xs[best % width], ys[best // width]), 1)


def transfer_normalised(matches: Tensor, points: Tensor) -> Tensor:
    """Transfer points (B, K, 2) of the target to the source, outer cells of both grids being -1 and 1 (section 4).

    A point between cells is blended of where the four cells around it go; outside the outer cells it goes where
    they go.
    """
    arrived = best_matches(matches)
    read = F.grid_sample(arrived, points[:, :, None], padding_mode="border", align_corners=True)
    return read.squeeze(-1).transpose(1, 2)


# Recipes of NC-Net (Rocco et al., NeurIPS 2018; the authors' code for what the paper leaves open).

PAPER = Recipe(
    model={"backbone": "resnet101.tv_in1k", "layers": list(LAYERS), "size": 400},
    optimiser="adam",
    lr=5e-4,
    backbone_lr=0.0,
    batch=16,
    epochs=5,
    augmentation="none",
    validation="paper",
    backbone_batchnorm="eval",
)


@recipe("ncnet", "pf-pascal")
def pf_pascal() -> Recipe:
    """``scbench run ncnet --finetune pf-pascal --eval pf-pascal --eval pf-willow``: 184 steps an epoch.

    From pairs alone, no keypoint is looked at. Paper, PCK@.05/.10/.15 (img): 53.9 / 78.9 / 86.0. The authors
    take the epoch of the lowest validation loss, here it is that of the highest validation PCK; and their
    released model was trained once more with the last block of the backbone's third stage, which is not done
    here. Users of their code
    got 74.8 to 77.3 after this first stage.
    """
    return PAPER


@recipe("ncnet", "sc-imagenet")
def sc_imagenet() -> Recipe:
    """``scbench run ncnet --pretrain sc-imagenet --eval pf-pascal``: 49,664 steps an epoch; no published figure."""
    return PAPER


@recipe("ncnet")
def any_data() -> Recipe:
    """Data that the authors did not train on: the values of PF-PASCAL."""
    return replace(PAPER, validation="strict")


LAPTOP = replace(
    LAPTOP,
    model={"backbone": LAPTOP_BACKBONE, "layers": [5], "size": 240, "sharpness": 10.0},
    optimiser="adam",
    backbone_lr=0.0,
    frozen=(),
    weight_decay=0.0,
    epochs=5,
    augmentation="none",
)


@recipe("ncnet", preset="small")
def small() -> Recipe:
    """NC-Net on EfficientNet-Lite0 at 240 px, 15 x 15 cells: ``scbench run ncnet --preset small --finetune NAME``."""
    return LAPTOP


@recipe("ncnet", preset="tiny")
def tiny() -> Recipe:
    """A smaller one at 160 px, 10 x 10 cells: ``scbench run ncnet --preset tiny --finetune toy --eval toy``."""
    return replace(LAPTOP, model={**LAPTOP.model, "size": 160, "kernel": 3, "width": 8}, epochs=2)


# Checkpoints of NC-Net's authors, written by PyTorch 0.3 in 2018: permuted 4-D weights, no counters of batches.

MARKER = "NeighConsensus."
STAGES = {"0": "conv1", "1": "bn1", "4": "layer1", "5": "layer2", "6": "layer3"}  # numbers in their nn.Sequential


def from_published(state: State) -> State:
    """The authors' state under our keys, 4-D weights as (out, in, k, k, k, k)."""
    return {
        key_of(key): value.permute(1, 2, 0, 3, 4, 5).contiguous() if value.dim() == 6 else value
        for key, value in state.items()
    }


def key_of(key: str) -> str:
    """The published key -> key.

    >>> key_of("NeighConsensus.conv.2.weight"), key_of("FeatureExtraction.vgg.6.22.bn3.bias")
    ('consensus.layers.1.weight', 'backbone.net.layer3.22.bn3.bias')
    """
    parts = key.split(".")
    match parts:
        case ["NeighConsensus", "conv", number, part] if number.isdecimal():
            return f"consensus.layers.{int(number) // 2}.{part}"  # every other entry is a ReLU
        case ["FeatureExtraction", "model" | "vgg", number, *rest] if number in STAGES:
            return ".".join(("backbone.net", STAGES[number], *rest))
    return key


def arguments_of(state: Mapping[str, Tensor]) -> dict[str, Any]:
    """Arguments of ``NCNet`` for these weights.

    Raises:
        InputError: not weights of NC-Net, or of fewer convolutions or another backbone than for PF-PASCAL.
    """
    weights = [key for key in state if key.startswith("consensus.layers.") and key.endswith(".weight")]
    if not weights:
        raise InputError("are no weights of NC-Net: there is no consensus.layers.0.weight")
    found = [tuple(state[key].shape) for key in sorted(weights)]
    width, *_, kernel = found[0]
    taps = 4 * (kernel,)
    if found != [(width, 1, *taps), (width, width, *taps), (1, width, *taps)]:
        raise InputError(f"holds NC-Net with convolutions {found}, not three as in the model for PF-PASCAL")
    if "backbone.net.layer3.22.bn3.weight" not in state:
        raise InputError(
            "holds NC-Net with another backbone than ResNet-101",
            fix="A model of another backbone is loaded from the folder that save_pretrained wrote.",
        )
    return {"layers": list(LAYERS), "kernel": kernel, "width": width}


NCNet.published = PublishedWeights(
    about="Checkpoints of NC-Net's authors, written by PyTorch 0.3 in 2018: permuted 4-D weights, no counters "
    "of batches.",
    marker=MARKER,
    convert=from_published,
    arguments=arguments_of,
    optional=(".num_batches_tracked", "backbone.net.fc.", "backbone.net.layer4."),
)
