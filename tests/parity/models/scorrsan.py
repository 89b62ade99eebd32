"""SCorrSAN beside its published code: two networks, the second filled under names of its own."""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from baselines.scorrsan import DILATION, PSEUDO_WEIGHT, SCorrSAN, key_of, mutual_loss
from sc_imagenet.geometry.correlation import cosine, resize_source, resize_target
from sc_imagenet.geometry.flow import end_point_error, labelled
from tests.parity.filling import copied, published_state
from tests.parity.models.cats import batch_of, images
from tests.parity.references import Arrays, Comparison, Tolerance, beside, published_shapes
from tests.parity.rounding import Measured, Steps, in_precision

ENCODERS = {"scorrsan_spair": {"context": 7, "width": 2048}, "scorrsan_pfpascal": {"context": 13, "width": 1024}}
FILES = tuple(ENCODERS)
INPUTS = ("src", "trg", "src_kps", "trg_kps", "n_pts", "grad_names", "tc_grad_names")
PARTNER = "tc."
SHARE = 0.4  # of the pseudo-labels in the reference

TOLERANCES = {
    "flow": Tolerance(5e-4, "no"),
    "flow_tc": Tolerance(5e-4, "no"),
    "est_src_kps": Tolerance(1e-2, "no"),
    "gt_flow": Tolerance(1e-5, "no"),
    "losses_gt_gt_tc_pseudo_pseudo_tc": Tolerance(1e-4, "each"),
    "grad_norms": Tolerance(1e-3, "each"),
    "tc_grad_norms": Tolerance(1e-3, "each"),
}
OTHERWISE = Tolerance(1e-4)  # features and correlations


def thin(name: str, array: np.ndarray) -> np.ndarray:
    """The part of an array that the repository keeps; inputs are kept whole (images: one pixel a block)."""
    if name in ("src", "trg"):
        return array[..., ::4, ::4]
    if name.startswith(("feat_", "sce_")):
        return array[::8]
    if name.startswith(("corr_raw", "corr_mm")):
        return array[::16]
    return array


@copied
def filled(name: str) -> SCorrSAN:
    """Two networks with the reference's weights, loaded by published key."""
    model = SCorrSAN(**ENCODERS[name], networks=2, pretrained=False)
    shapes = published_shapes(name)
    state = {key_of(key): value for key, value in published_state(shapes).items()}
    for key, value in published_state({PARTNER + key: shape for key, shape in shapes.items()}).items():
        state[as_partner(key_of(key.removeprefix(PARTNER)))] = value
    model.load_state_dict(state)
    return model


def as_partner(key: str) -> str:
    """The second network's key for one of the first."""
    part, _, rest = key.partition(".0.")
    return f"{part}.1.{rest}"


def our_arrays(name: str, reference: Arrays) -> dict[str, np.ndarray | Measured]:
    """What our SCorrSAN computes, under the names of the reference file."""
    model = filled(name).eval()
    source, target = images({f"{role}_img": reference[role] for role in ("src", "trg")})
    batch = batch_of(reference)
    out: dict[str, Tensor] = {}
    with torch.no_grad():
        maps = model.layer(source, target, 0)
        encoded = [model.heads[0].encoder(features) for features in maps]
        for role, features, context in zip(("src", "trg"), maps, encoded):
            out[f"feat_{role}"], out[f"sce_{role}"] = features[0, ::16], context[0, ::16]
        correlation = model(source, target)
        coarse, fine = (model.coarse, model.coarse), (model.fine, model.fine)
        volume = resize_target(resize_source(correlation, coarse, fine), coarse, fine)
        out["corr_raw"], out["corr_mm"] = cosine(*encoded)[0], correlation[0]
        out["corr_up"] = volume[0].unflatten(1, fine)[::67, ::5, ::7]
        out["flow"] = model.flow(correlation)[0]
        out["flow_tc"] = model.flow(model.correlate(source, target, 1), network=1)[0]
        points = batch["target_points"][:, : int(reference["n_pts"])]
        out["est_src_kps"] = model.transfer(correlation, points)[0].T
    out["gt_flow"] = model.true_flow(batch)[0]
    steps = Steps(lambda dtype: training_step(name, reference, dtype))
    norms = {}
    for prefix, ours in (("", key_of), ("tc_", lambda key: as_partner(key_of(key.removeprefix(PARTNER))))):
        listed = reference[f"{prefix}grad_names"].tolist()
        norms[f"{prefix}grad_norms"] = steps.gradient_norms([[ours(key)] for key in listed])
    return {**{key: value.numpy() for key, value in out.items()}, **steps.arrays, **norms}


def training_step(name: str, reference: Arrays, dtype: torch.dtype) -> tuple[SCorrSAN, dict[str, Tensor]]:
    """A model, evaluated, that has the gradients of both losses, and these."""
    model, batch = filled(name).eval().to(dtype), in_precision(batch_of(reference), dtype)
    source, target = (image.to(dtype) for image in images({f"{role}_img": reference[role] for role in ("src", "trg")}))
    true = model.true_flow(batch)
    cells = F.max_pool2d(labelled(true).float(), DILATION, 1, DILATION // 2) > 0
    first, second = (model.flow(model.correlate(source, target, k), cells, k) for k in range(2))
    supervised = [end_point_error(flow, true) for flow in (first, second)]
    pseudo = mutual_loss(first, second, cells, SHARE)
    (sum(supervised) + PSEUDO_WEIGHT * pseudo).backward()
    return model, {"losses_gt_gt_tc_pseudo_pseudo_tc": torch.stack((*supervised, pseudo / 2, pseudo / 2))}


def compare(name: str, reference: Arrays) -> list[Comparison]:
    """Every array of the reference beside ours; an array that we do not have deviates infinitely."""
    ours = our_arrays(name, reference)
    wanted = {key: array for key, array in reference.items() if key not in (*INPUTS, "report_json")}
    return beside(ours, wanted, {key: TOLERANCES.get(key, OTHERWISE) for key in wanted}, thin)
