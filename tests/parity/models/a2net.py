"""A2Net beside its published code: ResNet-101 at 240 pixels, every block, training steps of both networks."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from baselines.a2net import A2Net, by_offset, from_a2net
from sc_imagenet.geometry.transformations import transform, warp_source
from tests.parity.filling import copied, geometric_state
from tests.parity.models import cnngeo
from tests.parity.references import Arrays, Comparison, Tolerance, beside, published_shapes
from tests.parity.rounding import Measured, Steps

FILES = ("a2net",)
KEYS = ("a2net_resnet101",)
INPUTS = (
    *("src", "trg", "trg_points", "trg_size_hwc", "src_size_hwc", "synth_low", "theta_gt_affine", "theta_gt_tps"),
    *("grad_names", "report_json"),
)
POINTS = 10
NOISE = 1e-7  # norm of a gradient that would be zero without rounding: of a bias before batch normalisation

TOLERANCES = {
    "whole_train_theta": Tolerance(3e-4, "no"),
    "whole_train_loss": Tolerance(3e-4, "each"),
    "whole_train_grad_norms": Tolerance(5e-2, "each"),
    "backbone_eval_theta": Tolerance(5e-4, "no"),
    "backbone_eval_loss": Tolerance(3e-4, "each"),
    "backbone_eval_grad_norms": Tolerance(1e-2, "each"),
    "theta": Tolerance(1e-6, "no"),
    "warped_points": Tolerance(5e-3, "no"),
    "warped_every8": Tolerance(3e-3, "no"),
}
OTHERWISE = Tolerance(1e-4)  # features, correlations, blocks


def thin(name: str, array: np.ndarray) -> np.ndarray:
    """The part of an array that the repository keeps; inputs are kept whole (images: one pixel a block)."""
    if name in ("src", "trg"):
        return array[..., :: cnngeo.OF_ONE_COLOUR, :: cnngeo.OF_ONE_COLOUR]
    return array[::4] if name.endswith(("every32", "every16", "every4")) else array


@copied
def filled(network: str) -> A2Net:
    """A model of one network with the reference's weights, loaded by published key."""
    model = A2Net(stages="affine" if network == "affine" else "tps", pretrained=False)
    cnngeo.load(model, from_a2net(geometric_state(published_shapes(KEYS[0]), network == "tps")))
    return model


def our_arrays(reference: Arrays) -> dict[str, np.ndarray | Measured]:
    """What our A2Net computes, under the names of the reference file."""
    with torch.no_grad():
        out = {key: value.numpy() for key, value in evaluated(reference).items()}
    for network in ("affine", "tps"):
        for training in (False, True):
            out |= training_step(network, training, reference)
    return out


def evaluated(reference: Arrays) -> dict[str, Tensor]:
    """Features, blocks, both transformations, and where points go."""
    source, target = (cnngeo.image(reference, name) for name in ("src", "trg"))
    affine, spline = filled("affine"), filled("tps")
    ours, theirs = (affine.describe(images) for images in (source, target))
    correlation = affine.correlate(ours, theirs)
    network = affine.affine
    aligned = by_offset(correlation)
    seen = network.preconv(aligned)
    attention = network.attention_of(seen)
    theta = affine(source, target).affine
    warped = warp_source(source, theta)
    alone, after = (spline(images, target).spline for images in (source, warped))
    ways = {
        "aff": lambda points: transform(theta, points),
        "aff_tps": lambda points: transform(theta, transform(after, points)),
    }
    return {
        "feat_a_every32": ours[0, ::32],
        "corr_every16": correlation[0, ::16],
        "aligned_every20": aligned[0, ::20],
        "preconv_every4": seen[0, ::4],
        "conv_every4": network.placed(seen)[0, ::4],
        "attention": attention[0, 0],
        "attended": network.attend(seen, attention)[0],
        "theta_aff": theta,
        "theta_tps_after_aff": after,
        "theta_tps_single_stage": alone,
        "warped_every8": warped[0, :, ::8, ::8],
        **{f"warped_points_{name}": cnngeo.carried(way, reference, "pf", POINTS) for name, way in ways.items()},
    }


def training_step(network: str, training: bool, reference: Arrays) -> dict[str, np.ndarray | Measured]:
    """Parameters, loss and gradients of one step on the two synthetic pairs; ``training``: of the backbone, too."""
    batch = cnngeo.step_batch(reference, network)
    name = f"step_{network}_{'whole_train' if training else 'backbone_eval'}"

    def step(dtype: torch.dtype) -> tuple[torch.nn.Module, dict[str, Tensor]]:
        model = filled(network).to(dtype).train()
        model.backbone.train(training).requires_grad_(False)
        return model, cnngeo.taken(model, batch, dtype, together=not training)

    steps = Steps(step)
    own = "affine." if network == "affine" else "spline."
    renamed = from_a2net({key: torch.zeros(6) for key in reference["grad_names"].tolist()})
    keys = [own + key.partition(".")[2] for key in renamed]
    return {
        f"{name}_theta": steps.arrays["theta"],
        f"{name}_loss": steps.arrays["loss"],
        f"{name}_grad_norms": steps.gradient_norms([[key] for key in keys]),
    }


def compare(name: str, reference: Arrays) -> list[Comparison]:
    """Every array of the reference beside ours; an array that we do not have deviates infinitely."""
    wanted = {key: array for key, array in reference.items() if key not in INPUTS}
    ours = our_arrays(reference)
    for key in wanted:
        if key.endswith("grad_norms"):
            cnngeo.without_noise(ours, wanted, key, NOISE)
    found = {key: next((limit for part, limit in TOLERANCES.items() if part in key), OTHERWISE) for key in wanted}
    return beside(ours, wanted, found, thin)
