"""The precision in which sums are taken that lower ones would spoil."""

from __future__ import annotations

import torch
from torch import Tensor


def at_least_float32(values: Tensor) -> Tensor:
    """Half precisions become float32; float32 and float64 stay.

    >>> [at_least_float32(torch.zeros(1, dtype=given)).dtype for given in (torch.bfloat16, torch.float64)]
    [torch.float32, torch.float64]
    """
    return values.to(torch.promote_types(values.dtype, torch.float32))
