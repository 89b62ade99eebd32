"""``scbench check``: a model on synthetic warps, against what ``baselines/matcher.py`` promises."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from baselines import registry
from baselines.checkpoints import load_checkpoint
from baselines.matcher import Matcher
from baselines.recipe import with_backbone
from baselines.registry import find_recipe
from sc_imagenet.backbones.pretrained import weights_at_hand
from sc_imagenet.geometry.resize import normalised_image

# Pairs whose correspondence is known exactly: random textures under random affine warps.


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
    transferred = unit @ affine[:, :, :2].transpose(1, 2) + affine[:, None, :, 2]
    whole_frame = torch.tensor([0.0, 0.0, size, size]).expand(count, 4)
    return {
        "source": normalised_image(source, matcher.mean, matcher.std),
        "target": normalised_image(target, matcher.mean, matcher.std),
        "source_points": (transferred + 1) * size / 2,
        "target_points": (unit + 1) * size / 2,
        "valid": (transferred.abs() < 1).all(-1),
        "source_bbox": whole_frame,
        "target_bbox": whole_frame,
        "category": torch.arange(count),
    }


# ``scbench check``: a model on pairs made here, against what ``baselines/matcher.py`` promises.

PAIRS = 2
STEPS = 8  # of optimisation
RATE = 1e-4
COUNTS = (0, 1, 100)  # of points


@dataclass(frozen=True)
class Finding:
    """One property of a model: whether it holds, and the figure it was judged by."""

    check: str
    holds: bool
    detail: str


def check_model(name: str, preset: str = "tiny", backbone: str | None = None) -> list[Finding]:
    """Check a model; its backbone has real weights only where they are on this machine for sure.

    Raises:
        InputError: unknown model, preset or backbone.
    """
    card = registry.card(name)
    arguments = with_backbone(find_recipe(card.name, "*", preset).model, backbone)
    arguments["pretrained"] = weights_at_hand(arguments.get("backbone", card.backbone))
    torch.manual_seed(0)
    matcher = registry.create(card.name, **arguments).eval()
    return list(_findings(matcher, card.name))


def _findings(matcher: Matcher, name: str) -> Iterator[Finding]:
    generator = torch.Generator().manual_seed(1)
    batch = warped_pairs(matcher, PAIRS, 12, generator)
    parameters = sum(parameter.numel() for parameter in matcher.parameters())
    yield Finding("builds", True, f"{matcher.size} px, {parameters / 1e6:.1f} M parameters")
    with torch.no_grad():
        output = matcher(batch["source"], batch["target"])
        yield from _transfers(matcher, output, generator)
        yield _identity(matcher, generator)
        if matcher.encodes_alone:
            yield _encoding(matcher, batch, output)
    try:
        loss = matcher.training_loss(batch, epoch=0)
    except NotImplementedError:
        yield Finding("learns", True, "is not trained")
    else:
        yield from _learning(matcher, batch, loss)
    yield _saving(matcher, name, batch)


def _transfers(matcher: Matcher, output: Any, generator: torch.Generator) -> Iterator[Finding]:
    size = matcher.size
    for count in COUNTS:
        points = torch.rand(PAIRS, count, 2, generator=generator) * size
        transferred = matcher.transfer(output, points)
        fine = (
            transferred.shape == points.shape
            and bool(transferred.isfinite().all())
            and transferred.dtype == torch.float32
        )
        yield Finding(f"transfers {count} points", fine, f"{tuple(transferred.shape)} {str(transferred.dtype)[6:]}")
    corners = torch.tensor([[0, 0], [0, size], [size, 0], [size, size], [size - 1, size / 2]], dtype=torch.float32)
    transferred = matcher.transfer(output, corners.expand(PAIRS, -1, -1))
    yield Finding("transfers points on the border", bool(transferred.isfinite().all()), f"{len(corners)} points")


def _identity(matcher: Matcher, generator: torch.Generator) -> Finding:
    """An image paired with itself: points stay nearer to where they were than to where others are."""
    image = normalised_image(texture(PAIRS, matcher.size, generator), matcher.mean, matcher.std)
    points = (0.1 + 0.8 * torch.rand(PAIRS, 60, 2, generator=generator)) * matcher.size
    transferred = matcher.transfer(matcher(image, image), points)
    error = (transferred - points).norm(dim=-1).mean().item()
    chance = (transferred - points.roll(1, 1)).norm(dim=-1).mean().item()
    return Finding("finds an image in itself", error < chance / 2, f"{error:.1f} px off; by chance {chance:.1f} px")


def _encoding(matcher: Matcher, batch: dict[str, Tensor], output: Any) -> Finding:
    """Images encoded one by one are matched as in a forward pass; only sums may be rounded otherwise."""
    name = "encodes each image by itself"
    direct = matcher.transfer(output, batch["source_points"])
    calls = {"source": matcher.encode, "target": matcher.encode_target}
    parts = {side: [call(image[None]) for image in batch[side]] for side, call in calls.items()}
    if any(len(each) != 1 for features in parts["source"] for each in features):
        return Finding(name, False, "tensors of features do not have the images along their first dimension")
    sides = ([torch.cat(each) for each in zip(*parts[side])] for side in calls)
    moved = (matcher.transfer(matcher.match(*sides), batch["source_points"]) - direct).norm(dim=-1)
    return Finding(name, moved.median().item() < matcher.size / 100, f"points move by {moved.max().item():.2g} px")


def _learning(matcher: Matcher, batch: dict[str, Tensor], untrained: Tensor) -> Iterator[Finding]:
    yield Finding("loss is a number", untrained.shape == () and bool(untrained.isfinite()), f"{untrained.item():.3f}")
    trainable = {name: value for name, value in matcher.named_parameters() if value.requires_grad}
    optimiser = torch.optim.AdamW(trainable.values(), lr=RATE)
    losses = []
    for step in range(STEPS):
        loss = matcher.training_loss(batch, epoch=0)
        loss.backward()
        if step == 0:
            without = [name for name, value in trainable.items() if value.grad is None]
            bad = [
                name for name, value in trainable.items() if value.grad is not None and not value.grad.isfinite().all()
            ]
            detail = f"no gradient: {', '.join(without[:3])}" if without else f"not finite: {', '.join(bad[:3])}"
            yield Finding(
                "gradients reach what is trained",
                not without and not bad,
                detail if without or bad else f"{len(trainable)} tensors",
            )
        losses.append(loss.item())
        optimiser.step()
        optimiser.zero_grad()
    yield Finding("learns", losses[-1] < losses[0], f"loss {losses[0]:.3f} -> {losses[-1]:.3f} in {STEPS} steps")
    empty = matcher.training_loss({**batch, "valid": torch.zeros_like(batch["valid"])}, epoch=0)
    yield Finding(
        "a batch without points has a loss", bool(empty.isfinite()) and empty.requires_grad, f"loss {empty.item():.3f}"
    )


def _saving(matcher: Matcher, name: str, batch: dict[str, Tensor]) -> Finding:
    """The saved model, trained a little by now, transfers points to exactly the same places."""
    transferred = _carry(matcher, batch)
    with tempfile.TemporaryDirectory() as folder:
        matcher.save_pretrained(folder)
        again, _ = load_checkpoint(name, folder)
    return Finding("saved and loaded it is the same", torch.equal(_carry(again, batch), transferred), "bit for bit")


@torch.no_grad()
def _carry(matcher: Matcher, batch: dict[str, Tensor]) -> Tensor:
    return matcher.transfer(matcher(batch["source"], batch["target"]), batch["source_points"])
