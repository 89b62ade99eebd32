"""What CNNGeo, A2Net and Weakalign share: a correlation of 15 x 15 cells from which networks read a transformation.

An affine transformation of the pair is estimated first. The source image is warped by it, and a thin-plate spline of
the warped source and the target is estimated; keypoints of the target pass through the spline, then through the affine
transformation (see ``sc_imagenet/geometry/transformations.py``)."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple, TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from baselines.matcher import Batch, Features, Matcher
from baselines.weights import load_strictly
from sc_imagenet.backbones.backbone import Backbone, build_backbone
from sc_imagenet.core.errors import InputError, unknown_name
from sc_imagenet.data.tensor_files import State, read_state
from sc_imagenet.geometry.correlation import at_least_float32, inner_product, unit
from sc_imagenet.geometry.transformations import (
    AFFINE,
    IDENTITY,
    SPLINE,
    lattice,
    squared_distance,
    transform,
    warp_source,
)

Own = TypeVar("Own", bound="GeometricMatcher")

STRIDE = 16  # pixels of a cell
FEWEST = 12  # cells along a side, of which convolutions leave two
FRAME = 224  # side of the frame in which the authors normalise points, from the centre of its first pixel
LATTICE = 20  # points along each side that the grid loss looks at
Stages = Literal["affine+tps", "affine", "tps"]
STAGES: tuple[Stages, ...] = ("affine+tps", "affine", "tps")


class Transformation(NamedTuple):
    """What takes the target's points to the source: ``spline`` (B, 18), then ``affine`` (B, 6); either may be None."""

    affine: Tensor | None
    spline: Tensor | None

    def __call__(self, points: Tensor) -> Tensor:
        """Unit coordinates (B, N, 2) of the target -> of the source."""
        for theta in (self.spline, self.affine):
            if theta is not None:
                points = transform(theta, points)
        return points


class Regressor(nn.Module):
    """Reads the parameters of a transformation off a correlation (Rocco et al., CVPR 2017, section 3.3)."""

    def __init__(self, cells: int, parameters: int) -> None:
        super().__init__()
        self.conv = nn.Sequential(
            nn.Conv2d(cells * cells, 128, 7),
            nn.BatchNorm2d(128),
            nn.ReLU(),
            nn.Conv2d(128, 64, 5),
            nn.BatchNorm2d(64),
            nn.ReLU(),
        )
        self.linear = nn.Linear(64 * (cells - 10) ** 2, parameters)
        start_at_identity(self.linear)

    def forward(self, correlation: Tensor) -> Tensor:
        """Correlation (B, cells * cells, cells, cells) -> parameters (B, 6) or (B, 18)."""
        return at_least_float32(self.linear(self.conv(correlation).flatten(1)))


@torch.no_grad()
def start_at_identity(linear: nn.Linear) -> None:
    """Let an untrained network say that nothing moves; the authors' begin near a collapsed grid."""
    linear.weight.zero_()
    linear.bias.copy_(torch.tensor(IDENTITY[linear.out_features]))


