"""CNNGeo beside its published code: both backbones at 240 pixels, synthetic pairs, training steps of both networks."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor

from baselines.cnngeo import CNNGeo
from baselines.geometric import from_published, products
from sc_imagenet.data.synthetic import narrow_affine, shown, spline_of, stretch
from sc_imagenet.geometry import transformations
from sc_imagenet.geometry.transformations import lattice, squared_distance, transform, warp_source
from tests.parity.filling import copied, geometric_state
from tests.parity.references import Arrays, Comparison, Tolerance, beside, published_shapes
from tests.parity.rounding import Measured, Steps

FILES = ("cnngeo",)
KEYS = ("cnngeo_resnet101", "cnngeo_vgg16")
INPUTS = (
    *("src", "trg", "trg_points", "src_points", "trg_size_hwc", "src_size_hwc", "synth_low", "raw_image_low"),
    *("draws_affine", "draws_tps", "L_pf", "grad_names", "report_json"),
)
NETWORKS = {"aff": "affine", "tps": "spline"}
BACKBONES = {"r": ("cnngeo_resnet101", 32), "v": ("cnngeo_vgg16", 16)}  # and every how many-th channel is kept
NOISE = 1e-4  # norm of a gradient that would be zero without rounding: of a bias before batch normalisation
EVERY = 17  # points of a grid
OF_ONE_COLOUR = 3  # pixels of the images
BLOCK = 8  # and of the 480 x 640 image of synthetic pairs

FEATURES, IMAGE, STEP = Tolerance(1e-4), Tolerance(3e-3, "no"), Tolerance(1e-2, "each")
# By the end of the name or what it holds; the first that fits.
TOLERANCES = {
    "in_train_mode_theta": Tolerance(3e-2, "no"),
    "in_train_mode_loss": Tolerance(3e-2, "each"),
    "in_train_mode_grad_norms": Tolerance(5e-2, "each"),
    "backbone_bn1_running_mean": Tolerance(1e-4),
    "in_train_mode_bn1_running": Tolerance(3e-2),
    "step_aff_theta": Tolerance(5e-4, "no"),
    "step_tps_theta": Tolerance(5e-4, "no"),
    "_grad_norms": STEP,
    "_bn1_running": FEATURES,
    "step_aff_loss": Tolerance(3e-4, "each"),
    "step_tps_loss": Tolerance(3e-4, "each"),
    "_eval": Tolerance(2e-5, "each"),
    "_points_": Tolerance(5e-3, "no"),
    "_pck_": Tolerance(1e-6, "no"),
    "warped_every": IMAGE,
    "synth_": IMAGE,
    "resized_": Tolerance(2e-2, "no"),
    "theta_gt": Tolerance(1e-6, "no"),
    "theta_": Tolerance(2e-5, "no"),
    "grid_": Tolerance(2e-5, "no"),
}


def thin(name: str, array: np.ndarray) -> np.ndarray:
    """The part of an array that the repository keeps; inputs are kept whole (images: one pixel a block)."""
    if name in ("src", "trg"):
        return array[..., ::OF_ONE_COLOUR, ::OF_ONE_COLOUR]
    if "feat_" in name or "corr" in name or "conv2" in name:
        return array[::4]
    return array


def blocks(pixels: np.ndarray, down: int, across: int) -> Tensor:
    """An image of blocks, each pixel given once, (..., h * down, w * across)."""
    return torch.from_numpy(pixels.astype(np.float32).repeat(across, -1).repeat(down, -2))


def image(reference: Arrays, name: str) -> Tensor:
    """Images (B, 3, 240, 240), whole or one pixel of each block."""
    pixels = reference[name]
    repeats = 240 // pixels.shape[-1]
    return blocks(pixels, repeats, repeats)


@copied
def filled(which: str, network: str) -> CNNGeo:
    """A model of one network with the reference's weights, loaded by published key."""
    keys = published_shapes(BACKBONES[which][0])
    backbone = "resnet101.tv_in1k" if which == "r" else "vgg16.tv_in1k"
    model = CNNGeo(backbone, stages="affine" if network == "aff" else "tps", pretrained=False)
    return load(model, from_published(geometric_state(keys, network == "tps")))


def load(model: CNNGeo, state: Mapping[str, Tensor]) -> CNNGeo:
    """Load all that is read of a model."""
    found = model.load_state_dict(state, strict=False)
    assert not found.unexpected_keys
    unread = ("backbone.net.layer4.", "backbone.net.fc.")
    assert all(key.startswith(unread) or key.endswith("num_batches_tracked") for key in found.missing_keys)
    return model.eval()


TAKEN = (
    *((which, network, False) for which in BACKBONES for network in NETWORKS),
    ("r", "aff", True),
)  # training steps: backbone, network, and whether the backbone's statistics are the batch's


