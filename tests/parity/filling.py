"""Weights as a function of their name: how the references were filled, so that ours can be filled alike."""

from __future__ import annotations

import copy
import hashlib
from collections.abc import Callable
from functools import wraps
from typing import Any, ParamSpec, TypeVar

import numpy as np
import torch
from torch import Tensor

from sc_imagenet.geometry.transformations import IDENTITY

AS_CONSTRUCTED = ("num_batches_tracked", "relative_position_index", "attn_mask")
GAINS = {"decoder.proj.weight": 0.05}  # else CATs' sharp softmax would saturate
GAINS_OF_ENDS = {".linear_b_q.weight": 0.3, ".linear_b_v.weight": 0.3}  # GECO's second factors


P = ParamSpec("P")
T = TypeVar("T")
_KEPT: dict[Any, Any] = {}  # what was made last, by what made it and of what


def copied(made: Callable[P, T]) -> Callable[P, T]:
    """Give copies of what was made before: that takes a twentieth of building and filling them."""

    @wraps(made)
    def copy_of(*of: P.args, **options: P.kwargs) -> T:
        key = made, of, tuple(options.items())
        if key not in _KEPT:
            while len(_KEPT) > 3:  # networks of some 0.2 GB
                _KEPT.pop(next(iter(_KEPT)))
            _KEPT[key] = made(*of, **options)
        return copy.deepcopy(_KEPT[key])

    return copy_of


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


# CNNGeo, A2Net and Weakalign: plain random weights would give every pair one and the same collapsed transformation.

SPARSER = {"FeatureExtraction.model.6.22.bn3.bias": -2.0, "FeatureExtraction.model.21.bias": -0.1}
CONTRAST = {"conv.0.weight": 50.0, "preconv.0.weight": 20.0}  # of what is left without the mean over the inputs
LAST = {1600: 0.5, 128: 0.05}  # by the inputs of a regressor's last layer


def geometric_state(shapes: dict[str, list[int]], spline: bool = False) -> dict[str, Tensor]:
    """The state dict of a published checkpoint, filled so that each pair has its own transformation near the identity.

    The file of a spline's network has the keys of the affine one's and other weights after the backbone.
    """
    state = {}
    for key, shape in shapes.items():
        head, _, name = key.partition(".")
        regressor = head != "FeatureExtraction"
        if regressor and spline and name.startswith("linear."):
            shape = [18, *shape[1:]]
        if key.endswith(AS_CONSTRUCTED):
            state[key] = torch.zeros(shape, dtype=torch.int64)
            continue
        values = fill(f"tps.{key}" if regressor and spline else key, tuple(shape))
        values = values + np.float32(SPARSER.get(key, 0.0))
        if regressor and name in CONTRAST:
            values = (values - values.mean(1, keepdims=True)) * np.float32(CONTRAST[name])
        if regressor and name == "linear.weight":
            values = values * np.float32(LAST[shape[1]])
        if regressor and name == "linear.bias":
            values = values + np.array(IDENTITY[shape[0]], np.float32)
        state[key] = torch.from_numpy(values)
    return state
