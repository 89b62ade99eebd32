"""NC-Net beside its published code: 400 pixels, and the weak loss of two pairs at 240."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from baselines.ncnet import NCNet, best_matches, certainty, from_published, key_of, mutual_matching, transfer_normalised
from tests.parity.filling import published_state
from tests.parity.references import Arrays, Comparison, Tolerance, beside, published_shapes
from tests.parity.rounding import Measured, Steps

FILES = ("ncnet",)
INPUTS = (
    *("src", "trg", "src240", "trg240", "trg_points", "src_points", "trg_size_hw", "src_size_hw", "n_pts"),
    *("nc_conv4_bias", "grad_names", "report_json"),
)
BLOCK = {"src": 5, "trg": 5, "src240": 3, "trg240": 3}  # pixels of one colour

TOLERANCES = {
    "matches_xA_yA_xB_yB_score": Tolerance(1e-5, "no"),
    "warped": Tolerance(1e-2, "no"),
    "pck_L224": Tolerance(0.0, "no"),
    "weak_loss_pos_neg/scores": Tolerance(1e-6, "each"),
    "weak_loss_pos_neg/loss": Tolerance(1e-8, "no"),  # the difference of two scores of 5e-3
    "grad_norms": Tolerance(1e-3, "each"),
}
OTHERWISE = Tolerance(1e-4)  # features, correlations, consensus


def thin(name: str, array: np.ndarray) -> np.ndarray:
    """The part of an array that the repository keeps; inputs are kept whole (images: one pixel a block)."""
    if name in BLOCK:
        return array[..., :: BLOCK[name], :: BLOCK[name]]
    if name.startswith("feat"):
        return array[::8]
    if name in ("corr0", "mm1", "nc", "out"):
        return array[:, ::8]
    return array


def image(reference: Arrays, name: str) -> Tensor:
    """An image (1, 3, S, S); extracts hold one pixel of each block, which is of one colour."""
    pixels = reference[name].astype(np.float32)
    repeats = (240 if name.endswith("240") else 400) // pixels.shape[-1]
    return torch.from_numpy(pixels.repeat(repeats, -1).repeat(repeats, -2))


def filled(reference: Arrays) -> NCNet:
    """NC-Net with the reference's weights, loaded by published key; what it does not hold is not read."""
    state = published_state(published_shapes(FILES[0]))
    state["NeighConsensus.conv.4.bias"] = torch.tensor([float(reference["nc_conv4_bias"])])
    model = NCNet(pretrained=False)
    found = model.load_state_dict(from_published(state), strict=False)
    assert not found.unexpected_keys
    assert all(key.startswith(("backbone.net.layer4.", "backbone.net.fc.")) for key in found.missing_keys)
    return model.eval()


def our_arrays(reference: Arrays) -> dict[str, np.ndarray | Measured]:
    """What our NC-Net computes, under the names of the reference file."""
    model = filled(reference)
    out: dict[str, Tensor] = {}
    with torch.no_grad():
        ((source,), (target,)) = (model.encode(image(reference, name)) for name in ("src", "trg"))
        volume = model.correlate([source], [target])
        filtered = mutual_matching(volume)
        agreed = model.consensus(filtered)
        matches = mutual_matching(agreed)
        first = model.consensus.layers[0](filtered[:, :, :, None]).relu()
        out |= {"feat_a": source[0, ::16], "feat_b": target[0, ::16]}
        out |= {"corr0": _flat(volume)[::5, ::3], "mm1": _flat(filtered)[::5, ::3]}
        out |= {"layer1": first[0].movedim(2, 0).flatten(3).flatten(1, 2)[:, ::31, ::29]}
        out |= {"nc": _flat(agreed)[::3, ::2], "out": _flat(matches)[::3, ::2]}
        along = torch.linspace(-1, 1, 25)
        score = _flat(matches).softmax(0).amax(0)
        rows = (*best_matches(matches)[0].flatten(1), along.repeat(25), along.repeat_interleave(25), score)
        out["matches_xA_yA_xB_yB_score"] = torch.stack(rows)
        out |= _scored(matches, reference)
    steps = Steps(lambda dtype: training_step(reference, dtype))
    norms = steps.gradient_norms([[key_of(key)] for key in reference["grad_names"].tolist()])
    return {**{key: value.numpy() for key, value in out.items()}, **steps.arrays, "grad_norms": norms}


def training_step(reference: Arrays, dtype: torch.dtype) -> tuple[NCNet, dict[str, Tensor]]:
    """A model that has the gradients of the weak loss, that loss, and the scores whose difference it is."""
    model = filled(reference).to(dtype)
    s, t = (image(reference, name).to(dtype) for name in ("src240", "trg240"))
    batch = {"source": torch.cat((s, t.flip(-2))), "target": torch.cat((t, s.flip(-1)))}
    loss = model.training_loss(batch, epoch=0)
    loss.backward()
    with torch.no_grad():
        right = certainty(model(batch["source"], batch["target"])).mean()
        wrong = certainty(model(batch["source"].roll(1, 0), batch["target"])).mean()
    return model, {"weak_loss_pos_neg/scores": torch.stack((right, wrong)), "weak_loss_pos_neg/loss": loss[None]}


def _scored(matches: Tensor, reference: Arrays) -> dict[str, Tensor]:
    """Points carried in original pixels, counted from 1, and their PCK."""
    count = int(reference["n_pts"])
    true, points = (torch.from_numpy(reference[f"{side}_points"].T[:count].copy()) for side in ("src", "trg"))
    own, other = (torch.from_numpy(reference[f"{side}_size_hw"][0, [1, 0]].copy()) for side in ("trg", "src"))
    unit = (points - 1) * 2 / (own - 1) - 1
    warped = (transfer_normalised(matches, unit[None])[0] + 1) / 2 * (other - 1) + 1
    return {"warped": warped.T, "pck_L224": ((warped - true).norm(dim=-1) <= 22.4).float().mean()[None]}


def _flat(matches: Tensor) -> Tensor:
    return matches[0].flatten(2).flatten(0, 1)


def compare(name: str, reference: Arrays) -> list[Comparison]:
    """Every array of the reference beside ours; an array that we do not have deviates infinitely."""
    ours = our_arrays(reference)
    wanted = {key: array for key, array in reference.items() if key not in INPUTS}
    weak = wanted.pop("weak_loss_pos_neg")
    wanted |= {"weak_loss_pos_neg/scores": weak[1:], "weak_loss_pos_neg/loss": weak[:1]}
    return beside(ours, wanted, {key: TOLERANCES.get(key, OTHERWISE) for key in wanted}, thin)
