"""MARCO, GeoAware-SC, DIY-SC, Visual-AI and GECO: their authors' files load, frozen parts stay, and they learn."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from baselines import registry
from baselines.checkpoints import load_checkpoint
from baselines.geoaware import Descriptors
from baselines.marco import MARCO, box_mask
from baselines.marco_mining import flow_clusters, information, mine, mutual_nearest
from baselines.nearest import Described
from baselines.registry import find_recipe
from benchmark.running.check import warped_pairs
from benchmark.running.loop import encoder_is_frozen, frozen_parameters
from sc_imagenet.backbones.pretrained import weights_at_hand
from sc_imagenet.core.errors import InputError
from sc_imagenet.data.tensor_files import read_state
from tests.parity.filling import published_state
from tests.parity.references import published_shapes

HEADS = ("marco", "geoaware", "diy-sc", "visual-ai", "geco")
PUBLISHED = {
    "marco": ("marco_vitl14", "published_vitl14", 17_882_624),
    "diy-sc": ("geoaware_diysc_aggregation", "dino_only_768", 628_995),
    "geoaware": ("geoaware_diysc_aggregation", "sd_dino_768", 5_150_214),
}


def tiny(name: str, **changes):
    torch.manual_seed(0)
    arguments = {**find_recipe(name, "*", "tiny").model, "pretrained": False, **changes}
    return registry.create(name, **arguments)


@pytest.mark.parametrize("name", PUBLISHED)
def test_the_authors_lists_of_keys_are_those_of_the_model_and_load_strictly(name):
    file, part, count = PUBLISHED[name]
    state = published_state(published_shapes(file)[part])
    assert sum(value.numel() for value in state.values()) == count
    published = registry.card(name).model.published
    assert published is not None
    ours = published.convert(state)
    with torch.device("meta"):
        model = registry.create(name, **published.arguments(ours), pretrained=False)
    own = {key: value.shape for key, value in model.state_dict().items()}
    left = {key for key in own if not key.startswith(("backbone.", *published.optional))}
    assert left == ours.keys()
    assert all(own[key] == value.shape for key, value in ours.items())


def test_the_files_of_gecos_authors_have_the_keys_of_the_model():
    listed = published_shapes("geco_vits14_lora")["saved_file"]
    published = registry.card("geco").model.published
    ours = published.convert(published_state(listed))
    model = registry.create("geco", **published.arguments(ours), pretrained=False)
    own = {key: value.shape for key, value in model.state_dict().items() if not key.startswith("backbone.")}
    assert own == {key: value.shape for key, value in ours.items()}


def test_a_file_that_lacks_an_adapter_is_refused(tmp_path, monkeypatch):
    """The network's weights are timm's, which are not here: a random one stands in."""
    create = registry.create_from_outside
    random = {"pretrained": False}
    monkeypatch.setattr(
        registry, "create_from_outside", lambda name, given, where: create(name, {**given, **random}, where)
    )
    state = published_state(published_shapes("geoaware_diysc_aggregation")["dino_only_768"])
    torch.save(state, tmp_path / "adapter.pth")
    model, _ = load_checkpoint("diy-sc", tmp_path / "adapter.pth")
    for key, value in state.items():
        assert torch.equal(model.network.state_dict()[key], value)
    del state["bottleneck_layers.0.0.conv2.weight"]
    torch.save(state, tmp_path / "short.pth")
    with pytest.raises(InputError, match="conv2"):
        load_checkpoint("diy-sc", tmp_path / "short.pth")


@pytest.mark.parametrize("name", HEADS)
def test_a_few_steps_make_points_land_nearer(name):
    """On warps of textures, the same pairs before and after."""
    model = tiny(name, pretrained=weights_at_hand("tf_efficientnet_lite0"), **({"mined": 0} if name == "marco" else {}))
    batch = warped_pairs(model, 4, 16, torch.Generator().manual_seed(0))

    def distance() -> float:
        with torch.no_grad():
            found = model.eval().transfer(model(batch["source"], batch["target"]), batch["source_points"])
        return float((found - batch["target_points"]).norm(dim=-1)[batch["valid"]].mean())

    before = distance()
    optimiser = torch.optim.AdamW([each for each in model.parameters() if each.requires_grad], 1e-3)
    for _ in range(12):
        model.train()
        model.backbone.eval()
        optimiser.zero_grad()
        model.training_loss(batch, 0).backward()
        optimiser.step()
    assert distance() < 0.95 * before


@pytest.mark.parametrize("name", ["marco", "geco"])
def test_a_vision_transformer_begins_as_it_was_and_only_what_is_added_is_trained(name):
    """Adapters and low-rank updates are zero at first; a copy of the model has its own."""
    model = tiny(name, backbone="vit_tiny_patch16_224", layers=None, size=64).eval()
    images = torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        before = model.encode(images)[0]
        for key, value in model.named_parameters():
            if "up_proj" in key or key.endswith(".b.weight"):
                value += 0.1
        after = model.encode(images)[0]
    assert not torch.equal(before, after)
    trained = [key for key, value in model.named_parameters() if value.requires_grad]
    assert trained
    assert not any(key.startswith("backbone.") for key in trained)
    model.training_loss(warped_pairs(model, 2, 4, torch.Generator().manual_seed(0)), 0).backward()
    inside = [value for key, value in model.named_parameters() if key.startswith(("adapters.", "lora."))]
    assert all(value.grad is not None and value.grad.abs().max() > 0 for value in inside)


def test_a_cnn_with_gecos_updates_in_its_last_stages_begins_as_it_was():
    plain, model = tiny("geco", stages=0).eval(), tiny("geco").eval()
    assert sorted(plain.lora) == ["after"]
    assert len(model.lora) == 16  # two 1 x 1 convolutions in each of eight blocks
    images = torch.randn(2, 3, model.size, model.size, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        before = model.encode(images)[0]
        assert torch.allclose(before, plain.encode(images)[0], atol=1e-6)
        for key, value in model.lora.named_parameters():
            if key.endswith("b.weight"):
                value += 0.1
        assert not torch.allclose(before, model.encode(images)[0], atol=1e-3)
    model.training_loss(warped_pairs(model, 2, 4, torch.Generator().manual_seed(0)), 0).backward()
    trained = {key: value for key, value in model.named_parameters() if value.requires_grad}
    assert all(key.startswith("lora.") and value.grad.abs().max() > 0 for key, value in trained.items())


def test_gecos_cells_in_training_are_as_many_as_asked():
    model = tiny("geco", cells=7)
    maps = torch.randn(1, 4, 5, 5, generator=torch.Generator().manual_seed(0))
    output, batch = Described(maps, maps), warped_pairs(model, 1, 4, torch.Generator().manual_seed(0))
    up = torch.nn.functional.interpolate(maps, (7, 7), mode="bilinear")
    found = model.loss(output, batch)
    model.set_training_arguments({"cells": 0})
    assert found == pytest.approx(model.loss(Described(up, up), batch).item(), rel=1e-6)
    assert found != pytest.approx(model.loss(output, batch).item(), rel=1e-3)


def test_the_width_of_visual_ais_gaussian_is_a_stages_own():
    model = tiny("visual-ai")
    maps = torch.randn(1, 4, 10, 10, generator=torch.Generator().manual_seed(0))
    batch = warped_pairs(model, 1, 4, torch.Generator().manual_seed(0))
    narrow = model.loss(Described(maps, maps), batch)
    model.set_training_arguments({"sigma": 1.5})
    assert narrow != pytest.approx(model.loss(Described(maps, maps), batch).item(), rel=1e-3)
    assert model.arguments["sigma"] == 1.5


def test_visual_ai_trains_the_last_blocks_alone():
    model = tiny("visual-ai", backbone="vit_tiny_patch16_224", layers=None, size=64, trained=2)
    trained = {key.split(".")[3] for key, value in model.named_parameters() if value.requires_grad}
    assert trained == {"10", "11"}


@pytest.mark.parametrize("name", ["geoaware", "diy-sc"])
def test_the_aggregation_network_trains_on_features_that_are_encoded_once(name):
    model, recipe = tiny(name), find_recipe(name, "*", "tiny")
    for parameter in frozen_parameters(model, recipe):
        parameter.requires_grad_(False)
    assert encoder_is_frozen(model.train())
    batch = warped_pairs(model, 2, 5, torch.Generator().manual_seed(0))
    with torch.no_grad():
        features = {f"{side}_features": model.encode(batch[side]) for side in ("source", "target")}
    seeded = []
    for given in (
        batch,
        {**{key: value for key, value in batch.items() if key not in ("source", "target")}, **features},
    ):
        torch.manual_seed(1)
        seeded.append(model.training_loss(given, 0).item())
    assert seeded[0] == pytest.approx(seeded[1], rel=1e-5)


def test_in_the_mirror_image_a_point_is_looked_for_where_its_partner_was():
    """The image is its own mirror image, and each point's partner lies where that has it."""
    model = tiny("geoaware").eval()
    cells = len(model.x_normal)
    identity = torch.eye(cells * cells).view(1, cells * cells, cells, cells)
    output = Descriptors(identity, identity, identity, identity)
    points = (torch.tensor([[[2.0, 3.0], [cells - 3.0, 3.0]]]) + 0.5) * model.size / cells
    batch = {"source_points": points, "valid": torch.ones(1, 2, dtype=torch.bool), "partners": torch.tensor([[1, 0]])}
    right = model.mirrored_source(output, batch, torch.zeros_like(points))
    wrong = model.mirrored_source(output, {**batch, "partners": torch.tensor([[0, 1]])}, torch.zeros_like(points))
    assert right < 1e-3
    assert wrong > 1


