"""GECO beside its published code, on DINOv2 S/14: features with low-rank updates, plan, losses, gradients."""

from __future__ import annotations

import json

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from baselines.geco import (
    GECO,
    WEIGHTS,
    Supervision,
    entry_losses,
    key_of,
    mass,
    object_and_background,
    transport,
)
from tests.parity.filling import copied, fill, published_state
from tests.parity.models.dinov2 import network_of
from tests.parity.references import Arrays, Comparison, Tolerance, beside, published_shapes
from tests.parity.rounding import Measured, Steps

FILES = ("geco_vits14",)
KEYS = ("geco_vits14_lora",)
POINTS = ("src_kps", "trg_kps", "src_kps_symm_only", "trg_kps_symm_only")
INPUTS = ("src_image", "trg_image", *POINTS, "scale_entries_json")
SIDE, GRID, PATCH = 168, 12, 14
NAMES = ("pos", "bin", "neg", "neg_fg_bkg")

TOLERANCES = {
    "loss_neg": Tolerance(1e-3, "each"),
    "loss_": Tolerance(1e-5, "each"),
    "count_": Tolerance(0, "no"),
    "mask_cells": Tolerance(0, "no"),
    "gradient_norms_json": Tolerance(1e-3, "each"),
}
OTHERWISE = Tolerance(1e-4)


def thin(name: str, array: np.ndarray) -> np.ndarray:
    """All arrays are kept whole."""
    return array


@copied
def filled() -> GECO:
    """GECO with the reference's weights: the network's own by DINOv2's keys behind ``model.``."""
    model = GECO("vit_small_patch14_dinov2", size=SIDE, pretrained=False)
    shapes = published_shapes("dinov2_vits14")["vits14"]
    listed = published_shapes("geco_vits14_lora")["module"]
    renamed = {key: key.replace(".attn.qkv.", ".attn.qkv.qkv.") for key in shapes}
    state = {key: torch.from_numpy(fill(f"model.{renamed[key]}", tuple(shape))) for key, shape in shapes.items()}
    net = network_of(state, "vit_small_patch14_dinov2", (GRID, GRID))
    ours = {f"backbone.net.{key}": value for key, value in net.state_dict().items()}
    ours = {key.replace(".attn.qkv.", ".attn.qkv.qkv."): value for key, value in ours.items()}
    factors = published_state({key: shape for key, shape in listed.items() if ".linear_" in key})
    model.load_state_dict({**ours, **{key_of(key): value for key, value in factors.items()}})
    return model.eval()


def masks_of() -> list[Tensor]:
    """The objects' cells (144,) of both images: ellipses."""
    rows, columns = np.mgrid[:SIDE, :SIDE]
    found = []
    for row, column in ((80, 90), (90, 75)):
        inside = ((rows - row) / 60) ** 2 + ((columns - column) / 50) ** 2 <= 1
        whole = torch.from_numpy(inside).float()[None, None]
        found.append(F.interpolate(whole, (GRID, GRID))[0, 0].bool().flatten())
    return found


def supervision(reference: Arrays, masks: list[Tensor]) -> Supervision:
    """The entries that the reference's points give; points are (row, column, visible)."""
    cells, seen = {}, {}
    for name in POINTS:
        points = reference[name]
        index = np.floor(points[:, :2] / PATCH).astype(np.int64)
        cells[name], seen[name] = index[:, 0] * GRID + index[:, 1], points[:, 2] > 0
    both = seen["src_kps"] & seen["trg_kps"]
    end = GRID * GRID
    pairs = np.stack((cells["src_kps"][both], cells["trg_kps"][both]), 1)
    alone = [seen["src_kps"] & ~seen["trg_kps"], ~seen["src_kps"] & seen["trg_kps"]]
    of_bin = [(cell, end) for cell in cells["src_kps"][alone[0]]] + [(end, cell) for cell in cells["trg_kps"][alone[1]]]
    partners = set()
    for one, two in (("src_kps", "trg_kps_symm_only"), ("src_kps_symm_only", "trg_kps")):
        where = seen[one] & seen[two]
        partners |= set(zip(cells[one][where].tolist(), cells[two][where].tolist()))
    listed = (pairs, np.array(of_bin), np.array(sorted(partners)))
    return Supervision(*(torch.from_numpy(np.asarray(each)) for each in listed), object_and_background(*masks))


def our_arrays(reference: Arrays) -> dict[str, np.ndarray | Measured]:
    """What our GECO computes, under the names of the reference file."""
    masks = masks_of()
    wanted = supervision(reference, masks)
    shares = [float(((reference[f"{role}_kps"][:, 2] > 0).sum() + 1) / 7) for role in ("src", "trg")]
    images = torch.cat([torch.from_numpy(reference[f"{role}_image"].astype(np.float32)) for role in ("src", "trg")])

    def step(dtype: torch.dtype) -> tuple[GECO, dict[str, Tensor]]:
        model = filled().to(dtype)
        features = model.encode(images.to(dtype))[0]
        plan = transport(features[0], features[1], *(mass(mask, share) for mask, share in zip(masks, shares)))
        means = [entries.mean() for entries in entry_losses(plan, wanted)]
        total = sum(weight * mean for weight, mean in zip(WEIGHTS, means))
        total.backward()
        losses = {f"loss_{name}": mean for name, mean in zip(NAMES, means)}
        return model, {**losses, "loss_total": total, "plan": plan, "features_every16ch": features[:, ::16]}

    steps = Steps(step)
    names = json.loads(str(reference["gradient_norms_json"]))
    counts = {f"count_{name}": np.array(len(each)) for name, each in zip(NAMES, wanted)}
    return {
        **steps.arrays,
        **counts,
        "mask_cells": torch.stack(masks).view(2, GRID, GRID).numpy(),
        "gradient_norms_json": steps.gradient_norms([[key_of(key)] for key in names]),
    }


def compare(name: str, reference: Arrays) -> list[Comparison]:
    """Every array of the reference beside ours; an array that we do not have deviates infinitely."""
    wanted = {key: array for key, array in reference.items() if key not in (*INPUTS, "report_json")}
    wanted["gradient_norms_json"] = np.array(list(json.loads(str(wanted["gradient_norms_json"])).values()))
    tolerances = {
        key: next((found for start, found in TOLERANCES.items() if key.startswith(start)), OTHERWISE) for key in wanted
    }
    return beside(our_arrays(reference), wanted, tolerances, thin)
