"""GeoAware-SC's network beside its published code and DIY-SC's: four branches, DINOv2 alone, losses, read-outs."""

from __future__ import annotations

import json
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from baselines.geoaware import AggregationNetwork, Descriptors, GeoAware, weighed
from sc_imagenet.geometry.map_points import Readout, read_maps
from sc_imagenet.geometry.point_maps import expected_place, similarities
from tests.parity.filling import copied, feature_map, feature_pair, fill, published_state
from tests.parity.references import Arrays, Comparison, Tolerance, beside, published_shapes
from tests.parity.rounding import Measured, Steps

FILES = ("geoaware_aggregation", "diysc_dino_adapter")
KEYS = ("geoaware_diysc_aggregation",)
INPUTS = (
    *("kps1", "kps2", "noise", "threshold_cells"),
    # Of the authors' own file of weights, which is not here.
    *("real_checkpoint_output_every4ch", "real_checkpoint_sha256", "real_checkpoint_scalars"),
)
BRANCHES = (640, 1280, 1280, 768)
# The points' left-right partners in the reference: its file does not hold them; of all permutations of ten points that
# are their own inverse these alone give its loss.
PARTNERS = (0, 2, 1, 3, 5, 4, 7, 6, 8, 9)
GRIDS = ("x_normal", "y_normal")
SIDE, CELLS = 840, 60

TOLERANCES = {
    "desc": Tolerance(1e-4),
    "similarity_row_kp0": Tolerance(1e-5, "no"),
    "pred_": Tolerance(1e-2, "no"),
    "patch_index1": Tolerance(0, "no"),
    "loss_": Tolerance(1e-5, "each"),
    "gradient_norms_json": Tolerance(1e-3, "each"),
}
OTHERWISE = Tolerance(1e-4)


def tolerance_of(key: str) -> Tolerance:
    return next((found for start, found in TOLERANCES.items() if key.startswith(start)), OTHERWISE)


def thin(name: str, array: np.ndarray) -> np.ndarray:
    """All arrays are kept whole."""
    return array


def network(key: str, channels: tuple[int, ...]) -> AggregationNetwork:
    """A network with the reference's weights, loaded by published key, strictly."""
    built = AggregationNetwork(channels, 768).eval()
    built.load_state_dict(published_state(published_shapes("geoaware_diysc_aggregation")[key]))
    return built


@copied
def filled() -> GeoAware:
    """The model on DINOv2 alone, evaluated; its backbone is a small one that nobody reads."""
    model = GeoAware("vit_small_patch14_dinov2", branches=(768,), size=SIDE, pretrained=False)
    model.network = network("dino_only_768", (768,))
    for name in GRIDS:
        getattr(model, name).data = torch.from_numpy(fill(f"corr_map_net.{name}", (CELLS,)))
    return model.eval()


def our_arrays(name: str, reference: Arrays) -> dict[str, np.ndarray | Measured]:
    """What our network computes, under the names of the reference files."""
    model, out = filled(), {}
    points = torch.from_numpy(reference["kps1"][None, :, :2])
    with torch.no_grad():
        output = model.match(*([maps] for maps in feature_pair("geoaware|dino", 768, CELLS, 20)))
        for key, maps in (("desc1", output.source), ("desc2", output.target)):
            out[f"{key}_every60cell_every8ch"] = maps[0].flatten(1).T[::60, ::8]
        columns, rows = model.cells(points)[0].long().unbind(-1)
        out["patch_index1"] = rows * CELLS + columns
        rows = model.similarity(output.source, output.target, points)
        out["similarity_row_kp0"] = rows[0, 0]
        every = output.source.flatten(2)[:, :, ::CELLS].transpose(1, 2)
        expected = expected_place(similarities(every, output.target), 0.02, *(getattr(model, name) for name in GRIDS))
        starts = torch.stack((torch.zeros(CELLS), torch.arange(CELLS)), -1)
        out["flow_field_every60"] = ((expected + 1) * ((CELLS - 1) / 2))[0] - starts
    maps = rows[0].numpy()
    found = {
        f"pred_soft_window{window}": Readout("window-soft-argmax", window=window, temperature=0.02, **CENTRES)
        for window in (7, 5, 0)
    }
    found["pred_soft_window-5"] = Readout("gauss-soft-argmax", sigma=5.0, temperature=0.02, **CENTRES)
    found["pred_argmax"] = Readout("nearest", **CENTRES)
    predicted = {key: read_maps(readout, maps, SIDE) for key, readout in found.items()}
    arrays = {key: value.numpy() for key, value in out.items()}
    four = four_branches(reference) if name == "geoaware_aggregation" else {}
    return {**arrays, **predicted, **four, **trained_arrays(reference)}


CENTRES = {"place": "centre", "query": "cell"}


