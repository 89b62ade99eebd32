"""Visual-AI's loss and read-outs beside the published code, on a made pair of features."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn

from baselines.nearest import Described
from baselines.visual_ai import VisualAI
from sc_imagenet.geometry.correlation import unit
from sc_imagenet.geometry.map_points import Readout, bilinear, read_maps
from sc_imagenet.geometry.point_maps import aligned_cells, gaussian
from tests.parity.filling import feature_pair
from tests.parity.references import Arrays, Comparison, Tolerance, beside
from tests.parity.rounding import TIE, Measured, Steps, best_or_tied

FILES = ("sd4match_visualai_loss_readout",)
INPUTS = ("kps1", "kps2", "loss_valid_points")
SIDE, CELLS = 840, 60

TOLERANCES = {
    "loss": Tolerance(1e-5, "each"),
    "grad_norm_": Tolerance(1e-3, "each"),
    "pred_": Tolerance(1e-2, "no"),
    "gaussian_kernel7": Tolerance(1e-6, "no"),
}


def thin(name: str, array: np.ndarray) -> np.ndarray:
    """All arrays are kept whole."""
    return array


class Given(nn.Module):
    """Features that have gradients."""

    def __init__(self, dtype: torch.dtype) -> None:
        super().__init__()
        pair = feature_pair("visualai|features", 96, CELLS, 20)
        self.source, self.target = (nn.Parameter(maps.to(dtype)) for maps in pair)


def our_arrays(reference: Arrays) -> dict[str, np.ndarray | Measured]:
    """What ours computes, under the names of the reference file."""
    model = VisualAI("vit_small_patch14_dinov2", size=SIDE, pretrained=False)
    points, places = (torch.from_numpy(reference[key])[None] for key in ("kps1", "kps2"))
    valid = torch.arange(points.shape[1])[None] < int(reference["loss_valid_points"])

    def step(dtype: torch.dtype) -> tuple[nn.Module, dict[str, Tensor]]:
        given = Given(dtype)
        batch = {"source_points": points.to(dtype), "target_points": places.to(dtype), "valid": valid}
        loss = model.loss(Described(given.source, given.target), batch)
        loss.backward()
        return given, {"loss": loss}

    steps = Steps(step)
    out: dict[str, np.ndarray | Measured] = {**steps.arrays, "gaussian_kernel7": gaussian(3, 1.5).numpy()}
    for role in ("source", "target"):
        norm = steps.gradient_norms([[role]])
        out[f"grad_norm_{role}_features"] = Measured(norm.values[0], norm.rounding[0])
    source, target = (maps.detach() for maps in (Given(torch.float32).source, Given(torch.float32).target))
    rows = model.similarity(Described(source, target), points.float())[0]
    for temperature in (0.03, 0.04):
        for name, kind, sigma in (("softmax", "softmax", None), ("kernel_softmax", "kernel-softmax", 7.0)):
            readout = Readout(kind, temperature=temperature, sigma=sigma, place="aligned", query="aligned")
            key = f"pred_{name}_T{temperature}" + ("_sigma7" if sigma else "")
            out[key] = read_maps(readout, rows.numpy(), SIDE)
    out["pred_nn"] = in_pixels(tied(rows, reference["pred_nn"]))
    queries = aligned_cells(points, SIDE, CELLS)[0].float()
    out["pred_bilinear"] = in_pixels(tied_bilinear(source, target, queries, reference["pred_bilinear"]))
    return out


def in_pixels(cells: np.ndarray) -> np.ndarray:
    return cells * ((SIDE - 1) / (CELLS - 1))


def tied(rows: Tensor, theirs: np.ndarray) -> np.ndarray:
    """The best cells (K, 2); the features are constant in blocks, so that several are as good."""
    flat = rows.flatten(1)
    cells = np.rint(theirs / ((SIDE - 1) / (CELLS - 1))).astype(np.int64)
    best = best_or_tied(flat, flat.argmax(1), torch.from_numpy(cells[:, 1] * CELLS + cells[:, 0])).numpy()
    return np.stack((best % CELLS, best // CELLS), 1)


def tied_bilinear(source: Tensor, target: Tensor, queries: Tensor, theirs: np.ndarray) -> np.ndarray:
    """The mean (K, 2) of the best cells of each query's four neighbours; of equally good ones those nearest to theirs.

    Where no cells are as good as others it is what ``bilinear`` gives, which is compared, too.
    """
    found = bilinear(source[0].numpy(), unit(target)[0].numpy(), queries.numpy())
    wanted = theirs / ((SIDE - 1) / (CELLS - 1))
    for number, query in enumerate(queries):
        low = query.floor().long()
        means = np.zeros((1, 2))
        for dx, dy in ((0, 0), (1, 0), (0, 1), (1, 1)):
            part = query - low
            weight = float((part[0] if dx else 1 - part[0]) * (part[1] if dy else 1 - part[1]))
            own = unit(source[:, :, low[1] + dy, low[0] + dx])
            scores = (own @ unit(target).flatten(2)[0])[0]
            best = (scores >= (1 - TIE) * scores.max()).nonzero()[:, 0].numpy()
            cells = np.stack((best % CELLS, best // CELLS), 1)
            means = np.unique((means[:, None] + weight * cells).reshape(-1, 2).round(6), axis=0)
        reached = np.abs(means - found[number]).max(1).min()
        assert reached < 1e-3, "what bilinear gives is among the equally good"
        found[number] = means[np.abs(means - wanted[number]).max(1).argmin()]
    return found


def compare(name: str, reference: Arrays) -> list[Comparison]:
    """Every array of the reference beside ours; an array that we do not have deviates infinitely."""
    wanted = {key: array for key, array in reference.items() if key not in (*INPUTS, "report_json")}
    tolerances = {key: next(found for start, found in TOLERANCES.items() if key.startswith(start)) for key in wanted}
    return beside(our_arrays(reference), wanted, tolerances, thin)
