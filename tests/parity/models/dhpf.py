"""DHPF, trained with keypoints and without, beside its published code."""

from __future__ import annotations

from functools import lru_cache
from types import MethodType

import numpy as np
import torch
from torch import Tensor

from baselines.dhpf import DHPF, gumbel, key_of
from baselines.dhpf_weak import WeakDHPF
from sc_imagenet.geometry.correlation import SMALLEST
from sc_imagenet.geometry.flow import cell_corners, nearest_cell
from sc_imagenet.geometry.hough import bin_side_of, box_bins, differences_at, gaussian, half_maximum_sigma
from tests.parity.filling import copied, published_state
from tests.parity.references import Arrays, Comparison, Tolerance, beside, published_shapes
from tests.parity.rounding import Measured, Steps, best_or_tied, in_precision

FILES = ("dhpf_resnet101",)
MODES = ("strong_eval", "weak_eval", "strong_train", "weak_train")
INPUTS = (
    *("src", "trg", "src_kps", "trg_kps", "n_pts", "b2_src_kps", "b2_trg_kps", "gumbel_u", "report_json"),
    *(f"{mode}_grad_names" for mode in MODES),
)
FRAME = (240, 240)
THRESHOLDS = (240, 150)  # sides that the two pairs' PCK is measured against
TRACKED = "reductions.10.1"

TOLERANCES = {
    "b1_prd_kps": Tolerance(1e-2, "no"),
    "strong_eval_prd": Tolerance(1e-2, "no"),
    "weak_eval_prd": Tolerance(1e-2, "no"),
    "strong_train_prd": Tolerance(1e-2, "no"),
    "weak_train_prd": Tolerance(1e-2, "no"),
    **{f"{mode}_grad_norms": Tolerance(1e-3 if "eval" in mode else 2e-3, "each") for mode in MODES},
    **{f"{mode}_loss": Tolerance(1e-4, "each") for mode in MODES},
}
OTHERWISE = Tolerance(1e-4)


def thin(name: str, array: np.ndarray) -> np.ndarray:
    """The part of an array that the repository keeps; images: one pixel a block of one colour."""
    if name in ("src", "trg"):
        return array[..., ::3, ::3]
    if name.endswith(("_app", "_geo", "_corr")):
        return array[..., ::3, ::3]
    return array


def images(reference: Arrays) -> tuple[Tensor, Tensor]:
    """The pair (1, 3, 240, 240)."""
    pair = []
    for name in ("src", "trg"):
        image = reference[name].astype(np.float32)
        blocks = FRAME[0] // image.shape[-1]
        pair.append(torch.from_numpy(image.repeat(blocks, -1).repeat(blocks, -2)))
    return pair[0], pair[1]


def batch_of(reference: Arrays) -> dict[str, Tensor]:
    """Two pairs of two classes: the second is the first one's target with its source mirrored."""
    source, target = images(reference)
    kps = [torch.from_numpy(reference[f"b2_{name}_kps"].transpose(0, 2, 1).copy()) for name in ("src", "trg")]
    return {
        "source": torch.cat((source, target)),
        "target": torch.cat((target, source.flip(-1))),
        "source_points": kps[0],
        "target_points": kps[1],
        "valid": kps[0][..., 0] >= 0,
        "target_bbox": torch.tensor([[0.0, 0.0, side, side] for side in THRESHOLDS]),
        "category": torch.arange(2),
    }


@lru_cache(maxsize=1)
@copied
def filled_state() -> dict[str, Tensor]:
    """Every weight by our key; the backbone is called "backbone." and torchvision's key."""
    shapes = {
        f"backbone.{key}": list(value.shape) for key, value in DHPF(pretrained=False).backbone.net.state_dict().items()
    }
    state = published_state({**shapes, **published_shapes(FILES[0])})
    return {key_of(key.replace("backbone.", "backbone.net.", 1)): value for key, value in state.items()}


def filled(weak: bool, reference: Arrays) -> DHPF:
    """DHPF with the reference's weights and noise."""
    model = (WeakDHPF if weak else DHPF)(pretrained=False)
    model.load_state_dict(filled_state())
    draws = torch.from_numpy(reference["gumbel_u"])
    model.noise = MethodType(lambda _, logits: gumbel(draws[:, : len(logits)].transpose(0, 1)).to(logits), model)
    return model