def four_branches(reference: Arrays) -> dict[str, np.ndarray | Measured]:
    """Outputs of the network on Stable Diffusion and DINOv2, before the L2 norm, and gradients of its mean square."""

    def step(dtype: torch.dtype) -> tuple[AggregationNetwork, dict[str, Tensor]]:
        four = network("sd_dino_768", BRANCHES).to(dtype)
        maps = feature_map("geoaware|four", sum(BRANCHES), 12, 6).to(dtype).split(BRANCHES, 1)
        each = [branch(features) for branch, features in zip(four.bottleneck_layers, maps)]
        mixed = four.mixed(maps, 12)
        square = mixed.square().mean()
        square.backward()
        branches = {f"four_branch{number}_every64ch": found[0, ::64] for number, found in enumerate(each)}
        return four, {**branches, "four_output_every8ch": mixed[0, ::8], "four_mean_square": square}

    steps = Steps(step)
    names = json.loads(str(reference["gradient_norms_json"]))["four_mean_square"]
    return {**steps.arrays, "gradient_norms_json/four_mean_square": steps.gradient_norms([[key] for key in names])}


def trained_arrays(reference: Arrays) -> dict[str, np.ndarray | Measured]:
    """Losses and gradient norms, in float64 with what rounding does to them."""
    out: dict[str, np.ndarray | Measured] = {}
    listed = json.loads(str(reference["gradient_norms_json"]))
    points, places = (torch.from_numpy(reference[key][None, :, :2]) for key in ("kps1", "kps2"))
    valid = torch.from_numpy((reference["kps1"][:, 2] > 0) & (reference["kps2"][:, 2] > 0))[None]
    partners = torch.tensor(PARTNERS)
    seen = torch.from_numpy(reference["kps1"][:, 2] > 0)
    own = (seen & seen[partners])[None]
    draws = {
        "pair": noise_of(reference, range(10), valid, 1),
        "mirrored": noise_of(reference, PARTNERS, valid, 1),
        "own": noise_of(reference, range(10), own, 0),
    }
    for name in ("sparse_plus_dense", "sparse_plus_dense_no_noise", "sparse_only", "pair_augment"):
        if name not in listed:  # DIY-SC's has no mirror images
            continue

        def step(dtype: torch.dtype, name: str = name) -> tuple[GeoAware, dict[str, Tensor]]:
            model = filled().to(dtype)
            pair = [maps.to(dtype) for maps in feature_pair("geoaware|dino", 768, CELLS, 20)]
            output = model.match(*([maps] for maps in pair))
            batch = {"source_points": points.to(dtype), "target_points": places.to(dtype), "valid": valid}
            loss = model.contrastive(output, batch["source_points"], batch["target_points"], valid)
            if name != "sparse_only":
                noise = draws["pair"].to(dtype) * (0 if name.endswith("no_noise") else 1)
                both = output.source, output.target, batch["source_points"], batch["target_points"]
                loss = loss + model.dense(*both, valid, noise)
            if name == "pair_augment":
                output = Descriptors(*output[:2], *model.match(*([maps.flip(-1)] for maps in pair))[:2])
                mirrored = model.mirrored_pair(output, batch, draws["mirrored"].to(dtype))
                batch = {**batch, "valid": own, "partners": partners[None]}
                source = model.mirrored_source(output, batch, draws["own"].to(dtype))
                loss = weighed(loss, mirrored, source)
            loss.backward()
            return model, {"loss": loss}

        steps = Steps(step)
        out[f"loss_{name}"] = steps.arrays["loss"]
        out[f"gradient_norms_json/{name}"] = steps.gradient_norms([[_ours(key)] for key in compared(listed[name])])
    return out


def noise_of(reference: Arrays, order: Sequence[int], valid: Tensor, side: int) -> Tensor:
    """Noise (1, K, 2) in cells: the draws go to the valid points in an order, scaled by half a tenth of a threshold."""
    drawn = torch.zeros(1, len(order), 2, dtype=torch.float64)
    places = [place for place in order if valid[0, place]]
    drawn[0, places] = torch.from_numpy(reference["noise"][: len(places)])
    return drawn * 0.05 * float(reference["threshold_cells"][side])


def compared(norms: dict[str, float]) -> list[str]:
    """Names of the gradients that are compared: one branch's weight in a sum over one has none but rounding."""
    return [key for key, norm in norms.items() if not (key == "mixing_weights" and norm == 0)]


def _ours(key: str) -> str:
    return key.removeprefix("corr_map_net.") if key.startswith("corr_map_net.") else f"network.{key}"


def compare(name: str, reference: Arrays) -> list[Comparison]:
    """Every array of the reference beside ours; an array that we do not have deviates infinitely."""
    wanted = {key: array for key, array in reference.items() if key not in (*INPUTS, "report_json")}
    listed = json.loads(str(wanted.pop("gradient_norms_json")))
    for loss, norms in listed.items():
        wanted[f"gradient_norms_json/{loss}"] = np.array([norms[key] for key in compared(norms)])
    return beside(our_arrays(name, reference), wanted, {key: tolerance_of(key) for key in wanted}, thin)
