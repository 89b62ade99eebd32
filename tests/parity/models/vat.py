"""VAT beside its published code."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from baselines.vat import TABLES, VAT, key_of
from sc_imagenet.geometry.flow import mapping_to_flow
from sc_imagenet.geometry.pooled_correlation import pooled_correlation
from tests.parity.filling import copied, published_state
from tests.parity.references import Arrays, Comparison, Tolerance, beside, published_shapes
from tests.parity.rounding import Measured, Steps, in_precision

FILES = ("vat",)
INPUTS = ("src_img", "trg_img", "src_kps", "trg_kps", "n_pts", "grad_names")
LEVELS = (5, 4, 3)  # as the published code numbers them

TOLERANCES = {
    "flow_eval": Tolerance(2e-3, "no"),
    "est_src_kps": Tolerance(1e-2, "no"),
    "gt_flow": Tolerance(1e-5, "no"),
    "loss_eval": Tolerance(2e-5, "each"),
    "loss_train": Tolerance(1e-3, "each"),
    "grad_norms": Tolerance(1e-3, "each"),
    "flow_train": Tolerance(1e-3),
}
OTHERWISE = Tolerance(1e-4)  # features, correlations, volumes, decoders


def thin(name: str, array: np.ndarray) -> np.ndarray:
    """The part of an array that the repository keeps; inputs are kept whole (images: one pixel a block)."""
    if name.endswith("_img"):
        return array[..., ::8, ::8]
    if name == "corr3_lvl0_s4":
        return array[::4, ::4]
    if name.startswith(("enc", "trf", "dec", "qproj")) and not name.endswith("_stats"):
        return array[..., ::2, ::2]
    return array


def images(reference: Arrays) -> tuple[Tensor, Tensor]:
    """The pair (1, 3, 512, 512); extracts hold one pixel of each 8 x 8 block, which is of one colour."""
    pair = []
    for name in ("src_img", "trg_img"):
        image = reference[name].astype(np.float32)
        blocks = 512 // image.shape[-1]
        pair.append(torch.from_numpy(image.repeat(blocks, -1).repeat(blocks, -2)))
    return pair[0], pair[1]


def batch_of(reference: Arrays) -> dict[str, Tensor]:
    """The reference's keypoints as a batch."""
    source, target = (torch.from_numpy(reference[name].T.copy())[None] for name in ("src_kps", "trg_kps"))
    valid = torch.arange(source.shape[1])[None] < int(reference["n_pts"])
    return {"source_points": source, "target_points": target, "valid": valid}


@copied
def filled() -> VAT:
    """VAT with the reference's weights, loaded by published key."""
    model = VAT(pretrained=False)
    state = published_state(published_shapes("vat"))
    model.load_state_dict({key_of(key): value for key, value in state.items() if not key.endswith(TABLES)})
    return model


def our_arrays(reference: Arrays) -> dict[str, np.ndarray | Measured]:
    """What our VAT computes, under the names of the reference file."""
    model, batch, (source, target) = filled().eval(), batch_of(reference), images(reference)
    out: dict[str, Tensor] = {}

    def keep(name: str, part: Tensor, whole: Tensor) -> None:
        out[name] = part.clone()
        out[f"{name}_stats"] = torch.stack((whole.mean(), whole.std(), whole.abs().max()))

    def keep_volume(name: str, volume: Tensor) -> None:
        keep(name, volume[0, ::4, ::4, :, :, ::64].movedim(-1, 0), volume)

    with torch.no_grad():
        ours, theirs = (model.levels(maps) for maps in model.features(source, target))
        for number, (linear, level) in enumerate(zip(model.guidance, theirs)):
            projected = linear(level[-1]).relu()
            keep(f"qproj{number}", projected[0, ::8, ::2, ::2], projected)
        for number, level in zip(LEVELS, zip(theirs, ours)):
            whole = torch.stack([pooled_correlation([a], [b], 1, 1)[1][0, ..., 0] for a, b in zip(*level)])
            keep(f"corr{number}_lvl0_s4", whole[0, ::4, ::4, ::4, ::4], whole)
        del whole
        hooks = []
        for number, encoder, transformer in zip(LEVELS, model.encoders, model.transformers):
            hooks += [
                watch(encoder, lambda _, y, name=f"enc{number}_ch0_3": keep_volume(name, y)),
                watch(transformer, lambda x, _, name=f"trf{number}_in": keep_volume(name, x)),
                watch(transformer.blocks, lambda _, y, name=f"trf{number}_out": keep_volume(name, y)),
            ]
        for number, decoder in enumerate(model.decoders):
            last = model.narrow[number] if number < len(model.narrow) else decoder
            hooks += [
                watch(decoder, lambda x, _, name=f"dec{number}_in": keep(name, x[0, ::16], x)),
                watch(last, lambda _, y, name=f"dec{number}_out": keep(name, y[0, ::16], y)),
            ]
        refined = model.refine(model.volumes(ours, theirs))
        grid = model.decode(refined[-1], model.guide(theirs))
        for hook in hooks:
            hook.remove()
        keep("grid", grid, grid)
        flow = mapping_to_flow(grid)
        out["flow_eval"], out["loss_eval"] = flow[0], model.loss(flow, batch)
        out["est_src_kps"] = model.transfer(flow, batch["target_points"][:, : int(reference["n_pts"])])[0].T
        out["gt_flow"] = model.true_flow(batch)[0]
        del ours, theirs, refined
    steps = Steps(lambda dtype: training_step(reference, dtype))
    norms = steps.gradient_norms([[key_of(key)] for key in reference["grad_names"].tolist()])
    return {**{key: value.numpy() for key, value in out.items()}, **steps.arrays, "grad_norms": norms}


def training_step(reference: Arrays, dtype: torch.dtype) -> tuple[VAT, dict[str, Tensor]]:
    """A model that has its gradients, and what it computed for them."""
    model, batch = filled().train().to(dtype), in_precision(batch_of(reference), dtype)
    flow = model(*(image.to(dtype) for image in images(reference)))
    loss = model.loss(flow, batch)
    loss.backward()
    return model, {"flow_train": flow[0], "loss_train": loss}


def watch(module: nn.Module, keep: Callable[[Tensor, Tensor], None]) -> RemovableHandle:
    """Call ``keep`` with the first input and the output of a module, each time it runs."""
    return module.register_forward_hook(lambda _, given, result: keep(given[0], result))


def compare(name: str, reference: Arrays) -> list[Comparison]:
    """Every array of the reference beside ours; an array that we do not have deviates infinitely."""
    ours = our_arrays(reference)
    wanted = {key: array for key, array in reference.items() if key not in INPUTS}
    tolerances = {key: TOLERANCES.get(key, OTHERWISE) for key in wanted}
    return beside(ours, wanted, tolerances, thin)
