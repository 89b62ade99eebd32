"""The volume level of MVAM: self-attention in windows of the folded 4-D matching volume, as in VAT."""

from __future__ import annotations

from functools import lru_cache

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sc_imagenet.generation.cascade.options import NetworkOptions
from sc_imagenet.geometry.correlation import Grid
from sc_imagenet.geometry.windows4d import attention_mask, half_shift, merge, partition, relative_position

Sides = tuple[int, int, int, int]


class VolumeAggregation(nn.Module):
    """v_r -> v_f = v_r * 2 sigmoid(x), or v_r + x; x = unfold(linear(blocks(linear(fold(v_r))))) starts at zero.

    Multiplied, the last layers have no bias and nothing is written where the features match nothing: what is added
    can be one sharp pattern, whatever the images show, and a loss that asks whether images match learns just that.

    Folding takes ``fold`` cells of every dimension into the channels of one token; a size that it does not divide
    is padded with zeros.
    """

    def __init__(self, options: NetworkOptions, fold: int) -> None:
        super().__init__()
        self.fold = fold
        width = options.volume_width
        self.inward = nn.Linear(fold**4, width)
        self.blocks = nn.ModuleList(
            VolumeBlock(width, options.volume_heads, options.window, shifted=bool(number % 2))
            for number in range(options.volume_blocks)
        )
        self.adds = options.aggregation_form == "added"
        self.norm = nn.LayerNorm(width, bias=self.adds)
        self.outward = nn.Linear(width, fold**4, bias=self.adds)
        self.be_identity()

    def be_identity(self) -> None:
        """Let the last layer be zero, so that the volume comes out as it went in."""
        for parameter in self.outward.parameters():
            nn.init.zeros_(parameter)

    def forward(self, volume: Tensor, source: Grid, target: Grid) -> Tensor:
        """v_r (B, N_source, N_target) -> v_f, same shape."""
        if only_zero(self.outward):
            return volume
        sides = (*source, *target)
        x = self.inward(fold_volume(volume.unflatten(2, target).unflatten(1, source), self.fold))
        for block in self.blocks:
            x = block(x)
        redistributed = unfold_volume(self.outward(self.norm(x)), self.fold, sides).flatten(3).flatten(1, 2)
        return volume + redistributed if self.adds else volume * (2 * redistributed.sigmoid())


def only_zero(last: nn.Linear) -> bool:
    """Whether a last layer gives nothing but 0 and is not about to learn: what leads to it can be left out."""
    learns = torch.is_grad_enabled() and last.weight.requires_grad
    return not learns and not any(bool(parameter.any()) for parameter in last.parameters())


class VolumeBlock(nn.Module):
    """Pre-norm attention inside 4-D windows with relative position bias, then an MLP."""

    def __init__(self, width: int, heads: int, window: int, shifted: bool) -> None:
        super().__init__()
        self.heads, self.window, self.shifted = heads, window, shifted
        self.norm_attention, self.norm_mlp = nn.LayerNorm(width), nn.LayerNorm(width)
        self.qkv = nn.Linear(width, 3 * width)
        self.output = nn.Linear(width, width)
        self.mlp = nn.Sequential(nn.Linear(width, 2 * width), nn.GELU(), nn.Linear(2 * width, width))
        self.bias = nn.Parameter(torch.zeros(heads, *(2 * window - 1,) * 4))  # of each offset inside a window

    def forward(self, x: Tensor) -> Tensor:
        """(B, h_s, w_s, h_t, w_t, C) -> same shape."""
        grid = tuple(x.shape[1:-1])
        window = tuple(min(self.window, side) for side in grid)
        shift = half_shift(grid, window) if self.shifted else None
        windows = partition(self.norm_attention(x), window, shift)  # (B, windows, tokens, C)
        bias = self._relative_bias(window) + _mask(grid, window, shift).to(windows)
        x = x + merge(self._attend(windows, bias), grid, window, shift)
        return x + self.mlp(self.norm_mlp(x))

    def _relative_bias(self, window: tuple[int, ...]) -> Tensor:
        """(heads, tokens, tokens); a window cut by a small grid knows the short offsets only."""
        known = [slice(None)] + [slice(self.window - side, self.window + side - 1) for side in window]
        biases = self.bias[tuple(known)].flatten(1)
        return biases[:, _offsets(window).to(self.bias.device)]

    def _attend(self, windows: Tensor, bias: Tensor) -> Tensor:
        qkv = self.qkv(windows).unflatten(-1, (3, self.heads, -1))
        query, key, value = qkv.permute(3, 0, 1, 4, 2, 5)  # (B, windows, heads, tokens, channels)
        added = bias.to(query).expand(len(query), query.shape[1], -1, -1, -1)
        # torch fuses attention with a bias only where it has four dimensions.
        mixed = F.scaled_dot_product_attention(
            query.flatten(0, 1), key.flatten(0, 1), value.flatten(0, 1), attn_mask=added.flatten(0, 1)
        ).unflatten(0, query.shape[:2])
        return self.output(mixed.transpose(2, 3).flatten(3))


@lru_cache(maxsize=16)
@torch.inference_mode(False)  # what is kept must serve training too
def _offsets(window: tuple[int, ...]) -> Tensor:
    return relative_position(window)


@lru_cache(maxsize=16)
@torch.inference_mode(False)  # what is kept must serve training too
def _mask(grid: tuple[int, ...], window: tuple[int, ...], shift: tuple[int, ...] | None) -> Tensor:
    """(windows, 1, tokens, tokens)."""
    masks, kind = attention_mask(grid, window, shift)
    return masks[kind][:, None]


def fold_volume(volume: Tensor, fold: int) -> Tensor:
    """Space to depth in four dimensions: (B, h_s, w_s, h_t, w_t) -> (B, h_s/r, w_s/r, h_t/r, w_t/r, r^4).

    Sizes are padded with zeros to multiples of r = ``fold``.

    >>> fold_volume(torch.zeros(1, 5, 5, 4, 4), 4).shape
    torch.Size([1, 2, 2, 1, 1, 256])
    """
    missing = [-side % fold for side in volume.shape[1:]]
    if any(missing):
        volume = F.pad(volume, [amount for end in reversed(missing) for amount in (0, end)])
    for dim in (1, 3, 5, 7):
        volume = volume.unflatten(dim, (-1, fold))
    return volume.permute(0, 1, 3, 5, 7, 2, 4, 6, 8).flatten(5)


def unfold_volume(folded: Tensor, fold: int, sides: Sides) -> Tensor:
    """The inverse of ``fold_volume``; padding is cut off.

    >>> volume = torch.rand(2, 5, 3, 4, 2)
    >>> torch.equal(unfold_volume(fold_volume(volume, 4), 4, (5, 3, 4, 2)), volume)
    True
    """
    split = folded.unflatten(5, (fold,) * 4).permute(0, 1, 5, 2, 6, 3, 7, 4, 8)
    for dim in (1, 2, 3, 4):
        split = split.flatten(dim, dim + 1)
    kept = [slice(None), *map(slice, sides)]
    return split[tuple(kept)]
