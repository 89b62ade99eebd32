"""TransforMatcher beside its published code, with equal ("tied") and with different backbones."""

from __future__ import annotations

import functools

import numpy as np
import torch
from torch import Tensor

from baselines.transformatcher import FREQUENCIES, REACH, REACH_IN_TRAINING, TransforMatcher, from_published, key_of
from sc_imagenet.geometry.correlation import resize_source, resize_target
from sc_imagenet.geometry.grids import denormalise, normalise
from tests.parity.filling import copied, published_state
from tests.parity.references import Arrays, Comparison, Tolerance, beside, published_shapes
from tests.parity.rounding import Measured, Steps, in_precision

FILES = ("transformatcher",)
INPUTS = ("src", "trg", "src_kps", "trg_kps", "n_pts", "tied_grad_names", "untied_grad_names", "report_json")
SHARPENING = 60  # of the "sharp" arrays: scores minus their mean, times this
BLOCK = 3  # pixels of an image that are of one colour

TOLERANCES = {
    "prd_px": Tolerance(1e-2, "no"),
    "prd_norm": Tolerance(1e-4, "no"),
    "prd_train_norm": Tolerance(1e-4, "no"),
    "sharp_prd_norm": Tolerance(1e-3, "no"),
    "sharp_prd_train_norm": Tolerance(1e-3, "no"),
    "loss": Tolerance(1e-5, "each"),
    "grad_norms": Tolerance(1e-3, "each"),
    # 2e-13 to 2e-10, eleven orders below the other gradients: what is left of sums that cancel, whose rounding is as
    # large for the small ones. Where float64 gives 0.98e-12 the reference has 1.17e-12, torch 2.14 1.09e-12 and torch
    # 2.6 0.61e-12; none is further from float64 than 0.04 of the largest.
    "grad_norms/scores": Tolerance(0.03, "to the largest"),
    "rotary_freqs": Tolerance(0.0, "no"),
    "rotary_cos": Tolerance(1e-6, "no"),
    "rotary_sin": Tolerance(1e-6, "no"),
}
OTHERWISE = Tolerance(1e-4)  # features, volumes, attention and feed-forward outputs


def thin(name: str, array: np.ndarray) -> np.ndarray:
    """The part of an array that the repository keeps; inputs are kept whole (images: one pixel a block)."""
    if name in ("src", "trg"):
        return array[..., ::BLOCK, ::BLOCK]
    kind = name.partition("_")[2]
    if kind.startswith("feat"):
        return array[::8]
    if kind in ("refined", "corr26", "corr_up"):
        return array[:, ::8]
    if kind.startswith(("attn", "ff")):
        return array[::4]
    return array


def images(reference: Arrays) -> tuple[Tensor, Tensor]:
    """The pair (1, 3, 240, 240); extracts hold one pixel of each block, which is of one colour."""
    pair = []
    for name in ("src", "trg"):
        image = reference[name].astype(np.float32)
        pixels = 240 // image.shape[-1]
        pair.append(torch.from_numpy(image.repeat(pixels, -1).repeat(pixels, -2)))
    return pair[0], pair[1]


def batch_of(reference: Arrays) -> dict[str, Tensor]:
    """The reference's keypoints as a batch."""
    source, target = (torch.from_numpy(reference[name].T.copy())[None] for name in ("src_kps", "trg_kps"))
    valid = torch.arange(source.shape[1])[None] < int(reference["n_pts"])
    return {"source_points": source, "target_points": target, "valid": valid}


@functools.cache
def filled_state() -> dict[str, Tensor]:
    """The published state, under our keys."""
    state = published_state(published_shapes(FILES[0]))
    frequencies = torch.pi * torch.tensor(FREQUENCIES)
    return from_published({key: frequencies if key.endswith("freqs") else value for key, value in state.items()})


@copied
def filled(kind: str) -> TransforMatcher:
    """TransforMatcher with the reference's weights; "tied" gives the target's branch the source's."""
    model, state = TransforMatcher(pretrained=False), filled_state()
    if kind == "tied":
        state = {key: state[key.replace("backbone.target.", "backbone.source.")] for key in state}
    model.load_state_dict(state)
    return model.eval()


