"""HPF and regularised Hough matching beside their published code."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from baselines.hpf import HPF, PF_PASCAL_LAYERS, SPAIR_LAYERS, Hyperpixels, confidence, votes
from sc_imagenet.geometry.correlation import resize_target
from sc_imagenet.geometry.hough import bin_side_of, box_bins, box_scores, centres_of, gaussian, half_maximum_sigma
from sc_imagenet.geometry.resize import Frame
from tests.parity.filling import fill
from tests.parity.references import Arrays, Comparison, Tolerance, beside
from tests.parity.rounding import best_or_tied

LAYERS = {"hpf_rhm_spair": SPAIR_LAYERS["resnet101"], "hpf_rhm_pfpascal": PF_PASCAL_LAYERS["resnet101"]}
FILES = tuple(LAYERS)
INPUTS = (
    *(f"{grid}_{name}" for grid in ("g8", "g16") for name in ("src_feat", "trg_feat", "box")),
    *("src", "trg", "kps", "report_json"),
)
TOLERANCES = {"prd_kps": Tolerance(1e-2, "no"), "conf_argmax": Tolerance(0, "no")}
OTHERWISE = Tolerance(1e-4)
STRIDE = 16  # of the small grids


def thin(name: str, array: np.ndarray) -> np.ndarray:
    """The part of an array that the repository keeps; images: one pixel a block of one colour."""
    if name in ("src", "trg"):
        return array[..., ::2, ::2]
    if name == "conf":
        return array[::3, ::3]
    if name.endswith("_hyper"):
        return array[::2, ::2]
    if name.startswith("g16_") and array.shape == (256, 256):
        return array[::4, ::4]
    return array


def filled(name: str) -> HPF:
    """HPF with the reference's backbone."""
    model = HPF(layers=LAYERS[name], pretrained=False)
    state = model.state_dict()
    for key, value in state.items():
        if not key.endswith("num_batches_tracked"):
            filled = fill(key.replace("backbone.net.", "backbone."), tuple(value.shape))
            state[key] = torch.from_numpy(filled)
    model.load_state_dict(state)
    return model.eval()


def images(reference: Arrays) -> list[Tensor]:
    """The pair, 300 x 240 and 270 x 300 pixels, each in a frame (3, 300, 300)."""
    pair = []
    for name in ("src", "trg"):
        image = reference[name].astype(np.float32)
        blocks = 300 // max(image.shape)
        pair.append(Frame(300).place(torch.from_numpy(image.repeat(blocks, -1).repeat(blocks, -2))))
    return pair


@torch.no_grad()
def our_arrays(name: str, reference: Arrays) -> dict[str, np.ndarray]:
    """What our HPF computes, under the names of the reference file."""
    line = gaussian(7, half_maximum_sigma(7)).float()
    out = {**small_grid("g8", 8, reference), **small_grid("g16", 16, reference), "hsfilter": torch.outer(line, line)}
    model, pair = filled(name), images(reference)
    seen = [model.see(image) for image in pair]
    for role, image in zip(("src", "trg"), seen):
        centres = model.centres(image)
        out[f"{role}_box"] = torch.cat((centres - model.reach, centres + model.reach), 1)[::29]
        stacked = torch.cat(
            [resize_target(maps.flatten(1)[None], maps.shape[1:], image.grid)[0] for maps in image.maps]
        )
        out[f"{role}_hyper"] = image.keep(stacked).T[::61, ::37]
    scores = torch.cat(list(confidence(*seen, model.stride)))
    output = model(pair[0][None], pair[1][None])
    out["conf"] = scores[::13, ::17]
    theirs = torch.from_numpy(reference["conf_argmax"].astype(np.int64))
    out["conf_argmax"] = best_or_tied(scores, output[0].best, theirs)
    out["prd_kps"] = model.transfer(output, torch.from_numpy(reference["kps"].T.copy())[None])[0].T
    return {key: value.numpy() for key, value in out.items()}


def small_grid(name: str, side: int, reference: Arrays) -> dict[str, Tensor]:
    """Votes and confidences of a grid of cells, bins and confidences of the same cells as boxes anywhere."""
    frame = (STRIDE * side, STRIDE * side)
    everywhere = range(side)
    seen = [
        Hyperpixels(
            [torch.from_numpy(reference[f"{name}_{role}_feat"].T).unflatten(1, (side, side))],
            frame,
            (side, side),
            everywhere,
            everywhere,
        )
        for role in ("src", "trg")
    ]
    centres = centres_of(torch.from_numpy(reference[f"{name}_box"]))
    cubes = votes(*seen)
    return {
        f"{name}_votes": cubes,
        f"{name}_conf": torch.cat(list(confidence(*seen, STRIDE))),
        f"{name}_bins": box_bins(centres, centres, frame, frame, bin_side_of(frame, frame))[0],
        f"{name}_conf/boxes": cubes * box_scores(cubes[None], centres, centres, frame, frame)[0],
    }


def compare(name: str, reference: Arrays) -> list[Comparison]:
    """Every array of the reference beside ours; an array that we do not have deviates infinitely."""
    ours = our_arrays(name, reference)
    wanted = {key: array for key, array in reference.items() if key not in INPUTS}
    wanted |= {f"{grid}_conf/boxes": wanted[f"{grid}_conf"] for grid in ("g8", "g16")}
    return beside(ours, wanted, {key: TOLERANCES.get(key, OTHERWISE) for key in wanted}, thin)
