"""Weights as a function of their name: how the references were filled, so that ours can be filled alike."""

from __future__ import annotations

import hashlib

import numpy as np
import torch
from torch import Tensor

AS_CONSTRUCTED = ("num_batches_tracked", "relative_position_index", "attn_mask")
GAINS = {"decoder.proj.weight": 0.05}  # else CATs' sharp softmax would saturate
GAINS_OF_ENDS = {".linear_b_q.weight": 0.3, ".linear_b_v.weight": 0.3}  # GECO's second factors


def fill(name: str, shape: tuple[int, ...]) -> np.ndarray:
    """The float32 values of the tensor that is called ``name`` in the published state dict.

    Normal draws seeded by the first eight bytes (little endian) of the name's SHA-256, scaled by the kind of
    the tensor.

    >>> fill("bn1.bias", (2,)).dtype, float(abs(fill("a.running_var", (9,)) - 1).min()) >= 0
    (dtype('float32'), True)
    """
    draws = draws_of(name).standard_normal(shape)
    last = name.rpartition(".")[2]
    if not shape:
        values = 1 + 0.1 * draws
    elif last.endswith("running_var"):
        values = 1 + 0.25 * np.abs(draws)
    elif last.endswith("running_mean"):
        values = 0.05 * draws
    elif last == "gamma":  # LayerScale: the rule of biases would switch the blocks off
        values = 0.5 + 0.1 * draws
    elif last.endswith(("x_normal", "y_normal")):
        values = np.linspace(-1, 1, shape[0]) + 0.01 * draws
    elif last.endswith("relative_position_bias_table") or "pos_embed" in last:
        values = 0.2 * draws
    elif len(shape) == 1:
        values = 1 + 0.1 * draws if last.endswith("weight") else 0.02 * draws
    else:
        gain = GAINS.get(name, next((gain for end, gain in GAINS_OF_ENDS.items() if name.endswith(end)), 1.0))
        values = gain * draws / np.sqrt(np.prod(shape[1:]))
    return np.asarray(values, np.float32)


def draws_of(name: str) -> np.random.Generator:
    """The generator of a name's numbers."""
    return np.random.default_rng(int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], "little"))


def feature_map(name: str, channels: int, grid: int, low: int) -> Tensor:
    """A map (1, channels, grid, grid) of ``low`` x ``low`` constant blocks, made from a name alone.

    >>> feature_map("a", 2, 4, 2).shape
    torch.Size([1, 2, 4, 4])
    """
    return _in_blocks(draws_of(f"input|{name}").standard_normal((1, channels, low, low)), grid)


def feature_pair(name: str, channels: int, grid: int, low: int) -> tuple[Tensor, Tensor]:
    """Two such maps, the second the first rolled two blocks down and three to the left, with noise."""
    generator = draws_of(f"input|{name}")
    first = generator.standard_normal((1, channels, low, low))
    second = 0.9 * np.roll(first, (2, -3), axis=(2, 3)) + 0.5 * generator.standard_normal(first.shape)
    return _in_blocks(first, grid), _in_blocks(second, grid)


def _in_blocks(small: np.ndarray, grid: int) -> Tensor:
    times = grid // small.shape[-1]
    return torch.from_numpy(small.repeat(times, 2).repeat(times, 3).astype(np.float16).astype(np.float32))


def published_state(shapes: dict[str, list[int]]) -> dict[str, Tensor]:
    """A published checkpoint's state dict with every weight filled; counters are 0."""
    return {
        name: torch.zeros(shape, dtype=torch.int64)
        if name.endswith(AS_CONSTRUCTED)
        else torch.from_numpy(fill(name, tuple(shape)))
        for name, shape in shapes.items()
    }