def our_arrays(reference: Arrays) -> dict[str, np.ndarray | Measured]:
    """What our CNNGeo computes, under the names of the reference file."""
    out: dict[str, Tensor] = {}
    measured: dict[str, Measured] = {}
    with torch.no_grad():
        out |= synthetic(reference)
        for which in BACKBONES:
            out |= evaluated(which, reference)
    for which, network, training in TAKEN:
        name = f"{which}_step_{network}" + ("_backbone_in_train_mode" if training else "")
        measured |= training_step(name, which, network, training, reference)
    out["tps_inverse_L"] = transformations._system(0.0)[1]
    return {**{key: value.numpy() for key, value in out.items()}, **measured}


def synthetic(reference: Arrays) -> dict[str, Tensor]:
    """Transformations of given draws, the photograph of given blocks stretched, and pairs made of an image."""
    raw = blocks(reference["raw_image_low"].transpose(2, 0, 1), 10, 12)
    out = {"resized_480x640_every20": stretch(raw)[:, ::20, ::20]}
    for name, rule in (("affine", narrow_affine), ("tps", spline_of)):
        out[f"theta_gt_{name}"] = torch.stack([rule(draws) for draws in reference[f"draws_{name}"]])
        pairs = synthetic_pairs(reference, name)
        out |= {f"synth_{name}_{side}_every12": images[..., ::12, ::12] for side, images in pairs.items()}
    return out


def synthetic_pairs(reference: Arrays, name: str) -> dict[str, Tensor]:
    """Source and target images (2, 3, 240, 240) of the reference's transformations."""
    images = blocks(reference["synth_low"], BLOCK, BLOCK)
    thetas = torch.from_numpy(reference[f"theta_gt_{name}"])
    return {
        "source": torch.stack([shown(one, None, 240) for one in images]),
        "target": torch.stack([shown(one, theta, 240) for one, theta in zip(images, thetas)]),
    }


def evaluated(which: str, reference: Arrays) -> dict[str, Tensor]:
    """Features, correlations, layers, both transformations, and where grids and points go."""
    source, target = image(reference, "src"), image(reference, "trg")
    affine, spline = (filled(which, network) for network in NETWORKS)
    every, out = BACKBONES[which][1], {}
    (maps,) = affine.backbone(source)
    bare = maps if maps.shape[-1] == 15 else torch.nn.functional.max_pool2d(maps, 2)
    ours, theirs = (affine.describe(images) for images in (source, target))
    correlation = affine.correlate(ours, theirs)
    first, second = affine.affine.conv[:3](correlation), affine.affine.conv(correlation)
    out |= {f"feat_a_unnormalised_every{every}": bare[0, ::every], f"feat_a_every{every}": ours[0, ::every]}
    out |= {f"feat_b_every{every}": theirs[0, ::every], "corr_raw_every16": products(ours, theirs)[0, ::16]}
    out |= {"corr_every16": correlation[0, ::16], "aff_conv1_every8": first[0, ::8], "aff_conv2": second[0]}
    theta = affine(source, target).affine
    warped = warp_source(source, theta)
    alone, after = (spline(images, target).spline for images in (source, warped))
    out |= {"theta_aff": theta, "theta_tps_single_stage": alone, "theta_tps_after_aff": after}
    out["warped_every8"] = warped[0, :, ::8, ::8]
    ways = {
        "aff": lambda points: transform(theta, points),
        "tps_single_stage": lambda points: transform(alone, points),
        "aff_tps": lambda points: transform(theta, transform(after, points)),
    }
    grid = lattice(240, source)[None]
    for name, way in (("aff", "aff"), ("tps", "tps_single_stage"), ("composed", "aff_tps")):
        moved = ways[way](grid) if name != "tps" else transform(after, grid)
        out[f"grid_{name}_every17"] = moved[0].unflatten(0, (240, 240))[::EVERY, ::EVERY]
    for way, transformation in ways.items():
        for frame in ("pf", "224"):
            out[f"warped_points_{frame}_{way}"] = carried(transformation, reference, frame)
    for frame in ("pf", "224"):
        out[f"pck_{frame}_aff_tps"] = pck(carried(ways["aff_tps"], reference, frame), reference, frame)
    truths = {"aff": (theta, "affine"), "tps": (after, "tps")}
    for network, (found, name) in truths.items():
        truth = torch.from_numpy(reference[f"theta_gt_{name}"][:1])
        points = lattice(20, source)[None]
        loss = squared_distance(found, points, transform(truth, points)).mean()
        out[f"grid_loss_{network}_eval"] = loss
    return {f"{which}_{name}": value for name, value in out.items()}


def sizes(reference: Arrays, side: str, frame: str) -> Tensor:
    """Width and height of an image, or of the frame of 224 pixels."""
    height, width, _ = reference[f"{side}_size_hwc"][0]
    return torch.tensor([width, height]) if frame == "pf" else torch.tensor([224.0, 224.0])


