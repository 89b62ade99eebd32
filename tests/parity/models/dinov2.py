"""DINOv2's small models beside their published code: with and without registers, square and wide images."""

from __future__ import annotations

import numpy as np
import timm
import torch
from torch import Tensor, nn

from sc_imagenet.backbones.dinov2 import fit_to_grid
from tests.parity.filling import fill, published_state
from tests.parity.references import Arrays, Comparison, Tolerance, beside, published_shapes

NETWORKS = {"vits14": "vit_small_patch14_dinov2", "vits14_reg": "vit_small_patch14_reg4_dinov2"}
FILES = ("dinov2_vits14_both",)
KEYS = ("dinov2_vits14",)
INPUTS = ("image",)
PATCH, NATIVE, LAST = 14, 37, 11
FRAMES = {"square168": (168, 168), "wide168x112": (112, 168)}  # rows, columns
READ = (5, 9)  # blocks


def thin(name: str, array: np.ndarray) -> np.ndarray:
    """All arrays are kept whole."""
    return array


def filled(key: str, grid: tuple[int, int]) -> nn.Module:
    """A network of timm with the reference's weights, loaded by published key, for images of ``grid`` cells."""
    state = published_state(published_shapes("dinov2_vits14")[key])
    return network_of(state, NETWORKS[key], grid)


def network_of(state: dict[str, Tensor], name: str, grid: tuple[int, int]) -> nn.Module:
    """A network of timm with a published state dict, for images of ``grid`` cells."""
    size = (grid[0] * PATCH, grid[1] * PATCH)
    options = {"pretrained": True, "num_classes": 0, "pretrained_cfg_overlay": {"state_dict": state}}
    if "_reg4_" in name:
        return timm.create_model(name, img_size=size, **options).eval()
    net = timm.create_model(name, img_size=NATIVE * PATCH, **options).eval()
    fit_to_grid(net, grid)
    return net


def our_arrays(reference: Arrays) -> dict[str, np.ndarray]:
    """What timm's networks with our positions compute, under the names of the reference file."""
    out: dict[str, Tensor] = {}
    image = torch.from_numpy(reference["image"].astype(np.float32))
    for key in NETWORKS:
        for frame, (rows, columns) in FRAMES.items():
            net, seen = filled(key, (rows // PATCH, columns // PATCH)), image[:, :, :rows, :columns]
            read = net.forward_intermediates(
                seen, indices=[*READ, LAST], return_prefix_tokens=True, output_fmt="NLC", intermediates_only=True
            )
            tokens = {block: torch.cat((prefix, cells), 1)[0] for block, (cells, prefix) in zip((*READ, LAST), read)}
            out[f"{key}_{frame}_prenorm_block11_every24ch"] = tokens[LAST][:, ::24]
            out[f"{key}_{frame}_norm_patch_every24ch"] = net.norm(read[-1][0])[0, :, ::24]
            for block in READ:
                cells = tokens[block][net.num_prefix_tokens :, ::48]
                out[f"{key}_{frame}_block{block}_every48ch"] = cells.T.unflatten(1, (rows // PATCH, -1))
        positions = filled(key, (60, 60)).pos_embed[0]
        if net.reg_token is not None:  # timm adds the class token's position to the class token
            of_class = fill("pos_embed", (1, 1 + NATIVE * NATIVE, positions.shape[1]))[0, :1]
            positions = torch.cat((torch.from_numpy(of_class), positions))
        out[f"{key}_pos_embed_60x60_every97th_every24ch"] = positions[::97, ::24]
    return {name: value.detach().numpy() for name, value in out.items()}


def compare(name: str, reference: Arrays) -> list[Comparison]:
    """Every array of the reference beside ours; an array that we do not have deviates infinitely."""
    wanted = {key: array for key, array in reference.items() if key not in (*INPUTS, "report_json")}
    return beside(our_arrays(reference), wanted, dict.fromkeys(wanted, Tolerance(1e-4)), thin)