def test_marcos_teacher_is_a_copy_at_first_and_follows_slowly():
    model = MARCO("resnet10t", size=64, upscalings=1, mined=0, pretrained=False)
    batch = warped_pairs(model, 2, 4, torch.Generator().manual_seed(0))
    with torch.no_grad():
        model.upscale[0].norm.bias += 1  # loaded after it was built
    model.training_loss(batch, 0)
    key = "upscale.0.norm.bias"
    assert torch.equal(model.teacher.weights()[key], model.upscale[0].norm.bias)
    with torch.no_grad():
        model.upscale[0].norm.bias += 1
    model.training_loss(batch, 0)
    torch.testing.assert_close(model.teacher.weights()[key], model.upscale[0].norm.bias - 0.99)
    assert int(model.teacher.steps) == 2
    model.set_training_arguments({"coarse_steps": 7})
    assert (int(model.teacher.steps), model.coarse_steps) == (0, 7)


def test_mutual_neighbours_are_found_in_pieces_as_at_once(monkeypatch):
    maps = torch.randn(2, 8, 6, 6, generator=torch.Generator().manual_seed(0))
    masks = [np.arange(36).reshape(6, 6) % 5 > 0, np.arange(36).reshape(6, 6) % 7 > 0]
    whole = mutual_nearest(*maps, masks)
    monkeypatch.setattr("baselines.marco_mining.ROWS_AT_ONCE", 4)
    assert all(np.array_equal(one, two) for one, two in zip(whole, mutual_nearest(*maps, masks)))