def points_of(reference: Arrays, side: str, frame: str, count: int = 9) -> Tensor:
    """The first points of an image, in original pixels or in the frame of 224."""
    points = torch.from_numpy(reference[f"{side}_points"][:, :count].T.copy())
    return points * sizes(reference, side, frame) / sizes(reference, side, "pf")


def carried(transformation, reference: Arrays, frame: str, count: int = 9) -> Tensor:
    """Points of the target carried to the source, pixels counted from 1: (2, K)."""
    own, other = (sizes(reference, side, frame) for side in ("trg", "src"))
    unit_points = (points_of(reference, "trg", frame, count) - 1) * 2 / (own - 1) - 1
    moved = transformation(unit_points[None])[0]
    return ((moved + 1) * (other - 1) / 2 + 1).T


def pck(arrived: Tensor, reference: Arrays, frame: str) -> Tensor:
    """PCK at 0.05, 0.1 and 0.15 of the authors' two thresholds."""
    length = float(reference["L_pf"][0, 0]) if frame == "pf" else 224.0
    far = (arrived.T - points_of(reference, "src", frame)).norm(dim=1)
    return torch.stack([(far <= alpha * length).double().mean() for alpha in (0.05, 0.1, 0.15)])


def training_step(
    name: str, which: str, network: str, training: bool, reference: Arrays
) -> dict[str, np.ndarray | Measured]:
    """Loss, parameters, gradients and statistics of one step on the two synthetic pairs."""
    kind = "affine" if network == "aff" else "tps"
    batch = step_batch(reference, kind)

    def step(dtype: torch.dtype) -> tuple[torch.nn.Module, dict[str, Tensor]]:
        model = filled(which, network).to(dtype).train()
        model.backbone.train(training).requires_grad_(False)
        return model, taken(model, batch, dtype, together=not training)

    steps = Steps(step)
    keys = [part.replace("FeatureRegression.", f"{NETWORKS[network]}.") for part in reference["grad_names"].tolist()]
    return {
        **{f"{name}_{key}": value for key, value in steps.arrays.items() if f"{name}_{key}" in reference},
        f"{name}_grad_norms": steps.gradient_norms([[key] for key in keys]),
    }


def step_batch(reference: Arrays, kind: str) -> dict[str, Tensor]:
    """The two synthetic pairs as a batch."""
    truth = torch.from_numpy(reference[f"theta_gt_{'affine' if kind == 'affine' else 'tps'}"])
    points = lattice(20, truth).expand(2, -1, -1)
    return {**synthetic_pairs(reference, kind), "warp": transform(truth, points)}


def taken(model: CNNGeo, batch: Mapping[str, Tensor], dtype: torch.dtype, together: bool) -> dict[str, Tensor]:
    """One step of a model's only network: gradients are left in it, what it computed is returned."""
    batch = {key: value.to(dtype) for key, value in batch.items()}
    network = model.affine if model.affine is not None else model.spline
    found: list[Tensor] = []
    hook = network.register_forward_hook(lambda module, args, output: found.append(output))
    describe = model.describe
    if not together:  # the authors' two calls: statistics of batch normalisation are each image's own
        model.describe = lambda images, backbone: torch.cat([describe(half, backbone) for half in images.chunk(2)])
    loss = model.training_loss(batch, epoch=0)
    hook.remove()
    loss.backward()
    norm = network.conv[1]
    arrays = {
        "theta": found[0],
        "loss": loss,
        "bn1_running_mean": norm.running_mean,
        "bn1_running_var": norm.running_var,
    }
    first = getattr(model.backbone.net, "bn1", None)
    return arrays | ({"backbone_bn1_running_mean": first.running_mean} if first is not None else {})


def tolerance(name: str) -> Tolerance:
    """Of an array, by its name."""
    return next((found for part, found in TOLERANCES.items() if part in name), FEATURES)


def compare(name: str, reference: Arrays) -> list[Comparison]:
    """Every array of the reference beside ours; an array that we do not have deviates infinitely."""
    wanted = {key: array for key, array in reference.items() if key not in INPUTS}
    ours = our_arrays(reference)
    for key in wanted:
        if key.endswith("grad_norms"):
            without_noise(ours, wanted, key)
    return beside(ours, wanted, {key: tolerance(key) for key in wanted}, thin)


def without_noise(
    ours: dict[str, np.ndarray | Measured], wanted: dict[str, np.ndarray], key: str, noise: float = NOISE
) -> None:
    """Leave out, in both, gradients that would be zero but for rounding: norms of at most ``noise``."""
    real = wanted[key] > noise
    mine = ours[key]
    assert isinstance(mine, Measured)
    wanted[key] = wanted[key][real]
    ours[key] = Measured(mine.values[real], mine.rounding[real])
