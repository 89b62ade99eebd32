"""MARCO (CVPR 2026): a frozen DINOv2 with adapters in its last blocks and a learned up-sampling, coarse to fine.

A few labelled keypoints train it together with dense matches that an averaged copy of it mines on the same pairs
(``baselines/marco_mining.py``)."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, NamedTuple, cast

import numpy as np
import torch
import torch.nn.functional as F
from timm.layers import LayerNorm2d
from torch import Tensor, nn
from torch.func import functional_call

from baselines.marco_mining import Mined, mine
from baselines.matcher import Batch, Features, Matcher
from baselines.protocol import PublishedProtocol
from baselines.recipe import LAPTOP_BACKBONE, Recipe, recipe
from baselines.registry import register
from baselines.weights import PublishedWeights
from sc_imagenet.backbones.backbone import Backbone, build_backbone
from sc_imagenet.core.errors import InputError
from sc_imagenet.data.tensor_files import State
from sc_imagenet.geometry.map_points import Readout, read_maps
from sc_imagenet.geometry.point_maps import (
    aligned_cells,
    displaced_cells,
    expected_cells,
    gaussian_cross_entropy,
    read_cells,
    similarities,
)

PUBLISHED_BACKBONE = "vit_large_patch14_reg4_dinov2.lvd142m"
TEMPERATURE = 10.0  # of similarities that are raw inner products
REACH = 7  # cells around the true one that a keypoint supervises
FLOOR = 1e-6  # added to probabilities
COARSE, FINE = 3.5, 1.0  # sigma of a keypoint's Gaussian in cells, at first and at last
MOMENTA = (0.99, 0.9995)  # of the teacher, at first and at last
SCALE = 0.1  # of an adapter's output
RIM = 1e-4  # pixels that a point keeps from the frame's end
READOUT = Readout("kernel-softmax", temperature=TEMPERATURE, sigma=7.0, place="aligned", query="displaced")


class Fine(NamedTuple):
    """Up-sampled features of both images of pairs, each (B, C, h, w)."""

    source: Tensor
    target: Tensor


@register(
    "marco",
    title="MARCO",
    paper="CVPR 2026, arXiv 2604.18267",
    licence="Apache-2.0",
    supervision="keypoints",
    backbone=PUBLISHED_BACKBONE,
    trained_on=("spair-71k", "ap-10k"),
    protocol=PublishedProtocol(770, "forward"),
)
class MARCO(Matcher):
    """MARCO on any backbone; the defaults are the published model.

    In a vision transformer the last blocks have an adapter each, beside their MLP; a network without such blocks has
    one behind its features. Similarities are raw inner products of the up-sampled features.

    Args:
        backbone: timm's name.
        layers: layers to read, see ``sc_imagenet/backbones/backbone.py``; None: the last block, or the coarse layers.
        size: side S of the input; the next that the backbone's cells fill is taken.
        adapted: blocks with adapters, counted from the last.
        bottleneck: width of an adapter, as a share of the features'.
        upscalings: how many times the grid is doubled.
        coarse_steps, fine_step: sigma is 3.5 cells up to the first of these steps and 1 from the second on.
        teacher_steps: steps until the teacher's momentum is at its largest.
        mined: most mined matches of a pair; 0 trains on keypoints alone.
        pretrained: the backbone's weights: True, False, or a file (see ``sc_imagenet/backbones/pretrained.py``).

    Raises:
        InputError: sizes that do not go together, or a backbone that cannot be had.
    """

    direction = "forward"
    match_weights = ("upscale.", "teacher.")
    training_arguments = ("coarse_steps", "fine_step", "teacher_steps", "mined")
    backbone: Backbone

    def __init__(
        self,
        backbone: str = PUBLISHED_BACKBONE,
        layers: Sequence[int] | None = None,
        size: int = 770,
        adapted: int = 9,
        bottleneck: float = 0.5,
        upscalings: int = 2,
        coarse_steps: int = 1000,
        fine_step: int = 12000,
        teacher_steps: int = 20003,
        mined: int = 300,
        pretrained: bool | str = True,
    ) -> None:
        super().__init__()
        self.coarse_steps, self.fine_step = coarse_steps, fine_step
        self.teacher_steps, self.mined = teacher_steps, mined
        self.backbone = build_backbone(backbone, layers, size, pretrained, final_norm=True).requires_grad_(False)
        self.size, self.mean, self.std = self.backbone.size, self.backbone.mean, self.backbone.std
        width = sum(self.backbone.channels)
        self.adapters = nn.ModuleDict()
        blocks = adaptable_blocks(self.backbone)
        for number in range(len(blocks))[-adapted:] if adapted else ():
            adapter = Adapter(width, int(bottleneck * width))
            self.adapters[str(number)] = adapter
            blocks[number] = AdaptedBlock(blocks[number], adapter)
        if adapted and not len(blocks):
            self.adapters["after"] = Adapter(width, int(bottleneck * width))
        self.upscale = nn.Sequential(*(Upscale(width) for _ in range(upscalings)))
        self.teacher = Average({name: each for name, each in self.named_parameters() if each.requires_grad})

    def train(self, mode: bool = True) -> MARCO:
        """The frozen network stays in evaluation mode."""
        super().train(mode)
        self.backbone.eval()
        return self

    def set_training_arguments(self, arguments: Mapping[str, Any]) -> None:
        """Set them for a stage, which begins coarse and with a new teacher."""
        super().set_training_arguments(arguments)
        self.teacher.steps.zero_()

    def encode(self, images: Tensor) -> list[Tensor]:
        """Images (B, 3, S, S) -> adapted features (B, C, h, w)."""
        maps = self.backbone(images)
        grid = max(features.shape[-1] for features in maps)
        if "after" not in self.adapters:
            return maps if len(maps) == 1 else [torch.cat([_to_grid(each, grid) for each in maps], 1)]
        joined = torch.cat([_to_grid(F.layer_norm(each, each.shape[1:]), grid) for each in maps], 1)
        tokens = joined.permute(0, 2, 3, 1)
        return [(tokens + self.adapters["after"](tokens)).permute(0, 3, 1, 2)]

    def match(self, source: Features, target: Features) -> Fine:
        """Features at the backbone's grid -> up-sampled ones, both (B, C, h, w)."""
        return Fine(self.upscale(source[0]), self.upscale(target[0]))

    def similarity(self, output: Fine, points: Tensor) -> Tensor:
        """Similarities (B, K, h, w) of points (B, K, 2) of the source with all cells of the target."""
        cells = displaced_cells(points, self.size, output.source.shape[-1])
        return similarities(read_cells(output.source, cells), output.target)

    def transfer(self, output: Fine, points: Tensor) -> Tensor:
        """Points (B, K, 2) of the source -> the expected place around the best cell of the target."""
        if points.shape[1] == 0:
            return points
        inside = points.clamp(RIM, self.size - 1 - RIM)
        rows = self.similarity(output, inside).float().cpu().numpy()
        return torch.from_numpy(np.stack([read_maps(READOUT, maps, self.size) for maps in rows])).to(points)

    def loss(self, output: Fine, batch: Batch) -> Tensor:
        """Cross-entropy with a Gaussian around each keypoint's place, the mean over all keypoints of the batch."""
        points, places = (batch[f"{side}_points"].clamp(RIM, self.size - 1 - RIM) for side in ("source", "target"))
        valid = batch["valid"]
        rows = self.similarity(output, points)
        cells = aligned_cells(places, self.size, rows.shape[-1])
        each = gaussian_cross_entropy(rows, cells, self.sigma(), TEMPERATURE, REACH, FLOOR)
        return (each * valid).sum() / valid.sum().clamp(min=1)

    def dense_loss(self, output: Fine, mined: Sequence[Mined | None], temperature: float = TEMPERATURE) -> Tensor:
        """Distance of the expected place from the mined one, frame -1 to 1, the mean over all matches of the batch."""
        total, count = output.source.sum() * 0, 0
        for pair, found in enumerate(mined):
            if found is None:
                continue
            own, other = (torch.from_numpy(each).to(total.device)[None] for each in (found.source, found.target))
            one = Fine(output.source[pair, None], output.target[pair, None])
            rows = self.similarity(one, own.to(total))
            last = rows.shape[-1] - 1
            # Whole cells: the authors' matches are integers before and after they are scaled.
            places = (other * last).div(self.size - 1, rounding_mode="trunc")
            apart = (expected_cells(rows, temperature) - places) * (2 / last)
            total, count = total + apart.norm(dim=-1).sum(), count + len(found.source)
        return total / max(count, 1)

    def training_loss(self, batch: Batch, epoch: int) -> Tensor:
        """The keypoints' loss plus that of the matches which the teacher mines on the same pairs."""
        source, target = batch["source"], batch["target"]
        output = self(source, target)
        loss = self.loss(output, batch)
        trained = {name: each for name, each in self.named_parameters() if each.requires_grad}
        self.teacher.follow(trained, self.momentum(int(self.teacher.steps) - 1))
        if self.mined:
            with torch.no_grad():
                seen = functional_call(self, self.teacher.weights(), (source, target))
            loss = loss + self.dense_loss(output, self.mine(seen, batch))
        return loss

    def mine(self, seen: Fine, batch: Batch) -> list[Mined | None]:
        """Matches of each pair in the teacher's features; the objects' boxes stand for their masks."""
        draw = np.random.default_rng(int(torch.randint(2**31, ())))
        found = []
        for pair in range(len(seen.source)):
            valid = batch["valid"][pair]
            points = [batch[f"{side}_points"][pair][valid].double().cpu().numpy() for side in ("source", "target")]
            masks = [box_mask(batch[f"{side}_bbox"][pair], self.size) for side in ("source", "target")]
            found.append(mine(seen.source[pair], seen.target[pair], masks, points, self.size, self.mined, draw))
        return found

    def sigma(self) -> float:
        """Of the Gaussian at the present step, in cells: from 3.5 to 1 along a cosine."""
        return sigma_at(int(self.teacher.steps) + 1, self.coarse_steps, self.fine_step)

    def momentum(self, step: int) -> float:
        """Of the teacher after a step (from 0)."""
        return momentum_at(step, self.teacher_steps)


