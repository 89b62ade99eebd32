"""HPF: Hyperpixel Flow (Min et al., ICCV 2019). Nothing is trained.

Features of several layers of a backbone, stacked at every cell of the finest, are matched by cosine similarity;
Hough voting favours matches of consistent offset; keypoints move like the cells around them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from baselines.matcher import Features, Matcher
from baselines.protocol import PublishedProtocol
from baselines.recipe import Recipe, recipe
from baselines.registry import register
from sc_imagenet.backbones.backbone import Backbone, HyperpixelResNet, build_backbone, filled_size
from sc_imagenet.backbones.pretrained import is_fixed_size
from sc_imagenet.geometry.correlation import SMALLEST, Grid
from sc_imagenet.geometry.flow import cell_corners, covering, mean_shift
from sc_imagenet.geometry.hough import difference_scores, pixel_space, rows_of_differences
from sc_imagenet.geometry.resize import cut_out
from sc_imagenet.geometry.upsampled import inner_products, square_norms

SPAIR_LAYERS = {"resnet101": (0, 8, 20, 21, 26, 28, 29, 30), "resnet50": (0, 9, 10, 11, 12, 13)}
PF_PASCAL_LAYERS = {"resnet101": (2, 17, 21, 22, 25, 26, 28), "resnet50": (2, 7, 11, 12, 13)}

# Side in pixels of what a cell of hyperpixels 0 to 9 sees, in ResNet-50 and ResNet-101.
RECEPTIVE_FIELDS = (11, 19, 27, 35, 43, 59, 75, 91, 107, 139)


class Hyperpixels(NamedTuple):
    """An image seen by several layers.

    maps      (C, h, w) of each layer's size, finest first
    size      height and width of the image in pixels
    grid      cells of the finest map, rows and columns
    rows      the rows, and
    columns   the columns whose boxes do not reach beyond the image by more than a stride
    """

    maps: list[Tensor]
    size: tuple[int, int]
    grid: Grid
    rows: range
    columns: range

    @property
    def kept(self) -> Grid:
        """Rows and columns of the grid of kept cells."""
        return len(self.rows), len(self.columns)

    def keep(self, values: Tensor) -> Tensor:
        """What of (..., h * w) belongs to kept cells, (..., N)."""
        (top, bottom), (left, right) = ((line.start, line.stop) for line in (self.rows, self.columns))
        return values.unflatten(-1, self.grid)[..., top:bottom, left:right].flatten(-2)


class Match(NamedTuple):
    """The most confident target cell of every source cell of one pair, and where cells lie, in pixels."""

    best: Tensor  # (N_source,)
    source: Tensor  # (N_source, 2)
    target: Tensor  # (N_target, 2)


@register(
    "hpf",
    title="HPF",
    paper="Min et al., ICCV 2019",
    licence="Apache-2.0",
    supervision="none",
    backbone="resnet101.tv_in1k",
    protocol=PublishedProtocol(None, "forward", padded="bbox-kp"),
)
class HPF(Matcher):
    """HPF on any backbone; the defaults are the published model for SPair-71k.

    Args:
        backbone: timm's name.
        layers: layers to stack (see ``sc_imagenet/backbones/backbone.py``), found by ``search_layers``; None: the
            published ones of a ResNet-101 or ResNet-50, the coarse layers of any other backbone. The finest
            decides the grid.
        size: images whose longer side is longer are made smaller. Backbones other than ResNets see them continued by
            the mean colour until their cells fill what they see; those of fixed size see a square.
        pretrained: the backbone's weights: True, False, or a file (see ``sc_imagenet/backbones/pretrained.py``).

    Raises:
        InputError: a backbone that cannot be had.
    """

    direction = "forward"
    keep_aspect = True
    backbone: Backbone

    def __init__(
        self,
        backbone: str = "resnet101.tv_in1k",
        layers: Sequence[int] | None = None,
        size: int = 300,
        pretrained: bool | str = True,
    ) -> None:
        super().__init__()
        family = backbone.split(".")[0]
        self.backbone = build_backbone(backbone, layers or SPAIR_LAYERS.get(family), size, pretrained)
        self.backbone.requires_grad_(False)
        self.size, self.mean, self.std = size, self.backbone.mean, self.backbone.std
        self.square = is_fixed_size(backbone)
        self.stride = self.backbone.strides[0]
        first = self.backbone.layers[0]
        known = family in SPAIR_LAYERS and first < len(RECEPTIVE_FIELDS)
        # Of other backbones a cell is taken to see up to the centres of its neighbours.
        self.reach = RECEPTIVE_FIELDS[first] // 2 if known else self.stride

    def train(self, mode: bool = True) -> HPF:
        """The backbone always runs on its stored statistics."""
        super().train(mode)
        self.backbone.eval()
        return self

    @torch.no_grad()
    def encode(self, images: Tensor) -> list[Tensor]:
        """Images (B, 3, S, S), each in its own shape at the top left, -> their maps and sizes.

        One tensor (B, C, h, w) for the layers of each stride, finest first, in which an image's maps lie at the top
        left; and (B, 1 + maps, 2), the height and width of the image in pixels and of each of these in cells.
        """
        seen = [self.see(image) for image in images]
        side = max(self.size, self.backbone.size)
        grids = [-(-side // stride) + 1 for stride in dict.fromkeys(self.backbone.strides)]  # some maps reach beyond
        maps = [
            torch.stack([_at_top_left(image.maps[level], grid) for image in seen]) for level, grid in enumerate(grids)
        ]
        sizes = [[image.size, *(tuple(level.shape[1:]) for level in image.maps)] for image in seen]
        return [*maps, torch.tensor(sizes, device=images.device)]

    def features(self, source: Tensor, target: Tensor) -> tuple[Features, Features]:
        """Features of both; the backbone sees one image at a time anyway."""
        return self.encode(source), self.encode(target)

    @torch.no_grad()
    def match(self, source: Features, target: Features) -> list[Match]:
        """Features -> the matches of each pair."""
        pairs = zip(self._hyperpixels(source), self._hyperpixels(target))
        return [self.best_matches(*pair) for pair in pairs]

    def _hyperpixels(self, features: Features) -> Iterator[Hyperpixels]:
        for *maps, sizes in zip(*features):
            size, *grids = sizes.tolist()
            yield self._of_maps(
                [level[:, :height, :width].contiguous() for level, (height, width) in zip(maps, grids)], tuple(size)
            )

    def see(self, image: Tensor) -> Hyperpixels:
        """One image of a batch, (3, S, S) -> its hyperpixels."""
        own = cut_out(image)
        levels: dict[int, list[Tensor]] = {}
        for stride, features in zip(self.backbone.strides, self.backbone(self._continued(own)[None])):
            levels.setdefault(stride, []).append(features[0])
        return self._of_maps([torch.cat(of_one_stride) for of_one_stride in levels.values()], tuple(own.shape[1:]))

    def _of_maps(self, maps: list[Tensor], size: tuple[int, ...]) -> Hyperpixels:
        height, width = size
        grid = (maps[0].shape[1], maps[0].shape[2])
        return Hyperpixels(maps, (height, width), grid, self._inside(grid[0], height), self._inside(grid[1], width))

    def _continued(self, own: Tensor) -> Tensor:
        """An image as the backbone sees it; as published, a ResNet sees it as it is."""
        if isinstance(self.backbone, HyperpixelResNet):
            return own
        wanted = [
            self.backbone.size if self.square else filled_size(length, self.backbone.strides)
            for length in own.shape[1:]
        ]
        return F.pad(own, (0, wanted[1] - own.shape[2], 0, wanted[0] - own.shape[1]))

    def _inside(self, count: int, length: int) -> range:
        """The cells along an axis of ``length`` pixels whose boxes are kept; all of them where none would be."""
        centres = ((cell, cell * self.stride) for cell in range(count))
        beyond = self.reach - self.stride
        kept = [cell for cell, centre in centres if centre >= beyond and centre < length - beyond]
        return range(kept[0], kept[-1] + 1) if kept else range(count)

    def centres(self, seen: Hyperpixels) -> Tensor:
        """Centres (N, 2), x and y, of the boxes of all kept cells."""
        return seen.keep(cell_corners(seen.grid, self.stride, seen.maps[0].device).T).T

    def best_matches(self, source: Hyperpixels, target: Hyperpixels) -> Match:
        """The best target cell of every source cell."""
        best = torch.cat([row.argmax(1) for row in confidence(source, target, self.stride)])
        return Match(best, self.centres(source), self.centres(target))

    def transfer(self, output: list[Match], points: Tensor) -> Tensor:
        """Points (B, K, 2) of the source -> of the target: moved like the cells whose boxes hold them, on average."""
        transferred = []
        for match, own in zip(output, points):
            shifts = match.target[match.best] - match.source
            transferred.append(own + mean_shift(covering(own, match.source, self.reach), shifts))
        return torch.stack(transferred)


def _at_top_left(maps: Tensor, side: int) -> Tensor:
    """Maps (C, h, w) in a square (C, side, side), zeros beside them."""
    return F.pad(maps, (0, side - maps.shape[2], 0, side - maps.shape[1]))


def votes(source: Hyperpixels, target: Hyperpixels) -> Tensor:
    """Cosine similarities of all kept cells, negative ones as zero, to the third power: (N_source, N_target)."""
    source_norms, target_norms = (
        square_norms(seen.maps, seen.grid).sqrt().clamp(min=SMALLEST) for seen in (source, target)
    )
    target_norms, by_row = target.keep(target_norms), source_norms.unflatten(0, source.grid)
    columns = slice(source.columns.start, source.columns.stop)
    similarities = target_norms.new_empty(*source.kept, len(target_norms))
    for row, products in enumerate(inner_products(source.maps, target.maps, source.grid, target.grid)):
        if row in source.rows:
            cosine = target.keep(products[columns]) / torch.outer(by_row[row, columns], target_norms)
            similarities[row - source.rows.start] = cosine.relu_().pow_(3)
    return similarities.flatten(0, 1)


def confidence(source: Hyperpixels, target: Hyperpixels, stride: float) -> Iterator[Tensor]:
    """Votes times Hough scores: (columns, N_target) for one row of source cells after the other."""
    similarities = votes(source, target)
    space = pixel_space(source.kept, target.kept, stride, source.size, target.size)
    scores = rows_of_differences(difference_scores(similarities[None], space), source.kept, target.kept)
    for own, row in zip(similarities.split(len(source.columns)), scores):
        yield own * row[0].flatten(1)


def search_layers(
    score: Callable[[tuple[int, ...]], float], candidates: Iterable[int], beam: int = 4, depth: int = 8
) -> tuple[tuple[int, ...], float]:
    """The layers that match best, by beam search.

    Args:
        score: what is to be made large: PCK on validation pairs with these layers.
        candidates: layers to choose among.
        beam: sets kept after each round; each is tried with every further layer.
        depth: most layers of a set.

    Returns:
        The best set found and its score. Each set is scored once.

    >>> search_layers(lambda layers: -abs(sum(layers) - 7), range(6), beam=2, depth=3)
    ((2, 5), 0)
    """
    known: dict[tuple[int, ...], float] = {}
    kept: list[tuple[int, ...]] = [()]
    layers = sorted(set(candidates))
    for _ in range(min(depth, len(layers))):
        grown = {tuple(sorted((*chosen, layer))) for chosen in kept for layer in layers if layer not in chosen}
        known |= {chosen: score(chosen) for chosen in sorted(grown) if chosen not in known}
        kept = sorted(grown, key=lambda chosen: -known[chosen])[:beam]
    best = max(known, key=lambda chosen: known[chosen])
    return best, known[best]


# HPF is not trained: its recipes only say how it is built.

RESNET = "resnet101"
PAPER = {"backbone": f"{RESNET}.tv_in1k", "size": 300}


@recipe("hpf", "spair-71k")
def spair_71k() -> Recipe:
    """``scbench run hpf --eval spair-71k``: hyperpixels found on SPair-71k. Paper, PCK@0.1/bbox: 28.2."""
    return Recipe(model={**PAPER, "layers": list(SPAIR_LAYERS[RESNET])}, epochs=0, lr=0.0, backbone_lr=0.0)


@recipe("hpf")
def any_data() -> Recipe:
    """``scbench run hpf --eval pf-pascal --eval pf-willow``: hyperpixels found on PF-PASCAL.

    Paper, PCK@0.1: 84.8 on PF-PASCAL (img), 74.4 on PF-WILLOW (bbox-kp), in original proportions.
    """
    return Recipe(model={**PAPER, "layers": list(PF_PASCAL_LAYERS[RESNET])}, epochs=0, lr=0.0, backbone_lr=0.0)


@recipe("hpf", preset="small")
def small() -> Recipe:
    """EfficientNet-Lite0 in images of at most 300 px, its stages of stride 8 to 32: no download is needed."""
    model = {"backbone": "tf_efficientnet_lite0", "layers": [3, 4, 5, 6, 7], "size": 300}
    return Recipe(model=model, epochs=0, lr=0.0, backbone_lr=0.0)


@recipe("hpf", preset="tiny")
def tiny() -> Recipe:
    """The same at 160 px."""
    recipe = small()
    return Recipe(model={**recipe.model, "size": 160}, epochs=0, lr=0.0, backbone_lr=0.0)
