"""MARCO beside its published code, on DINOv2 S/14 with registers: features, losses, teacher, mining."""

from __future__ import annotations

import json

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from baselines.marco import MARCO, Fine, Mined, key_of, momentum_at, sigma_at
from baselines.marco_mining import (
    cell_flow,
    flow_colours,
    image_flow,
    image_mask,
    kept_clusters,
    matches,
)
from sc_imagenet.geometry.map_points import Readout, read_maps
from sc_imagenet.geometry.point_maps import (
    aligned_cells,
    displaced_cells,
    gaussian,
    gaussian_cross_entropy,
    read_cells,
)
from tests.parity.filling import copied, draws_of, fill, published_state
from tests.parity.models.dinov2 import network_of
from tests.parity.references import Arrays, Comparison, Tolerance, beside, published_shapes
from tests.parity.rounding import Measured, Steps

FILES = ("marco_vits14reg",)
KEYS = ("marco_reference_vits14", "marco_vitl14")
INPUTS = (
    *("src_image", "trg_image", "src_kps", "trg_kps", "visible", "mined_src", "mined_trg", "sigma_steps"),
    *("ema_steps_total25000", "mine_features_low", "mine_keypoints_cells"),
    *("mine_kmeans_clusters", "mine_given_tile"),  # what a library's clusters come to, and the width of the given ones
)
SIDE, GRID, ADAPTED = 168, 12, 6
EPOCHS_SHARE = 0.9  # of the steps, after which the teacher's momentum stays

TOLERANCES = {
    "descriptors": Tolerance(1e-4),
    "similarity_kp0to3": Tolerance(5e-3, "no"),
    "predicted": Tolerance(1e-2, "no"),
    "forward_prediction": Tolerance(1e-2, "no"),
    "loss": Tolerance(1e-5, "each"),
    "gradient_norms_json": Tolerance(1e-3, "each"),
    "mine_flow": Tolerance(1e-4, "no"),
    # A flow that ends half-way between two pixels may be rounded either way, a colour too.
    "mine_hsv_every6": Tolerance(1, "no"),
    "mine_matches_every20": Tolerance(1, "no"),
    "mine_matches_sum": Tolerance(1e-5, "each"),
    "mine_": Tolerance(0, "no"),
    "soft_max_prob_T10": Tolerance(1e-4),
    "sigma_values": Tolerance(1e-6, "no"),
    "ema_values": Tolerance(1e-9, "no"),
}
OTHERWISE = Tolerance(1e-4)


def tolerance_of(key: str) -> Tolerance:
    return next((found for start, found in TOLERANCES.items() if key.startswith(start)), OTHERWISE)


def thin(name: str, array: np.ndarray) -> np.ndarray:
    """All arrays are kept whole."""
    return array


@copied
def filled() -> MARCO:
    """MARCO with the reference's weights, loaded by published key."""
    model = MARCO("vit_small_patch14_reg4_dinov2", size=SIDE, adapted=ADAPTED, pretrained=False)
    state = published_state(published_shapes("marco_reference_vits14")["reference_vits14_with_backbone"])
    trained = {key_of(key): value for key, value in state.items() if ".adapter." in key or key.startswith("upscale.")}
    net = network_of(
        {
            key.removeprefix("dino.").replace(".block.", "."): value
            for key, value in state.items()
            if key.startswith("dino.") and ".adapter." not in key
        },
        "vit_small_patch14_reg4_dinov2",
        (GRID, GRID),
    )
    ours = {}
    for key, value in net.state_dict().items():
        number = key.split(".")[1] if key.startswith("blocks.") else ""
        inside = key.replace(f"blocks.{number}.", f"blocks.{number}.block.") if number in model.adapters else key
        ours[f"backbone.net.{inside}"] = value
    missing, unknown = model.load_state_dict({**trained, **ours}, strict=False)
    assert not unknown
    assert all(key.startswith("teacher.") for key in missing)
    return model.eval()


