"""One training step in float32 and in float64: what rounding does to our own numbers.

The references are float32, and a gradient that passes through batch statistics of one pair and a sharp softmax
magnifies rounding: one part in ten million becomes a few hundredths, differently for every processor and number of
threads. Ours is therefore taken in float64, where the order of summation moves nothing, and how far our float32 is
from it tells how far the reference may be.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

EPSILON = float(np.finfo(np.float32).eps)
TIE = 1e-5  # two matches whose scores are this near each other are equally good

Step = Callable[[torch.dtype], tuple[nn.Module, Mapping[str, Tensor]]]


@dataclass(frozen=True)
class Measured:
    """An array in float64, and how far float32 may be from each of its elements (same shape, same units)."""

    values: np.ndarray
    rounding: np.ndarray


class Steps:
    """The same training step in float32 and in float64.

    ``step(dtype)`` builds the model in that precision, takes the loss's gradients and returns the model with what
    it computed on the way.
    """

    def __init__(self, step: Step) -> None:
        single, self._single = _taken(step, torch.float32)
        double, self._double = _taken(step, torch.float64)
        self.arrays = {name: measured(single[name], double[name]) for name in double}

    def gradient_norms(self, names: Sequence[Sequence[str]]) -> Measured:
        """Norms of gradients by our names, several of which may make up one tensor; -1 where there is none.

        A tensor's rounding is the norm of the difference of its two gradients. That is one draw, and no upper bound:
        no tensor's share of rounding is taken to be below twice that of all tensors of its role (its name without
        numbers) together, or below that of half the tensors, and none below float32's last place of the largest.
        """
        rows = [[self._norm_and_rounding(name) for name in some] for some in names]
        norms = np.array([-1.0 if None in row else np.linalg.norm([norm for norm, _ in row]) for row in rows])
        rounding = np.array([0.0 if None in row else np.linalg.norm([noise for _, noise in row]) for row in rows])
        found = norms > 0
        if found.any():
            shares = rounding[found] / norms[found]
            roles = np.array([re.sub(r"\d+", "", some[0]) for some in names])[found]
            of_role = {
                role: np.linalg.norm(rounding[found][roles == role]) / np.linalg.norm(norms[found][roles == role])
                for role in set(roles)
            }
            usual = np.maximum([2 * of_role[role] for role in roles], np.median(shares))
            rounding[found] = np.maximum(shares, usual) * norms[found]
            rounding[norms >= 0] = np.maximum(rounding[norms >= 0], EPSILON * norms.max())
        return Measured(norms, rounding)

    def _norm_and_rounding(self, name: str) -> tuple[float, float] | None:
        exact = self._double.get(name)
        if exact is None:
            return None
        rounded = self._single.get(name, torch.zeros(()))
        return exact.norm().item(), (exact - rounded.double()).norm().item()


def measured(single: Tensor, double: Tensor) -> Measured:
    """An array computed twice; where its elements round alike, the largest difference stands for all."""
    exact = double.detach().numpy().astype(np.float64)
    apart = np.abs(exact - single.detach().numpy().astype(np.float64))
    return Measured(exact, np.full_like(exact, apart.max()))


def _taken(step: Step, dtype: torch.dtype) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    model, arrays = step(dtype)
    gradients = {key: value.grad for key, value in model.named_parameters() if value.grad is not None}
    return {key: value.detach() for key, value in arrays.items()}, gradients


def in_precision(batch: Mapping[str, Tensor], dtype: torch.dtype) -> dict[str, Tensor]:
    """A batch with its floating tensors in ``dtype``."""
    return {key: value.to(dtype) if value.is_floating_point() else value for key, value in batch.items()}


def best_or_tied(scores: Tensor, best: Tensor, theirs: Tensor) -> Tensor:
    """The best places (N,) of scores (N, M), or theirs where a score is as good: rounding decides between such.

    >>> scores = torch.tensor([[1.0, 1.000001, 0.0], [1.0, 2.0, 0.0]])
    >>> best_or_tied(scores, scores.argmax(1), torch.tensor([0, 0])).tolist()
    [0, 1]
    """
    rows = torch.arange(len(scores))
    return torch.where(scores[rows, theirs] >= (1 - TIE) * scores[rows, best], theirs, best)