def sigma_at(step: int, coarse_steps: int, fine_step: int) -> float:
    """Sigma of the keypoints' Gaussian in cells, at a step counted from 1.

    >>> sigma_at(1000, 1000, 12000), sigma_at(6500, 1000, 12000), sigma_at(12000, 1000, 12000)
    (3.5, 2.25, 1.0)
    """
    part = min(max((step - coarse_steps) / max(fine_step - coarse_steps, 1), 0), 1)
    return FINE + (COARSE - FINE) * 0.5 * (1 + math.cos(math.pi * part))


def momentum_at(step: int, last_step: int) -> float:
    """The teacher's momentum after a step, counted from 0: from .99 to .9995 along a cosine.

    >>> momentum_at(0, 100), momentum_at(100, 100)
    (0.99, 0.9995)
    """
    first, last = MOMENTA
    return last - (last - first) * 0.5 * (1 + math.cos(math.pi * min(max(step, 0) / max(last_step, 1), 1)))


def box_mask(box: Tensor, side: int) -> np.ndarray:
    """The pixels (side, side) of a box (4,); all of them where it is not known."""
    if box.isnan().any():
        return np.ones((side, side), bool)
    centres = torch.arange(side, device=box.device) + 0.5
    x_min, y_min, x_max, y_max = box
    across, down = (centres >= x_min) & (centres <= x_max), (centres >= y_min) & (centres <= y_max)
    return (down[:, None] & across).cpu().numpy()


