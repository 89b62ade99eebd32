"""Transformer blocks with attention inside windows (Liu et al., ICCV 2021), of an image's or a volume's grid.

A block works on each window by itself from its first norm to its last sum. Large grids are therefore taken some
windows at a time, and while training each such part keeps its input only: the rest is made again for the gradient.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import prod

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from sc_imagenet.geometry.correlation import at_once
from sc_imagenet.geometry.windows4d import attention_mask, half_shift, merge, partition, relative_position

TOKENS = 2048  # that go through a block at once on a processor


class WindowBlock(nn.Module):
    """x + attention(norm(x)), then x + mlp(norm(x)); one head (VAT, section 3.3).

    Args:
        width: channels.
        grid: cells along every dimension.
        window: side of a window; along a shorter dimension, all of it.
        shifted: whether windows lie half a side further, so that they bridge those of the block before.
    """

    relative_position_index: Tensor

    def __init__(self, width: int, grid: Sequence[int], window: int, shifted: bool) -> None:
        super().__init__()
        self.grid = tuple(grid)
        self.window = tuple(min(window, side) for side in grid)
        self.shift = half_shift(grid, self.window) if shifted else None
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.qkv, self.proj = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.fc1, self.fc2 = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)
        self.relative_position_bias_table = nn.Parameter(torch.zeros(prod(2 * side - 1 for side in self.window), 1))
        nn.init.trunc_normal_(self.relative_position_bias_table, std=0.02)

    def forward(self, x: Tensor) -> Tensor:
        """(B, *grid, width) -> same shape."""
        windows = partition(x, self.window, self.shift)
        return merge(self.in_windows(windows), self.grid, self.window, self.shift)

    def in_windows(self, windows: Tensor) -> Tensor:
        """Tokens (B, windows, tokens, width) -> same shape."""
        index = relative_position(self.window, len(self.grid)).to(windows.device)
        bias = self.relative_position_bias_table[index, 0]
        masks, kind = (table.to(windows.device) for table in attention_mask(self.grid, self.window, self.shift))
        count = max(1, at_once(TOKENS, windows.device) // windows.shape[2])
        parts, kinds = windows.flatten(0, 1).split(count), kind.repeat(len(windows)).split(count)
        if len(parts) > 1 and torch.is_grad_enabled():
            done = [
                checkpoint(self.part, part, bias, masks, kind, use_reentrant=False, preserve_rng_state=False)
                for part, kind in zip(parts, kinds)
            ]
        else:
            done = [self.part(part, bias, masks, kind) for part, kind in zip(parts, kinds)]
        return torch.cat(done).view_as(windows)

    def part(self, x: Tensor, bias: Tensor, masks: Tensor, kind: Tensor) -> Tensor:
        """Some windows (n, tokens, width), their kinds (n,) -> same shape."""
        query, key, value = self.qkv(self.norm1(x)).chunk(3, -1)
        seen = (bias + masks)[kind]
        # Twice as fast on a CPU as scaled_dot_product_attention where the bias gets a gradient.
        scores = torch.baddbmm(seen, query, key.transpose(1, 2), alpha=x.shape[-1] ** -0.5)
        x = x + self.proj(scores.softmax(-1) @ value)
        return x + self.fc2(F.gelu(self.fc1(self.norm2(x))))


def window_blocks(width: int, grid: Sequence[int], window: int, depth: int) -> nn.Sequential:
    """``depth`` blocks, every second one shifted."""
    return nn.Sequential(*(WindowBlock(width, grid, window, bool(number % 2)) for number in range(depth)))
