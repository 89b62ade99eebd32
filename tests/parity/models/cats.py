"""CATs beside its published code."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from baselines.cats import PF_PASCAL_LAYERS, SPAIR_LAYERS, CATs, key_of
from sc_imagenet.backbones.backbone import build_backbone
from tests.parity.filling import copied, published_state
from tests.parity.references import Arrays, Comparison, Tolerance, beside, published_shapes
from tests.parity.rounding import Measured, Steps, in_precision

LAYERS = {"cats_spair": SPAIR_LAYERS, "cats_pfpascal": PF_PASCAL_LAYERS}
TRACKED = "layer3.22.bn3.running_mean"  # of the 30th block
FILES = tuple(LAYERS)
INPUTS = ("src_img", "trg_img", "src_kps", "trg_kps", "n_pts", "grad_names")

TOLERANCES = {
    "flow_eval": Tolerance(5e-4, "no"),
    "est_src_kps": Tolerance(1e-2, "no"),
    "gt_flow": Tolerance(1e-5, "no"),
    "loss_eval": Tolerance(1e-4, "each"),
    "loss_train": Tolerance(1e-3, "each"),
    "grad_norms": Tolerance(1e-3, "each"),
    "flow_train": Tolerance(5e-3, "no"),
}
OTHERWISE = Tolerance(1e-4)  # features, correlations, projections, blocks, running means


def thin(name: str, array: np.ndarray) -> np.ndarray:
    """The part of an array that the repository keeps; inputs are kept whole (images: one pixel a block)."""
    if name.endswith("_img"):
        return array[..., ::4, ::4]
    if name.endswith("_every64ch"):
        return array[:, ::4, ::4]
    if name.startswith(("corr_mnn", "refined_corr", "src_proj", "trg_proj")):
        return array[::16]
    if name.startswith("blocks_pass"):
        return array[::4]
    return array


def images(reference: Arrays) -> tuple[Tensor, Tensor]:
    """The pair (1, 3, 256, 256); extracts hold one pixel of each 4 x 4 block, which is of one colour."""
    pair = []
    for name in ("src_img", "trg_img"):
        image = reference[name].astype(np.float32)
        blocks = 256 // image.shape[-1]
        pair.append(torch.from_numpy(image.repeat(blocks, -1).repeat(blocks, -2)))
    return pair[0], pair[1]


def batch_of(reference: Arrays) -> dict[str, Tensor]:
    """The reference's keypoints as a batch."""
    source, target = (torch.from_numpy(reference[name].T.copy())[None] for name in ("src_kps", "trg_kps"))
    valid = torch.arange(source.shape[1])[None] < int(reference["n_pts"])
    return {"source_points": source, "target_points": target, "valid": valid}


@copied
def filled(name: str) -> CATs:
    """CATs with the reference's weights, loaded by published key."""
    model = CATs(layers=LAYERS[name], pretrained=False)
    state = published_state(published_shapes(name))
    model.load_state_dict({key_of(key): value for key, value in state.items()})
    return model


def our_arrays(name: str, reference: Arrays) -> dict[str, np.ndarray | Measured]:
    """What our CATs computes, under the names of the reference file."""
    model, batch, (source, target) = filled(name).eval(), batch_of(reference), images(reference)
    out: dict[str, Tensor] = {}
    with torch.no_grad():
        maps = model.features(source, target)
        for role, layers in zip(("src", "trg"), maps):
            for level, features in enumerate(layers):
                out[f"{role}_feat{level}_every64ch"] = features[0, ::64]
                out[f"{role}_feat{level}_stats"] = torch.stack(
                    (features.mean(), features.std(unbiased=False), features.abs().max())
                )
        filtered = model.correlate(*maps)
        out["corr_mnn_first"], out["corr_mnn_last"] = filtered[0, 0], filtered[0, -1]
        out["src_proj_last"], out["trg_proj_first"] = model.project(maps[0])[0, -1], model.project(maps[1])[0, 0]
        given: list[Tensor] = []
        hook = model.decoder.blocks[0].norm1.register_forward_pre_hook(lambda _, tokens: given.append(tokens[0]))
        refined = model.refine(*maps)
        hook.remove()
        for number, tokens in enumerate(given):
            out[f"blocks_pass{number}_in_lvl0_rows16"] = tokens[0, 0, ::16]
            out[f"blocks_pass{number}_out_lvl0_rows16"] = model.decoder.blocks(tokens)[0, 0, ::16]
        flow = model.flow(refined)
        out["refined_corr"], out["flow_eval"], out["loss_eval"] = refined[0], flow[0], model.loss(flow, batch)
        points = batch["target_points"][:, : int(reference["n_pts"])]
        out["est_src_kps"] = model.transfer(flow, points)[0].T
    out["gt_flow"] = model.true_flow(batch)[0]
    steps = Steps(lambda dtype: training_step(name, reference, dtype))
    for part, names in split_names(reference).items():
        out[f"grad_norms/{part}"] = steps.gradient_norms([[_ours(key)] for key in names])
    return {
        key: value.numpy() if isinstance(value, Tensor) else value for key, value in {**out, **steps.arrays}.items()
    }


def training_step(name: str, reference: Arrays, dtype: torch.dtype) -> tuple[CATs, dict[str, Tensor]]:
    """A model that has its gradients, and what it computed for them."""
    model, batch = filled(name).train().to(dtype), in_precision(batch_of(reference), dtype)
    source, target = (image.to(dtype) for image in images(reference))
    flow = model(source, target)
    loss = model.loss(flow, batch)
    loss.backward()
    tracked = tracked_mean(name, model, source, target)
    return model, {"flow_train": flow[0], "loss_train": loss, "rm_after_train_layer3.22.bn3": tracked}


def tracked_mean(name: str, trained: CATs, source: Tensor, target: Tensor) -> Tensor:
    """The running mean of the 30th block after one training step.

    The published code runs the whole ResNet; ours stops after the last block that is read, the 28th for
    PF-PASCAL: there the same backbone is run as far as the 30th.
    """
    if max(LAYERS[name]) >= 30:
        return trained.backbone.net.state_dict()[TRACKED]
    longer = build_backbone("resnet101", [30], pretrained=False).train()
    longer.load_state_dict(filled(name).backbone.state_dict())
    longer.to(source.dtype)
    with torch.no_grad():
        longer(source)
        longer(target)
    return longer.net.state_dict()[TRACKED]


def compare(name: str, reference: Arrays) -> list[Comparison]:
    """Every array of the reference beside ours; an array that we do not have deviates infinitely."""
    ours = our_arrays(name, reference)
    theirs_of = dict(zip(reference["grad_names"].tolist(), reference["grad_norms"].tolist()))
    wanted = {key: array for key, array in reference.items() if key not in (*INPUTS, "grad_norms")}
    for part, names in split_names(reference).items():
        wanted[f"grad_norms/{part}"] = np.array([theirs_of[key] for key in names])
    tolerances = {key: TOLERANCES.get(key.partition("/")[0], OTHERWISE) for key in wanted}
    return beside(ours, wanted, tolerances, thin)


def split_names(reference: Arrays) -> dict[str, list[str]]:
    """Names of the parameters whose gradients are compared, those of the backbone apart."""
    names = reference["grad_names"].tolist()
    inside = [name for name in names if name.startswith("feature_extraction.")]
    return {"head": [name for name in names if name not in set(inside)], "backbone": inside}


def _ours(key: str) -> str:
    return key.replace("feature_extraction.backbone.", "backbone.net.", 1)