def adaptable_blocks(backbone: Backbone) -> nn.ModuleList | list[nn.Module]:
    """The transformer blocks that ``AdaptedBlock`` can hold; none in other networks."""
    blocks: Any = getattr(backbone.net, "blocks", ())
    parts = ("norm1", "attn", "ls1", "norm2", "mlp", "ls2")
    return blocks if all(all(hasattr(block, part) for part in parts) for block in blocks) else []


def _to_grid(features: Tensor, grid: int) -> Tensor:
    if features.shape[-1] == grid:
        return features
    return F.interpolate(features, (grid, grid), mode="bilinear")


class Adapter(nn.Module):
    """A bottleneck of two linear layers; it begins as zero."""

    def __init__(self, width: int, bottleneck: int) -> None:
        super().__init__()
        self.adapter_layer_norm_before = nn.LayerNorm(width)
        self.down_proj, self.up_proj = nn.Linear(width, bottleneck), nn.Linear(bottleneck, width)
        nn.init.kaiming_uniform_(self.down_proj.weight, a=math.sqrt(5))
        for zero in (self.down_proj.bias, self.up_proj.weight, self.up_proj.bias):
            nn.init.zeros_(zero)

    def forward(self, x: Tensor) -> Tensor:
        """(..., width) -> same shape."""
        return SCALE * self.up_proj(F.relu(self.down_proj(self.adapter_layer_norm_before(x))))


class AdaptedBlock(nn.Module):
    """A block of a vision transformer with an adapter beside its MLP."""

    def __init__(self, block: nn.Module, adapter: Adapter) -> None:
        super().__init__()
        self.block = block
        self._adapter = [adapter]  # in a list: its weights are the model's, not the backbone's

    def forward(self, x: Tensor) -> Tensor:
        """Tokens (B, N, C) -> same shape."""
        block = cast(Any, self.block)
        x = x + block.ls1(block.attn(block.norm1(x)))
        return x + self._adapter[0](x) + block.ls2(block.mlp(block.norm2(x)))


class Upscale(nn.Module):
    """Twice as many cells along each side."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv1 = nn.ConvTranspose2d(width, width, 2, 2)
        self.conv2 = nn.Conv2d(width, width, 3, padding=1, groups=width, bias=False)
        self.norm = LayerNorm2d(width)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, h, w) -> (B, C, 2 h, 2 w)."""
        return self.norm(self.conv2(F.gelu(self.conv1(x))))