def given(reference: Arrays, name: str) -> Tensor:
    return torch.from_numpy(reference[name].astype(np.float32))


def stats(values: Tensor) -> Tensor:
    return torch.stack((values.mean(), values.std(unbiased=False), values.abs().max()))


def our_arrays(reference: Arrays) -> dict[str, np.ndarray | Measured]:
    """What our MARCO computes, under the names of the reference file."""
    model, out = filled(), {}
    images = torch.cat([given(reference, f"{role}_image") for role in ("src", "trg")])
    seen: dict[str, Tensor] = {}

    def keep(name: str):
        return lambda module, inputs, output: seen.update({name: output})

    for number, block in enumerate(model.backbone.net.blocks):
        if number == 0 or number >= 5:
            block.register_forward_hook(keep(f"block{number}"))
    for number, adapter in model.adapters.items():
        adapter.register_forward_hook(keep(f"adapter{number}"))
    for number, part in enumerate(model.upscale):
        part.register_forward_hook(keep(f"up{number}"))
    with torch.no_grad():
        features = model.encode(images)[0]
        fine = model.upscale(features)
        output = Fine(fine[:1], fine[1:])
        source = given(reference, "src_kps")[None]
        cells = displaced_cells(source, SIDE, fine.shape[-1])
        rows = model.similarity(output, source)
        out["descriptors"] = read_cells(output.source, cells)[0, :, ::4]
        out["similarity_kp0to3"], out["similarity_stats"] = rows[0, :4], stats(rows)
        out["soft_max_prob_T10"] = (rows[0].flatten(1) / 10).softmax(1).amax(1)
        out["forward_prediction"] = out["predicted_T10_sigma7"] = model.transfer(output, source)[0]
        readout = Readout("kernel-softmax", temperature=40.0, sigma=7.0, place="aligned", query="displaced")
        out["predicted_T40_sigma7"] = torch.from_numpy(read_maps(readout, rows[0].numpy(), SIDE))
    for name, values in seen.items():
        cut = values[..., ::3, ::3][:, ::24] if name.startswith("up") else values[:, ::7, ::24]
        out[f"{name}_every{'3cell' if name.startswith('up') else '7tok'}_every24ch"] = cut
        out[f"{name}_stats"] = stats(values)
    out["dino_features_every24ch"] = features[:, ::24]
    positions = model.backbone.net.pos_embed[0]
    of_class = torch.from_numpy(fill("dino.pos_embed", (1, 1370, positions.shape[1]))[0, :1])
    out["pos_embed_12x12_every16ch"] = torch.cat((of_class, positions))[:, ::16]
    out["gaussian_kernel15_sigma3.5"] = gaussian(7, 3.5)
    out["sigma_values"] = torch.tensor([sigma_at(int(step), 1000, 12000) for step in reference["sigma_steps"]])
    momenta = [momentum_at(int(step), int(EPOCHS_SHARE * 25000)) for step in reference["ema_steps_total25000"]]
    out["ema_values"] = torch.tensor(momenta, dtype=torch.float64)
    arrays: dict[str, np.ndarray | Measured] = {key: value.detach().numpy() for key, value in out.items()}
    return {**arrays, **mined_arrays(reference), **trained_arrays(reference)}


LOSSES = {
    f"gaussian_ce_T{temperature}_sigma{sigma}": (temperature, sigma) for temperature in (10, 40) for sigma in (3.5, 1.0)
} | {"dense_T10": (10, None), "dense_T40": (40, None)}