def our_arrays(reference: Arrays) -> dict[str, np.ndarray | Measured]:
    """What our DHPF computes, under the names of the reference file."""
    out: dict[str, Tensor] = {**geometry(), **one_pair(reference)}
    trained: dict[str, Measured] = {}
    for mode in MODES:
        steps = Steps(lambda dtype, mode=mode: two_pairs(mode, reference, dtype))
        norms = steps.gradient_norms([[_ours(key)] for key in reference[f"{mode}_grad_names"].tolist()])
        trained |= {f"{mode}_{key}": value for key, value in {**steps.arrays, "grad_norms": norms}.items()}
    batch = batch_of(reference)
    for ours, theirs in (("source", "src"), ("target", "trg")):
        cells = [
            nearest_cell(own, 4, (60, 60)).where(valid, -1)
            for own, valid in zip(batch[f"{ours}_points"], batch["valid"])
        ]
        out[f"b2_{theirs}_kpidx"] = torch.stack(cells)
    return {**{key: value.detach().numpy() for key, value in out.items()}, **trained}


def geometry() -> dict[str, Tensor]:
    """Boxes, bins and the Gaussian."""
    centres = cell_corners((60, 60), 4)
    bins, _ = box_bins(centres, centres, FRAME, FRAME, bin_side_of(FRAME, FRAME))
    line = gaussian(7, half_maximum_sigma(7)).float()
    boxes = torch.cat((centres - 5, centres + 5), 1)
    return {
        "rfs": boxes[[0, 1, 59, 60, 3599]],
        "bin_ids": bins[::97, ::89],
        "hsfilter": torch.outer(line, line),
    }


@torch.no_grad()
def one_pair(reference: Arrays) -> dict[str, Tensor]:
    """Every step of one pair, evaluated."""
    model = filled(False, reference).eval()
    output = model(*images(reference))
    cells = torch.arange(3600)
    hough = differences_at(output.hough, cells, (60, 60), (60, 60))[0]
    confidence = output.appearance[0] * hough
    plain, filtered = (torch.from_numpy(reference[f"b1_{name}_argmax"].astype(np.int64)) for name in ("corr", "mm"))
    highest = model.best_of_targets(output)[0]
    mutual = confidence**3 / (confidence.amax(1, keepdim=True) * highest).clamp(min=SMALLEST)
    points = torch.from_numpy(reference["src_kps"].T.copy())[None, : int(reference["n_pts"])]
    return {
        "b1_layer_sel": output.gates,
        "b1_app": output.appearance[:, ::37, ::41],
        "b1_geo": hough[::37, ::41],
        "b1_corr": confidence[None, ::37, ::41],
        "b1_corr_argmax": best_or_tied(confidence, confidence.argmax(1), plain),
        "b1_corr_rowmax": confidence.amax(1),
        "b1_sums": torch.stack([array.double().sum() for array in (output.appearance, hough, confidence)]),
        "b1_mm_argmax": best_or_tied(mutual, model.best_matches(output, 0, cells, highest), filtered),
        "b1_prd_kps": model.transfer(output, points)[0].T,
    }


def two_pairs(mode: str, reference: Arrays, dtype: torch.dtype) -> tuple[DHPF, dict[str, Tensor]]:
    """A model that has the gradients of a batch, and its output and loss."""
    supervision, _, phase = mode.partition("_")
    model = filled(supervision == "weak", reference).train(phase == "train").to(dtype)
    batch = in_precision(batch_of(reference), dtype)
    outputs = []
    compose = model.compose
    model.compose = MethodType(lambda _, maps: outputs.append(compose(maps)) or outputs[-1], model)
    if supervision == "weak" and phase == "eval":
        batch["category"] = torch.zeros(2)  # evaluated without negatives
    loss = model.training_loss(batch, epoch=0)
    loss.backward()
    (output,) = outputs
    hough = differences_at(output.hough, torch.arange(0, 3600, 37), (60, 60), (60, 60))
    count = int(reference["n_pts"])
    first = output._replace(**{key: getattr(output, key)[:2] for key in ("gates", "appearance", "hough")})
    predicted = model.transfer(first, batch["source_points"][:, :count])
    right = (predicted - batch["target_points"][:, :count]).norm(dim=-1) <= model.tolerance(batch)[:, None]
    valid = batch["valid"][:, :count]
    found = {
        "loss": loss,
        "layer_sel": output.gates,
        "corr": (output.appearance[:, ::37] * hough)[..., ::41],
        "prd": predicted.where(valid[..., None], -1).transpose(1, 2),
        "pck": 100 * (right & valid).sum(1) / valid.sum(1),
    }
    if phase == "train":
        tracked = model.get_submodule(TRACKED)
        found |= {"bn_mean_L10": tracked.running_mean, "bn_var_L10": tracked.running_var}
    return model, found


def compare(name: str, reference: Arrays) -> list[Comparison]:
    """Every array of the reference beside ours; an array that we do not have deviates infinitely."""
    ours = our_arrays(reference)
    wanted = {key: array for key, array in reference.items() if key not in INPUTS}
    return beside(ours, wanted, {key: TOLERANCES.get(key, OTHERWISE) for key in wanted}, thin)


def _ours(key: str) -> str:
    return key.replace("reduction_ffns.", "reductions.").replace("gumbel_ffns.", "gates.")