class GeometricMatcher(Matcher):
    """A model that estimates transformations; a child says what its regressors are.

    Args:
        backbone: timm's name.
        layers: the layer of stride 8 or 16 to correlate at; None: ResNet-101's third stage, VGG-16 up to its fourth
            pooling, the last stage of stride 16 of any other backbone. Of stride 8 the largest of four cells is taken.
        size: side S of the input; the next that the backbone's cells fill is taken. At least 12 cells.
        stages: which transformations are estimated.
        shared: the spline's network reads the same backbone as the affine one's; of weights published as two files it
            may not, for each has its own statistics of batch normalisation.
        pretrained: the backbone's weights: True, False, or a file (see ``sc_imagenet/backbones/pretrained.py``).

    Raises:
        InputError: a backbone that cannot be had, or that has no such cells.
    """

    direction = "backward"
    match_weights = ("affine.", "spline.")
    backbone: Backbone
    regressor: Callable[[int, int], nn.Module] = Regressor  # of cells along a side and number of parameters

    def __init__(
        self,
        backbone: str = "resnet101.tv_in1k",
        layers: Sequence[int] | None = None,
        size: int = 240,
        stages: Stages = "affine+tps",
        shared: bool = True,
        pretrained: bool | str = True,
    ) -> None:
        super().__init__()
        if stages not in STAGES:
            raise unknown_name("stages", str(stages), STAGES)
        self.backbone = feature_network(backbone, layers, size, pretrained)
        self.size, self.mean, self.std = self.backbone.size, self.backbone.mean, self.backbone.std
        self.cells = self.size // STRIDE
        if self.cells < FEWEST:
            least = f"Give at least {FEWEST * STRIDE} pixels."
            raise InputError(f"size = {size} gives {self.cells} cells along a side", fix=least)
        self.affine = self.regressor(self.cells, AFFINE) if "affine" in stages else None
        self.spline = self.regressor(self.cells, SPLINE) if "tps" in stages else None
        self.spline_backbone = None if shared else feature_network(backbone, layers, size, False)

    def encode(self, images: Tensor) -> list[Tensor]:
        """Images (B, 3, S, S) -> unit features for each network; with two networks the images, too."""
        if self.affine is None or self.spline is None:
            return [self.describe(images, self.spline_backbone if self.affine is None else None)]
        features = [self.describe(images), images]  # the source is seen again, warped
        if self.spline_backbone is not None:
            features.append(self.describe(images, self.spline_backbone))
        return features

    def match(self, source: Features, target: Features) -> Transformation:
        """The transformation from target to source."""
        correlation = self.correlate(source[0], target[0])
        if self.affine is None:
            assert self.spline is not None
            return Transformation(None, self.spline(correlation))
        affine = self.affine(correlation)
        if self.spline is None:
            return Transformation(affine, None)
        warped = self.describe(warp_source(source[1], affine), self.spline_backbone)
        theirs = target[0] if self.spline_backbone is None else target[2]
        return Transformation(affine, self.spline(self.correlate(warped, theirs)))

    def describe(self, images: Tensor, backbone: Backbone | None = None) -> Tensor:
        """Images (B, 3, S, S) -> unit features (B, C, S / 16, S / 16)."""
        network = backbone or self.backbone
        (maps,) = network(images)
        stride = network.strides[0]
        return unit(maps if stride == STRIDE else F.max_pool2d(maps, STRIDE // stride))

    @staticmethod
    def correlate(source: Tensor, target: Tensor) -> Tensor:
        """Features (B, C, h, w) of both -> how alike each target cell and all source cells are: (B, w * h, h, w).

        Source cells are counted down the columns, as in the published weights. Negative ones are 0, and the values of a
        target cell have length 1.
        """
        return unit(products(source, target).relu())

    def transfer(self, output: Transformation, points: Tensor) -> Tensor:
        """Points (B, K, 2) of the target -> of the source, pixels of the S x S frame."""
        return pixels(output(unit_coordinates(points, self.size)), self.size)

    def training_loss(self, batch: Batch, epoch: int) -> Tensor:
        """How far each network alone takes points from where they belong, in squares of unit coordinates.

        Of a synthetic pair, a lattice of 20 x 20 points (section 4), by the network of its kind of transformation; of
        a pair with keypoints these, by both networks.
        """
        points, arrived, valid = known_points(batch, self.size)
        images = torch.cat((batch["source"], batch["target"]))
        losses, seen = [], {}
        for network, part in self.learners(batch):
            backbone = self.spline_backbone if network is self.spline else None
            if backbone not in seen:
                seen[backbone] = self.correlate(*self.describe(images, backbone).chunk(2))
            theta = network(seen[backbone][part])
            far = squared_distance(theta, points[part], arrived[part])
            losses.append((far * valid[part]).sum() / valid.sum().clamp(min=1))
        return torch.stack(losses).sum()

    @classmethod
    def from_published(cls: type[Own], affine: Path | str, spline: Path | str) -> Own:
        """The model of two of the authors' files, one of each network, in evaluation mode.

        Each network keeps the backbone of its own file where the two differ, as they do where statistics of batch
        normalisation went on during training. Kept with ``save_pretrained`` it is one model from then on; either
        file alone is a checkpoint of a model of one network.

        Raises:
            InputError: files that cannot be read, are not one of each network, or have other backbones.
        """
        where = f"{affine} and {spline}"
        assert cls.published is not None
        states = [cls.published.convert(read_state(Path(file))) for file in (affine, spline)]
        found = [arguments_of(state) for state in states]
        if [each["stages"] for each in found] != ["affine", "tps"] or found[0]["backbone"] != found[1]["backbone"]:
            fix = "Give the affine file, then that of the thin-plate spline, both of one backbone."
            raise InputError("are no two networks of one model", where=where, fix=fix)
        of_backbone = [{key: value for key, value in state.items() if key.startswith("backbone.")} for state in states]
        first, second = of_backbone
        shared = first.keys() == second.keys() and all(torch.equal(first[key], second[key]) for key in first)
        own = {} if shared else {f"spline_{key}": value for key, value in second.items()}
        model = cls(found[0]["backbone"], shared=shared, pretrained=False)
        optional = (*OPTIONAL, *(f"spline_{key}" for key in OPTIONAL))
        load_strictly(model, cls.__name__, {**states[1], **states[0], **own}, where, optional)
        return model.eval()

    def learners(self, batch: Batch) -> list[tuple[nn.Module, Tensor]]:
        """The networks that learn of a batch, each with the numbers of its pairs."""
        every = torch.arange(len(batch["source"]), device=batch["source"].device)
        parameters = batch.get("warp_parameters")  # of synthetic pairs: what they were warped by
        found = []
        for network, count in ((self.affine, AFFINE), (self.spline, SPLINE)):
            alone = None in (self.affine, self.spline)
            part = every if parameters is None or alone else every[parameters == count]
            if network is not None and len(part):
                found.append((network, part))
        return found


def products(source: Tensor, target: Tensor) -> Tensor:
    """Inner products of unit features, (B, w * h, h', w'), source cells counted down the columns.

    >>> products(torch.tensor([[[[1.0, 2], [3, 4]]]]), torch.ones(1, 1, 1, 1)).flatten().tolist()
    [1.0, 3.0, 2.0, 4.0]
    """
    return inner_product(source.mT, target).unflatten(2, (target.shape[2], target.shape[3]))


def feature_network(name: str, layers: Sequence[int] | None, size: int, pretrained: bool | str) -> Backbone:
    """A backbone read at one layer of stride 8 or 16.

    Raises:
        InputError: it cannot be had, or has no such layer.
    """
    family = name.split(".")[0]
    if layers is None:
        layers = {"resnet101": (30,), "vgg16": (3,)}.get(family)
    if layers is None:
        probe = build_backbone(name, "all", size, False)
        coarse = [layer for layer, stride in zip(probe.layers, probe.strides) if stride == STRIDE]
        layers = coarse[-1:] or list(probe.layers[-1:])
    network = build_backbone(name, layers, size, pretrained, activated=True)
    if len(network.layers) != 1 or network.strides[0] not in (8, STRIDE) or network.size % STRIDE:
        raise InputError(
            f"{name} at layers {list(layers)} has cells of {', '.join(map(str, network.strides))} pixels",
            fix="Give one layer of 8 or 16 and a size that 16 divides.",
        )
    return network


def unit_coordinates(points: Tensor, side: float) -> Tensor:
    """Pixels of the S x S frame -> unit coordinates, as the authors' scripts take them in a frame of 224."""
    return points * (FRAME / side * 2 / (FRAME - 1)) - 1


def pixels(points: Tensor, side: float) -> Tensor:
    """The inverse of ``unit_coordinates``.

    >>> pixels(unit_coordinates(torch.tensor([5.0, 239.0]), 240), 240).round().tolist()
    [5.0, 239.0]
    """
    return (points + 1) * (side / FRAME * (FRAME - 1) / 2)


def known_points(batch: Batch, side: float) -> tuple[Tensor, Tensor, Tensor]:
    """Points (B, N, 2) of the target, where they are in the source, and which of them are any (B, N).

    Unit coordinates; of synthetic pairs a lattice, else the keypoints.
    """
    if "warp" in batch:
        arrived = batch["warp"]
        points = lattice(LATTICE, arrived).expand(len(arrived), -1, -1)
        return points, arrived, torch.ones_like(arrived[..., 0])
    target, source = (unit_coordinates(batch[f"{kind}_points"], side) for kind in ("target", "source"))
    return target, source, batch["valid"].to(target.dtype)


# Weights of the authors, written by PyTorch 0.2 to 1.1 between 2017 and 2021; each network's file holds a backbone.

RESNET = {"0": "conv1", "1": "bn1", "4": "layer1", "5": "layer2", "6": "layer3"}  # numbers in their nn.Sequential
NETWORKS = {"FeatureRegression": "affine", "FeatureRegression2": "spline"}  # in a file that holds two
MARKER = "FeatureExtraction."
OPTIONAL = (".num_batches_tracked", "backbone.net.fc.", "backbone.net.layer4.")


def from_published(state: State) -> State:
    """The authors' state under our keys; a file of one network says by its last layer which it is."""
    last = state.get("FeatureRegression.linear.bias")
    alone = "spline" if last is not None and len(last) == SPLINE else "affine"
    vgg = "FeatureExtraction.model.2.weight" in state or "FeatureExtraction.vgg.2.weight" in state
    return {key_of(key, vgg, alone): value for key, value in state.items()}


def key_of(key: str, vgg: bool = False, alone: str = "affine") -> str:
    """The published key -> key; ``alone`` is the network of ``FeatureRegression``.

    >>> key_of("FeatureExtraction.model.6.22.bn3.bias"), key_of("FeatureExtraction.vgg.21.bias", vgg=True)
    ('backbone.net.layer3.22.bn3.bias', 'backbone.net.features.21.bias')
    >>> key_of("FeatureRegression.conv.0.weight", alone="spline")
    'spline.conv.0.weight'
    """
    match key.split("."):
        case ["FeatureExtraction", "model" | "vgg", number, *rest] if vgg:
            return ".".join(("backbone.net.features", number, *rest))
        case ["FeatureExtraction", "model" | "vgg", number, *rest] if number in RESNET:
            return ".".join(("backbone.net", RESNET[number], *rest))
        case ["FeatureRegression", *rest]:
            return ".".join((alone, *rest))
        case ["FeatureRegression2", *rest]:
            return ".".join((NETWORKS["FeatureRegression2"], *rest))
    return key


def arguments_of(state: Mapping[str, Tensor]) -> dict[str, Any]:
    """Constructor arguments for these weights.

    Raises:
        InputError: weights of none of these models, or of another backbone than VGG-16 and ResNet-101.
    """
    found = [name for name in ("affine", "spline") if f"{name}.linear.bias" in state]
    if not found:
        raise InputError("holds no network that estimates a transformation: there is no affine.linear.bias")
    stages = "+".join({"affine": "affine", "spline": "tps"}[name] for name in found)
    if "backbone.net.layer3.22.bn3.weight" in state:
        return {"backbone": "resnet101.tv_in1k", "stages": stages}
    if "backbone.net.features.21.weight" in state:
        return {"backbone": "vgg16.tv_in1k", "stages": stages}
    raise InputError(
        "holds another backbone than VGG-16 or ResNet-101",
        fix="A model of another backbone is loaded from the folder that save_pretrained wrote.",
    )