def loss_of(model: MARCO, reference: Arrays, name: str, dtype: torch.dtype) -> Tensor:
    """A loss of the reference, summed over its points."""
    temperature, sigma = LOSSES[name]
    images = torch.cat([given(reference, f"{role}_image") for role in ("src", "trg")]).to(dtype)
    fine = model.upscale(model.encode(images)[0])
    output = Fine(fine[:1], fine[1:])
    if sigma is None:
        mined = Mined(reference["mined_src"].astype(np.int64), reference["mined_trg"].astype(np.int64))
        return model.dense_loss(output, [mined], temperature) * len(mined.source)
    rows = model.similarity(output, given(reference, "src_kps")[None].to(dtype))
    cells = aligned_cells(given(reference, "trg_kps")[None].to(dtype), SIDE, rows.shape[-1])
    each = gaussian_cross_entropy(rows, cells, sigma, temperature, 7, 1e-6)[0]
    return each[torch.from_numpy(reference["visible"])].sum()


def trained_arrays(reference: Arrays) -> dict[str, np.ndarray | Measured]:
    """Losses and gradient norms, in float64 with what rounding does to them."""
    out: dict[str, np.ndarray | Measured] = {}
    listed = json.loads(str(reference["gradient_norms_json"]))
    for name in LOSSES:

        def step(dtype: torch.dtype, name: str = name) -> tuple[MARCO, dict[str, Tensor]]:
            model = filled().to(dtype)
            loss = loss_of(model, reference, name, dtype)
            (loss / len(reference["mined_src" if name.startswith("dense") else "visible"])).backward()
            return model, {"loss": loss}

        steps = Steps(step)
        arrays = name.replace("_T", "_sum_T", 1)
        out[f"loss_{arrays}"] = steps.arrays["loss"]
        out[f"gradient_norms_json/{name}"] = steps.gradient_norms([[key_of(key)] for key in listed[name]])
    return out


def mined_arrays(reference: Arrays) -> dict[str, np.ndarray]:
    """Every step of the mining on a made pair of features; the clusters are tiles of 28 pixels, as given."""
    generator, cells = draws_of("marco|flowfeat"), 48
    generator.standard_normal((24, 12, 12))
    noise = torch.from_numpy(0.05 * generator.standard_normal((24, cells, cells))).float()
    low = given(reference, "mine_features_low")
    fine = F.interpolate(low, (64, 64), mode="bicubic", align_corners=True)[0]
    rows, columns = np.mgrid[:cells, :cells]
    masks = [((rows - row) / 18) ** 2 + ((columns - column) / 16) ** 2 <= 1 for row, column in ((24, 26), (27, 22))]
    points = reference["mine_keypoints_cells"].astype(np.float64)
    flow = cell_flow(fine[:, 8:56, 8:56], fine[:, 5:53, 12:60] + noise, masks, points)
    in_pixels = image_flow(flow, np.ones_like(masks[0]), SIDE)
    masked = image_flow(flow, masks[0], SIDE)
    colours = flow_colours(masked)
    tiles = np.arange(SIDE) // int(reference["mine_given_tile"])
    labels = np.where(colours.any(-1), tiles[:, None] * (SIDE // int(reference["mine_given_tile"])) + tiles, -1)
    kept = kept_clusters(masked, labels, points * (SIDE / cells))
    found = matches(masked, labels, kept, image_mask(masks[1], SIDE))
    pair = np.stack((found.source, found.target))
    return {
        "mine_flow_cells": flow,
        "mine_flow_image_every6": in_pixels[::6, ::6],
        "mine_hsv_every6": colours[::6, ::6],
        "mine_valid_count": np.array(colours.any(-1).sum()),
        "mine_kept_tiles": np.array(kept),
        "mine_matches_count": np.array(len(found.source)),
        "mine_matches_every20": pair[:, ::20],
        "mine_matches_sum": pair.sum(1),
    }


def compare(name: str, reference: Arrays) -> list[Comparison]:
    """Every array of the reference beside ours; an array that we do not have deviates infinitely."""
    wanted = {key: array for key, array in reference.items() if key not in (*INPUTS, "report_json")}
    listed = json.loads(str(wanted.pop("gradient_norms_json")))
    for loss in LOSSES:
        wanted[f"gradient_norms_json/{loss}"] = np.array(list(listed[loss].values()))
    return beside(our_arrays(reference), wanted, {key: tolerance_of(key) for key in wanted}, thin)
