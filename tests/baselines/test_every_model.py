"""What every model of the registry must bear: any number of points, points on the border, any image, strange files."""

from __future__ import annotations

import datasets
import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

from baselines import registry
from baselines.checkpoints import load_checkpoint, load_weights
from baselines.recipe import with_backbone
from baselines.registry import find_recipe
from benchmark.running.check import warped_pairs
from benchmark.running.speed import is_trained
from sc_imagenet.core.errors import InputError
from sc_imagenet.data.pairs import PairDataset, collate_pairs
from sc_imagenet.data.schema import pair_features

NAMES = [card.name for card in registry.cards()]
COUNTS = (0, 1, 100)


def tiny(name: str, backbone: str = "tf_efficientnet_lite0"):
    torch.manual_seed(0)
    recipe = find_recipe(name, "*", "tiny")
    arguments = recipe.model if registry.card(name).backbone == "none" else with_backbone(recipe.model, backbone)
    return registry.create(name, **{**arguments, "pretrained": False})


@pytest.fixture(scope="module", params=NAMES)
def model(request):
    return tiny(request.param)


def pairs_of(model, count: int) -> dict[str, torch.Tensor]:
    batch = warped_pairs(model, 2, max(count, 1), torch.Generator().manual_seed(0))
    several = {key: value[:, :count] for key, value in batch.items() if key.endswith("_points") or key == "valid"}
    return {**batch, **several}


@pytest.mark.parametrize("count", COUNTS)
def test_any_number_of_points(model, count):
    batch = pairs_of(model, count)
    with torch.no_grad():
        output = model.eval()(batch["source"], batch["target"])
        carried = model.transfer(output, batch["source_points"])
    assert carried.shape == (2, count, 2)
    assert carried.isfinite().all()
    if is_trained(model):
        assert model.train().training_loss(batch, epoch=0).isfinite()


def test_points_on_the_border(model):
    side = model.size
    border = torch.tensor([[0, 0], [side, 0], [0, side], [side, side], [side / 2, 0], [side, side / 3]]).float()
    batch = {**pairs_of(model, 6), "source_points": border.expand(2, -1, -1), "target_points": border.expand(2, -1, -1)}
    batch["valid"] = torch.ones(2, 6, dtype=torch.bool)
    with torch.no_grad():
        carried = model.eval().transfer(model(batch["source"], batch["target"]), border.expand(2, -1, -1))
    assert carried.isfinite().all()
    if is_trained(model):
        assert model.train().training_loss(batch, epoch=0).isfinite()


IMAGES = {
    "1 px high": Image.new("RGB", (300, 1), "red"),
    "1 px": Image.new("RGB", (1, 1), "red"),
    "10,000 px wide": Image.new("RGB", (10_000, 40), "blue"),
    "greyscale": Image.linear_gradient("L"),
    "transparent": Image.new("RGBA", (30, 50), (10, 20, 30, 40)),
    "16 bits": Image.fromarray(np.arange(0, 60_000, 20, dtype=np.uint16).reshape(50, 60)),
    "CMYK": Image.new("CMYK", (30, 50), (9, 99, 9, 9)),
}


@pytest.fixture(scope="module")
def odd_pairs(tmp_path_factory):
    """Every odd image paired with a photograph's size of noise."""
    folder = tmp_path_factory.mktemp("odd")
    noise = np.random.default_rng(0).integers(0, 255, (90, 120, 3), dtype=np.uint8)
    Image.fromarray(noise).save(folder / "noise.png")
    rows = []
    for name, image in IMAGES.items():
        path = folder / f"{name}.{'tif' if image.mode == 'CMYK' else 'png'}"
        image.save(path)
        width, height = image.size
        rows.append(
            {
                "pair_id": name,
                "dataset": "odd",
                "category": 0,
                "source": {"path": str(path), "bytes": None},
                "target": {"path": str(folder / "noise.png"), "bytes": None},
                "source_size": [width, height],
                "target_size": [120, 90],
                "source_points": [[0.0, 0.0], [width / 2, height / 2]],
                "target_points": [[0.0, 0.0], [60.0, 45.0]],
                "source_bbox": None,
                "target_bbox": None,
                "mirrored": False,
                "viewpoint_variation": -1,
                "scale_variation": -1,
                "truncation": -1,
                "occlusion": -1,
                "confidence": None,
                "loop_offset": None,
                "pair_score": None,
            }
        )
    features = pair_features(["thing"])
    return datasets.Dataset.from_list([dict.fromkeys(features) | row for row in rows], features=features)


def test_any_image(model, odd_pairs):
    pairs = PairDataset(odd_pairs, model.size, model.mean, model.std)
    for row in range(len(pairs)):
        batch = collate_pairs([pairs[row]])
        with torch.no_grad():
            output = model.eval()(batch["source"], batch["target"])
            assert model.transfer(output, batch["source_points"]).isfinite().all(), odd_pairs[row]["pair_id"]


def test_weights_that_are_not_its_own_are_one_line_each(model, tmp_path):
    name = registry.name_of(model)
    model.save_pretrained(tmp_path / "own")
    own, _ = load_checkpoint(name, tmp_path / "own")
    state = own.state_dict()
    theirs = type(model).published
    optional = (*theirs.optional, *(() if theirs.backbone else ("backbone.",))) if theirs else ()
    needed = next(key for key in state if not key.startswith(optional) and not key.endswith(optional))
    wrong = {
        "extra": {**state, "never.heard.of": torch.zeros(1)},
        "missing": {key: value for key, value in state.items() if key != needed},
        "other shape": {**state, needed: torch.zeros(3, 1, 4)},
        "other backbone": tiny(name, "resnet10t").state_dict(),
        "other model": {"conv.weight": torch.zeros(4, 4)},
    }
    if registry.card(name).backbone == "none":
        del wrong["other backbone"]
    for kind, weights in wrong.items():
        path = tmp_path / f"{kind}.safetensors"
        save_file({key: value.contiguous() for key, value in weights.items()}, path)
        with pytest.raises(InputError) as raised:
            load_weights(own, path)
        assert "\n" not in str(raised.value), kind
        assert path.name in str(raised.value), kind
    whole = (tmp_path / "own" / "model.safetensors").read_bytes()
    (tmp_path / "short.safetensors").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(InputError, match="short"):
        load_weights(own, tmp_path / "short.safetensors")