def test_mining_finds_a_shift_and_nothing_where_nothing_is_known():
    generator = torch.Generator().manual_seed(0)
    wide = torch.randn(1, 16, 20, 20, generator=generator)
    source, target = wide[0, :, 2:18, 4:20], wide[0, :, 2:18, 2:18]  # two cells to the right
    everywhere, draw = [np.ones((64, 64), bool)] * 2, np.random.default_rng(0)
    points = [np.array([[20.0, 20.0], [30.0, 40.0]]), np.array([[28.0, 20.0], [38.0, 40.0]])]
    found = mine(source, target, everywhere, points, 64, 100, draw)
    assert found is not None
    assert len(found.source) == 100
    assert np.abs(found.target - found.source - [8, 0]).mean() < 0.2
    nowhere = [np.zeros((64, 64), bool)] * 2
    assert mine(source, target, nowhere, points, 64, 100, draw) is None


def test_clusters_are_joined_while_that_explains_the_colours_better():
    draw = np.random.default_rng(0)
    centres = np.array([[0.1, 0.1, 0.1], [0.9, 0.1, 0.1], [0.1, 0.9, 0.1]])
    truth = np.repeat(np.arange(3), 400)
    colours = centres[truth] + 0.02 * draw.standard_normal((1200, 3))
    labels = flow_clusters(colours, draw)
    assert len(np.unique(labels)) == 3
    assert all(len(np.unique(labels[truth == each])) == 1 for each in range(3))
    assert information(colours, centres, truth) > information(colours, centres[:2], np.minimum(truth, 1))


def test_a_box_that_is_not_known_is_the_whole_frame():
    assert box_mask(torch.tensor([1.0, 2.0, 3.0, 4.0]), 6).sum() == 4
    assert box_mask(torch.full((4,), torch.nan), 6).all()


def test_no_weights_of_theirs_are_taken_for_others(tmp_path):
    torch.save({"w_a_000": torch.zeros(3)}, tmp_path / "odd.pth")
    assert read_state(tmp_path / "odd.pth")
    for name in ("geco", "marco", "geoaware"):
        with pytest.raises(InputError):
            load_checkpoint(name, tmp_path / "odd.pth")


@pytest.mark.parametrize(
    ("name", "wrong"),
    [("geco", {"cells": -1}), ("geco", {"stages": -1}), ("geco", {"rank": 0}), ("visual-ai", {"sigma": 0})],
)
def test_sizes_that_cannot_be_are_one_line(name, wrong):
    with pytest.raises(InputError, match=next(iter(wrong))):
        registry.create(name, backbone="resnet10t", size=64, pretrained=False, **wrong)


@pytest.mark.parametrize(
    ("name", "typed"), [("geco", {"cells": -1}), ("geco", {"cells": "a"}), ("visual-ai", {"sigma": 0})]
)
def test_what_a_stage_cannot_be_trained_with_is_one_line(name, typed):
    """It reaches a model that is built already."""
    matcher = registry.create(name, backbone="resnet10t", size=64, pretrained=False)
    with pytest.raises(InputError, match=next(iter(typed))):
        matcher.set_training_arguments(typed)