def our_arrays(kind: str, reference: Arrays) -> dict[str, np.ndarray | Measured]:
    """What our TransforMatcher computes, under the names of the reference file without their beginning."""
    model, batch, (source, target) = filled(kind), batch_of(reference), images(reference)
    head = model.match2match
    out: dict[str, Tensor] = {}

    def keep(name: str, step: int) -> object:
        return lambda module, given, result: out.__setitem__(name, result[0, ::step].detach())

    hooks = [head.embed.register_forward_hook(keep("emb", 101))]
    for number, block in enumerate(head.blocks):
        hooks.append(block.attention.register_forward_hook(keep(f"attn{number}", 211)))
        hooks.append(block.mlp.register_forward_hook(keep(f"ff{number}", 211)))
    with torch.no_grad():
        source_maps, target_maps = model.features(source, target)
        correlation = model.correlate(source_maps, target_maps)
        refined = head(correlation)
        out |= readings(model, refined, batch["source_points"][:, : int(reference["n_pts"])])
    for hook in hooks:
        hook.remove()
    out["feat_L3_0"], out["feat_L4_2"] = source_maps[0][0, ::16], target_maps[-1][0, ::16]
    out["corr26"], out["refined"] = correlation[0].flatten(1)[:, ::101], refined[0]
    steps = Steps(lambda dtype: training_step(kind, reference, dtype))
    parts = split_names(reference[f"{kind}_grad_names"]).items()
    norms = {f"grad_norms/{part}": steps.gradient_norms([key_of(name) for name in names]) for part, names in parts}
    return {**{name: value.numpy() for name, value in out.items()}, **steps.arrays, **norms}


def training_step(kind: str, reference: Arrays, dtype: torch.dtype) -> tuple[TransforMatcher, dict[str, Tensor]]:
    """A model, evaluated, that has its gradients, and its loss."""
    model, batch = filled(kind).to(dtype), in_precision(batch_of(reference), dtype)
    loss = model.loss(model(*(image.to(dtype) for image in images(reference))), batch)
    loss.backward()
    return model, {"loss": loss}


def readings(model: TransforMatcher, refined: Tensor, points: Tensor) -> dict[str, Tensor]:
    """What is read from refined scores at points (1, K, 2)."""
    low, high, unit = (15, 15), (30, 30), normalise(points, model.size)
    raised = resize_target(resize_source(refined, low, high), low, high)
    along = torch.linspace(-1, 1, 30)
    cells = torch.stack((along.repeat(30), along.repeat_interleave(30)), 1)[None]
    arrived = model.where_cells_go(refined, cells)
    sharp = SHARPENING * (refined - raised.mean())
    carried = {
        "prd_norm": model.transfer_normalised(refined, unit, REACH),
        "prd_train_norm": model.transfer_normalised(refined, unit, REACH_IN_TRAINING),
        "sharp_prd_norm": model.transfer_normalised(sharp, unit, REACH),
        "sharp_prd_train_norm": model.transfer_normalised(sharp, unit, REACH_IN_TRAINING),
        "prd_px": model.transfer(refined, points),
    }
    assert torch.allclose(carried["prd_px"], denormalise(carried["prd_norm"], model.size))
    return {
        "corr_up": raised[0, ::7, ::11],
        "corr_mean_f64": raised.double().mean(),
        "prd_x": arrived[..., 0],
        "prd_y": arrived[..., 1],
        **{name: value[0].T for name, value in carried.items()},
    }


def compare(name: str, reference: Arrays) -> list[Comparison]:
    """Every array of the reference beside ours; an array that we do not have deviates infinitely."""
    ours: dict[str, np.ndarray | Measured] = {}
    wanted = {key: array for key, array in reference.items() if key not in INPUTS and not key.endswith("grad_norms")}
    for kind in ("tied", "untied"):
        ours |= {f"{kind}_{key}": value for key, value in our_arrays(kind, reference).items()}
        norms = dict(zip(reference[f"{kind}_grad_names"].tolist(), reference[f"{kind}_grad_norms"].tolist()))
        for part, names in split_names(reference[f"{kind}_grad_names"]).items():
            wanted[f"{kind}_grad_norms/{part}"] = np.array([norms[key] for key in names])
    turns = filled("tied").match2match.turns
    for key, part in (("cos", turns[:2]), ("sin", turns[2:])):
        ours[f"rotary_{key}"] = part.repeat_interleave(2, 0).T[::101].numpy()
    ours["rotary_freqs"] = (torch.pi * torch.tensor(FREQUENCIES)).numpy()
    return beside(ours, wanted, {key: _tolerance(key) for key in wanted}, thin)


def _tolerance(name: str) -> Tolerance:
    kind = name if name.startswith("rotary") else name.partition("_")[2]
    return TOLERANCES.get(kind, TOLERANCES.get(kind.partition("/")[0], OTHERWISE))


def split_names(names: np.ndarray) -> dict[str, list[str]]:
    """Names of the parameters whose gradients are compared: the backbones', the softmaxes', all others."""
    parts: dict[str, list[str]] = {"backbone": [], "scores": [], "head": []}
    for name in names.tolist():
        part = "backbone" if name.startswith("backbone.") else "scores" if "attn_logits" in name else "head"
        parts[part].append(name)
    return parts
