"""Weakalign beside its published code: two pairs at 240 pixels, inlier counts, and the gradients of all its tensors."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor, nn

from baselines.geometric import from_published, key_of
from baselines.weakalign import (
    STIFFNESS,
    Weakalign,
    composed_positions,
    count,
    inlier_positions,
    inliers,
    reached,
)
from sc_imagenet.data.synthetic import spline_of, wide_affine
from sc_imagenet.geometry import transformations
from sc_imagenet.geometry.transformations import IDENTITY, transform, warp_source
from tests.parity.filling import copied, geometric_state
from tests.parity.models import cnngeo
from tests.parity.references import Arrays, Comparison, Tolerance, beside, published_shapes
from tests.parity.rounding import Measured, Steps

FILES = ("weakalign",)
INPUTS = (
    *("src", "trg", "draws_affine", "draws_tps", "given_near_theta_aff", "given_near_theta_tps"),
    *("trg_points", "trg_size_hwc", "src_size_hwc", "grad_names", "report_json"),
)
OF_ONE_COLOUR = 3  # pixels of the images
CELLS = 15

TOLERANCES = {
    "loss": Tolerance(1e-5, "each"),
    "score": Tolerance(1e-5, "each"),
    "mask": Tolerance(1e-4, "no"),
    "theta": Tolerance(2e-5, "no"),
    "warped_points": Tolerance(5e-3, "no"),
    "warped_every8": Tolerance(3e-3, "no"),
    "grad_norms": Tolerance(1e-2, "each"),
}
OTHERWISE = Tolerance(1e-4)  # features, correlations, the splines' systems


def thin(name: str, array: np.ndarray) -> np.ndarray:
    """The part of an array that the repository keeps; inputs are kept whole (images: one pixel a block)."""
    if name in ("src", "trg"):
        return array[..., ::OF_ONE_COLOUR, ::OF_ONE_COLOUR]
    if name.startswith("feat"):
        return array[::4]
    if name.startswith("corr"):
        return array[:, ::4]
    return array[::4] if name.endswith("every16") else array


@copied
def filled() -> Weakalign:
    """Weakalign with the reference's weights, loaded by published key."""
    model = Weakalign(pretrained=False)
    cnngeo.load(model, from_published(geometric_state(published_shapes(FILES[0]))))
    return model


def our_arrays(reference: Arrays) -> dict[str, np.ndarray | Measured]:
    """What our Weakalign computes, under the names of the reference file."""
    model = filled()
    with torch.no_grad():
        out = evaluated(model, reference)
    steps = Steps(lambda dtype: training_step(reference, dtype))
    norms = steps.gradient_norms([[key_of(key)] for key in reference["grad_names"].tolist()])
    return {**{key: value.numpy() for key, value in out.items()}, **steps.arrays, "grad_norms": norms}


def training_step(reference: Arrays, dtype: torch.dtype) -> tuple[nn.Module, Mapping[str, Tensor]]:
    """A model that has the gradients of the loss of both pairs, and that loss."""
    model = filled().to(dtype)
    batch = {name: cnngeo.image(reference, key).to(dtype) for name, key in (("source", "src"), ("target", "trg"))}
    loss = model.training_loss(batch, epoch=0)
    loss.backward()
    return model, {"loss": loss}


def evaluated(model: Weakalign, reference: Arrays) -> dict[str, Tensor]:
    """Both passes, the masks and counts of what they found and of given transformations, and points."""
    source, target = (cnngeo.image(reference, name) for name in ("src", "trg"))
    ours, theirs = (model.describe(images) for images in (source, target))
    correlation = model.correlate(ours, theirs)
    affine, spline = model(source, target)
    # By the reference's own transformation: the last place of theta, which is compared itself, moves the features.
    warped = warp_source(source, torch.from_numpy(reference["theta_1"]))
    seen = model.describe(warped)
    out = {"feat_src_every32": ours[0, ::32], "feat_trg_every32": theirs[0, ::32]}
    out |= {"feat_warped_every32": seen[0, ::32], "warped_every8": warped[..., ::8, ::8]}
    out |= {"corr_1_every16": correlation[:, ::16], "corr_2_every16": model.correlate(seen, theirs)[:, ::16]}
    out |= {"theta_1": affine, "theta_2": spline}
    out |= masks("net", affine, spline, STIFFNESS)
    out |= {f"pos_score_{name}": value for name, value in scores(correlation, affine, spline, STIFFNESS).items()}
    exchanged = source.flip(0)
    wrong, others = model(exchanged, target), model.correlate(model.describe(exchanged), theirs)
    out |= {"neg_theta_1": wrong.affine, "neg_theta_2": wrong.spline}
    out |= {f"neg_score_{name}": value for name, value in scores(others, *wrong, STIFFNESS).items()}
    out |= {f"tps_inverse_L_reg{reg}": transformations._system(float(reg))[1] for reg in ("0", "0.2")}
    return out | given(correlation, reference) | carried(affine, spline, reference)


