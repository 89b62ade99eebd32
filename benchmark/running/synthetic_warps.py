"""Pairs whose correspondence is known exactly: random textures under random affine warps."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from baselines.matcher import Matcher


def texture(count: int, size: int, generator: torch.Generator) -> Tensor:
    """Random RGB textures in [0, 1], (count, 3, size, size): noise of several scales."""
    image = torch.zeros(count, 3, size, size)
    for cells in (4, 8, 16, 32):
        noise = torch.randn(count, 3, cells, cells, generator=generator)
        image += F.interpolate(noise, (size, size), mode="bicubic", align_corners=False)
    return image.mul_(0.2).add_(0.5).clamp_(0, 1)


def warped_pairs(matcher: Matcher, count: int, points: int, generator: torch.Generator) -> dict[str, Tensor]:
    """A batch as ``Matcher.loss`` takes it: each target shows its source rotated, scaled and shifted."""
    size = matcher.size
    source = texture(count, size, generator)
    angle, shift = (
        (torch.rand(count, generator=generator) - 0.5) * 0.8,
        (torch.rand(count, 2, generator=generator) - 0.5),
    )
    scale = 0.8 + 0.4 * torch.rand(count, generator=generator)
    # Target position -> source position, both in [-1, 1].
    cosine, sine = scale * angle.cos(), scale * angle.sin()
    affine = torch.stack((cosine, -sine, 0.4 * shift[:, 0], sine, cosine, 0.4 * shift[:, 1]), 1).view(count, 2, 3)
    grid = F.affine_grid(affine, [count, 3, size, size], align_corners=False)
    target = F.grid_sample(source, grid, padding_mode="reflection", align_corners=False)
    unit = torch.rand(count, points, 2, generator=generator) * 1.6 - 0.8
    carried = unit @ affine[:, :, :2].transpose(1, 2) + affine[:, None, :, 2]
    whole_frame = torch.tensor([0.0, 0.0, size, size]).expand(count, 4)
    return {
        "source": normalised(matcher, source),
        "target": normalised(matcher, target),
        "source_points": (carried + 1) * size / 2,
        "target_points": (unit + 1) * size / 2,
        "valid": (carried.abs() < 1).all(-1),
        "source_bbox": whole_frame,
        "target_bbox": whole_frame,
        "category": torch.arange(count),
    }


def normalised(matcher: Matcher, images: Tensor) -> Tensor:
    """Images in [0, 1] -> what the model takes."""
    mean, std = (torch.tensor(values)[:, None, None] for values in (matcher.mean, matcher.std))
    return (images - mean) / std
