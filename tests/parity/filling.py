"""Weights as a function of their name: how the references were filled, so that ours can be filled alike."""

from __future__ import annotations

import hashlib

import numpy as np
import torch
from torch import Tensor

AS_CONSTRUCTED = ("num_batches_tracked", "relative_position_index", "attn_mask")
GAINS = {"decoder.proj.weight": 0.05}  # else CATs' sharp softmax would saturate


def fill(name: str, shape: tuple[int, ...]) -> np.ndarray:
    """The float32 values of the tensor that is called ``name`` in the published state dict.

    Normal draws seeded by the first eight bytes (little endian) of the name's SHA-256, scaled by the kind of
    the tensor.

    >>> fill("bn1.bias", (2,)).dtype, float(abs(fill("a.running_var", (9,)) - 1).min()) >= 0
    (dtype('float32'), True)
    """
    seed = int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], "little")
    draws = np.random.default_rng(seed).standard_normal(shape)
    last = name.rpartition(".")[2]
    if not shape:
        values = 1 + 0.1 * draws
    elif last.endswith("running_var"):
        values = 1 + 0.25 * np.abs(draws)
    elif last.endswith("running_mean"):
        values = 0.05 * draws
    elif last.endswith(("x_normal", "y_normal")):
        values = np.linspace(-1, 1, shape[0]) + 0.01 * draws
    elif last.endswith("relative_position_bias_table") or "pos_embed" in last:
        values = 0.2 * draws
    elif len(shape) == 1:
        values = 1 + 0.1 * draws if last.endswith("weight") else 0.02 * draws
    else:
        values = GAINS.get(name, 1.0) * draws / np.sqrt(np.prod(shape[1:]))
    return np.asarray(values, np.float32)


def published_state(shapes: dict[str, list[int]]) -> dict[str, Tensor]:
    """A published checkpoint's state dict with every weight filled; counters are 0."""
    return {
        name: torch.zeros(shape, dtype=torch.int64)
        if name.endswith(AS_CONSTRUCTED)
        else torch.from_numpy(fill(name, tuple(shape)))
        for name, shape in shapes.items()
    }