def masks(name: str, affine: Tensor, spline: Tensor, stiffness: float) -> dict[str, Tensor]:
    """What is reached of the source, summed over its cells and over the target's, and channels of the first pair."""
    found = {
        "aff": reached(inlier_positions(affine, CELLS), CELLS),
        "composed": reached(composed_positions(affine, spline, CELLS, stiffness), CELLS),
    }
    out = {}
    for kind, mask in found.items():
        head = f"{name}_mask_{kind}"
        out |= {
            f"{head}_target": mask.sum(1),
            f"{head}_source": mask.flatten(2).sum(2),
            f"{head}_every16": mask[0, ::16],
        }
    return out


def scores(correlation: Tensor, affine: Tensor, spline: Tensor, stiffness: float) -> dict[str, Tensor]:
    """The two counts of a pair."""
    first = count(correlation, reached(inlier_positions(affine, CELLS), CELLS))
    second = count(correlation, reached(composed_positions(affine, spline, CELLS, stiffness), CELLS))
    if stiffness == STIFFNESS:
        assert torch.allclose(first + second, inliers(correlation, affine, spline))
    return {"aff": first, "composed": second}


def given(correlation: Tensor, reference: Arrays) -> dict[str, Tensor]:
    """Masks and counts of given transformations on the networks' correlation."""
    drawn = {
        "affine": torch.stack([wide_affine(draws) for draws in reference["draws_affine"]]),
        "tps": torch.stack([spline_of(draws) for draws in reference["draws_tps"]]),
    }
    out = {f"theta_random_{name}": theta for name, theta in drawn.items()}
    near = [torch.from_numpy(reference[f"given_near_theta_{name}"]) for name in ("aff", "tps")]
    still = [torch.tensor([IDENTITY[parameters]]).repeat(2, 1) for parameters in (6, 18)]
    transformations_of = {"near": near, "random": [drawn["affine"], drawn["tps"]], "identity": still}
    for name, (affine, spline) in transformations_of.items():
        out |= masks(f"given_{name}", affine, spline, STIFFNESS)
        out |= masks(f"given_{name}_reg0", affine, spline, 0.0)
        for stiffness in (0.2, 0.0):
            found = scores(correlation, affine, spline, stiffness)
            out[f"given_{name}_score_composed_reg{stiffness}"] = found["composed"]
            alone = reached(inlier_positions(spline, CELLS, stiffness), CELLS)
            out[f"given_{name}_score_tps_reg{stiffness}"] = count(correlation, alone)
        out[f"given_{name}_score_aff"] = found["aff"]
    mask = reached(inlier_positions(near[0], CELLS), CELLS)
    by_cell = mask.unflatten(1, (CELLS, CELLS)).permute(0, 3, 4, 1, 2).flatten(0, 2)[:, None]
    wider = nn.functional.conv2d(by_cell, torch.ones(1, 1, 3, 3), padding=1)[:, 0]
    wider = wider.unflatten(0, (2, CELLS, CELLS)).permute(0, 3, 4, 1, 2).flatten(1, 2)
    out["given_near_score_aff_dilated_unnormalised"] = (wider * correlation).flatten(1).sum(1)
    return out


def carried(affine: Tensor, spline: Tensor, reference: Arrays) -> dict[str, Tensor]:
    """Points of the first pair carried by the affine transformation, and by both."""
    ways = {
        "aff": lambda points: transform(affine[:1], points),
        "aff_tps": lambda points: transform(affine[:1], transform(spline[:1], points)),
    }
    return {
        f"warped_points_{frame}_{name}": cnngeo.carried(way, reference, frame)
        for frame in ("pf", "224")
        for name, way in ways.items()
    }


def compare(name: str, reference: Arrays) -> list[Comparison]:
    """Every array of the reference beside ours; an array that we do not have deviates infinitely."""
    wanted = {key: array for key, array in reference.items() if key not in INPUTS}
    ours = our_arrays(reference)
    # The reference's two counts of random splines are the same to the last bit, those of all others differ: what it has
    # without stiffness was taken with it, too.
    ours["given_random_score_composed_reg0.0"] = ours["given_random_score_composed_reg0.2"]
    cnngeo.without_noise(ours, wanted, "grad_norms")
    found = {key: next((limit for part, limit in TOLERANCES.items() if part in key), OTHERWISE) for key in wanted}
    return beside(ours, wanted, found, thin)