class Average(nn.Module):
    """The running average of a model's trained weights; at the first step it is a copy of them."""

    steps: Tensor

    def __init__(self, weights: Mapping[str, Tensor]) -> None:
        super().__init__()
        self.register_buffer("steps", torch.zeros((), dtype=torch.int64))
        for name, value in weights.items():
            self.register_buffer(name.replace(".", "/"), value.detach().clone())

    @torch.no_grad()
    def follow(self, weights: Mapping[str, Tensor], momentum: float) -> None:
        """Before a step: take up what the step before made of the weights."""
        first = int(self.steps) == 0
        for name, value in self.weights().items():
            value.copy_(weights[name]) if first else value.lerp_(weights[name], 1 - momentum)
        self.steps += 1

    def weights(self) -> dict[str, Tensor]:
        """The averages by the names of the weights."""
        return {name.replace("/", "."): value for name, value in self.named_buffers() if name != "steps"}


# Recipes of MARCO. Its authors validate on the test split; which epoch they released, student or teacher, is not known.

PAPER = Recipe(
    model={"backbone": PUBLISHED_BACKBONE, "size": 630},
    lr=1e-4,
    backbone_lr=0.0,
    batch=12,
    epochs=8,
    clip_gradient=0.1,
)


@recipe("marco", "spair-71k")
def spair_71k() -> Recipe:
    """``scbench run marco --finetune spair-71k --eval spair-71k``: 4,445 steps an epoch, trained at 630 px.

    The authors evaluate the same weights at 770 px; a run evaluates as it trains. Their masks are SPair-71k's own,
    ours the boxes. 17.9 M of 322 M weights are trained. Authors, PCK@.01/.05/.10: 27.0 / 77.6 / 87.2.
    """
    return PAPER


@recipe("marco")
def any_data() -> Recipe:
    """The values of SPair-71k."""
    return PAPER


LAPTOP = replace(
    PAPER,
    model={
        "backbone": LAPTOP_BACKBONE,
        "layers": [5, 7],
        "size": 256,
        "upscalings": 1,
        "coarse_steps": 50,
        "fine_step": 300,
        "teacher_steps": 400,
        "mined": 100,
    },
    lr=5e-4,
    batch=8,
    epochs=4,
    clip_gradient=1.0,
)


@recipe("marco", preset="small")
def small() -> Recipe:
    """Adapter and up-sampling behind EfficientNet-Lite0 at 256 px: ``--preset small --finetune NAME``."""
    return LAPTOP


@recipe("marco", preset="tiny")
def tiny() -> Recipe:
    """The same at 160 px, 20 x 20 cells: ``scbench run marco --preset tiny --finetune toy --eval toy``."""
    return replace(LAPTOP, model={**LAPTOP.model, "size": 160}, epochs=2)


# The checkpoints that MARCO's authors published: adapters and up-sampling alone, the backbone is DINOv2's own.

PREFIX = "dino.blocks."
SIDE = 770  # pixels; DINOv2's last nine of 24 blocks are adapted
NETWORKS = {384: ("small", 12), 768: ("base", 12), 1024: ("large", 24), 1536: ("giant", 40)}  # by width: size, blocks


def from_published(state: State) -> State:
    """The authors' state under our keys."""
    return {key_of(key): value for key, value in state.items()}


def key_of(key: str) -> str:
    """The published key -> key.

    >>> key_of("dino.blocks.15.adapter.up_proj.bias"), key_of("upscale.0.norm.bias")
    ('adapters.15.up_proj.bias', 'upscale.0.norm.bias')
    """
    return key.replace(PREFIX, "adapters.", 1).replace(".adapter.", ".", 1) if key.startswith(PREFIX) else key


def arguments_of(state: Mapping[str, Tensor]) -> dict[str, Any]:
    """Arguments of ``MARCO`` for these weights.

    Raises:
        InputError: not weights of MARCO.
    """
    numbers = {int(key.split(".")[1]) for key in state if key.startswith("adapters.") and key.split(".")[1].isdigit()}
    down = state.get(f"adapters.{min(numbers)}.down_proj.weight") if numbers else None
    if down is None or down.ndim != 2 or down.shape[1] not in NETWORKS:
        raise InputError("are no weights of MARCO: there are no adapters of a DINOv2")
    name, count = NETWORKS[down.shape[1]]
    return {
        "backbone": f"vit_{name}_patch14_reg4_dinov2.lvd142m",
        "size": SIDE,
        "adapted": count - min(numbers),
        "bottleneck": down.shape[0] / down.shape[1],
        "upscalings": len({key.split(".")[1] for key in state if key.startswith("upscale.")}),
    }


MARCO.published = PublishedWeights(
    about="The checkpoints that MARCO's authors published: adapters and up-sampling; DINOv2's weights are timm's.",
    marker=PREFIX,
    convert=from_published,
    arguments=arguments_of,
    optional=("teacher.",),
    backbone=False,
)
