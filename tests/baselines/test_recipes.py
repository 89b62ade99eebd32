"""Recipes: what the authors published, and that every preset can be built."""

from __future__ import annotations

import inspect

import pytest
import torch

from baselines import registry
from baselines.cats import PF_PASCAL_LAYERS
from baselines.recipe import PRESETS, Recipe, override, with_backbone
from baselines.registry import find_recipe
from sc_imagenet.core.errors import InputError
from sc_imagenet.data.augmentation import AUGMENTATIONS


@pytest.mark.parametrize("name", [entry.name for entry in registry.cards()])
@pytest.mark.parametrize("preset", PRESETS)
def test_every_model_is_built_by_every_preset(name, preset):
    recipe = find_recipe(name, "*", preset)
    with torch.device("meta"):
        model = registry.create(name, **{**recipe.model, "pretrained": False})
    assert recipe.augmentation in AUGMENTATIONS
    assert registry.name_of(model) == name
    assert (model.backbone is None) == (registry.card(name).backbone == "none")


# Every value below stands in the facts collected from papers and code; comments name file and section.
def trained_by(recipe: Recipe) -> tuple[object, ...]:
    return recipe.optimiser, recipe.lr, recipe.backbone_lr, recipe.weight_decay, recipe.batch, recipe.epochs


def schedule_of(recipe: Recipe) -> tuple[object, ...]:
    return recipe.schedule, recipe.milestones, recipe.gamma, recipe.warmup, recipe.clip_gradient


@pytest.mark.parametrize("dataset", ["spair-71k", "pf-pascal", "sc-imagenet"])
def test_cats_is_trained_as_published(dataset):
    recipe = find_recipe("cats", dataset)  # cats_vat_semimatch 1.1 and 1.2; on SC-ImageNet 4
    assert trained_by(recipe) == ("adamw", 3e-5, 3e-6, 0.05, 32, 100)
    assert schedule_of(recipe) == ("step", (70, 80, 90), 0.5, 0, 0.0)
    assert (recipe.augmentation, recipe.points, recipe.backbone_batchnorm) == ("cats", 40, "train")
    assert recipe.model["size"] == 256
    if dataset == "pf-pascal":
        assert recipe.model["layers"] == [2, 17, 21, 22, 25, 26, 28]
    else:
        assert recipe.model["layers"] == [0, 8, 20, 21, 26, 28, 29, 30]


def test_cnngeo_and_a2net_are_trained_as_published():
    """Of a batch half is each network's, of which the authors trained each alone: half the batch, as many steps."""
    cnngeo, a2net = (find_recipe(name, "synthetic") for name in ("cnngeo", "a2net"))
    # cnngeo_weakalign_a2net_proposalflow 1.3 and 3.2
    assert trained_by(cnngeo) == ("adam", 1e-3, 0.0, 0.0, 2 * 32, 2 * 100)
    assert schedule_of(cnngeo) == ("step", (2 * 50,), 0.2, 0, 0.0)
    assert trained_by(a2net) == ("adam", 2e-4, 0.0, 0.0, 2 * 32, 2 * 50)
    assert schedule_of(a2net)[1] == ()
    for recipe in (cnngeo, a2net):
        assert (recipe.augmentation, recipe.backbone_batchnorm) == ("none", "eval")
        assert recipe.model == {"backbone": "resnet101.tv_in1k", "size": 240}


def test_weakalign_is_trained_as_published():
    recipe = find_recipe("weakalign", "pf-pascal")  # cnngeo_weakalign_a2net_proposalflow 2.3
    assert trained_by(recipe) == ("adam", 5e-8, 5e-8, 0.0, 16, 15)
    assert schedule_of(recipe)[1] == ()
    assert (recipe.augmentation, recipe.backbone_batchnorm) == ("middle-crops", "eval")
    assert find_recipe("weakalign", "synthetic:pf-pascal") == find_recipe("cnngeo", "synthetic")


@pytest.mark.parametrize(
    ("dataset", "context", "width", "start"),
    [("spair-71k", 7, 2048, 4), ("pf-pascal", 13, 1024, 60), ("sc-imagenet", 7, 2048, 4)],
)
def test_scorrsan_is_trained_as_published(dataset, context, width, start):
    recipe = find_recipe("scorrsan", dataset)  # dhpf_transformatcher_scorrsan_ncnet_hpf 3.1 to 3.3
    assert trained_by(recipe) == ("adamw", 3e-5, 3e-6, 0.05, 16, 150)
    assert schedule_of(recipe) == ("step", (150,), 0.5, 0, 0.0)
    assert (recipe.augmentation, recipe.points, recipe.backbone_batchnorm) == ("photometric", 40, "train")
    built = {"layers": [30], "size": 256, "context": context, "width": width, "networks": 2, "pseudo_start": start}
    assert recipe.model == {"backbone": "resnet101.tv_in1k", **built}


@pytest.mark.parametrize(
    ("dataset", "lr", "batch", "confidence", "dynamic"),
    [("spair-71k", 1e-6, 8, 0.5, True), ("pf-pascal", 3e-5, 4, 0.9, False)],
)
def test_semimatch_is_trained_as_published(dataset, lr, batch, confidence, dynamic):
    recipe = find_recipe("semimatch", dataset)  # cats_vat_semimatch 3.2 to 3.4
    assert trained_by(recipe) == ("adamw", lr, 3e-6, 0.05, batch, 200)
    assert schedule_of(recipe) == ("step", (150, 220), 0.5, 0, 0.0)
    assert (recipe.augmentation, recipe.points, recipe.backbone_batchnorm) == ("semimatch", 40, "train")
    arguments = {name: recipe.model[name] for name in ("temperature", "confidence", "keyout", "dynamic")}
    assert arguments == {"temperature": 0.1, "confidence": confidence, "keyout": 0.2, "dynamic": dynamic}


@pytest.mark.parametrize(
    ("name", "dataset", "lr", "batch", "epochs", "points", "threshold"),
    [
        ("dhpf", "pf-pascal", 0.03, 8, 100, 40, "img"),
        ("dhpf", "spair-71k", 0.03, 8, 5, 40, "bbox"),
        ("dhpf", "sc-imagenet", 0.03, 8, 100, 400, "bbox"),
        ("dhpf-weak", "pf-pascal", 0.1, 4, 30, 40, "img"),
        ("dhpf-weak", "spair-71k", 0.1, 4, 30, 40, "bbox"),
    ],
)
def test_dhpf_is_trained_as_published(name, dataset, lr, batch, epochs, points, threshold):
    # dhpf_transformatcher_scorrsan_ncnet_hpf 1.1, 1.3, 1.4, 40 points 6; SC-ImageNet: cats_vat_semimatch 4
    recipe = find_recipe(name, dataset)
    assert trained_by(recipe) == ("sgd", lr, 0.0, 0.0, batch, epochs)
    assert (recipe.momentum, recipe.points) == (0.5, points)
    assert schedule_of(recipe) == ("step", (), 0.5, 0, 0.0)
    assert (recipe.augmentation, recipe.backbone_batchnorm) == ("none", "eval")
    built = {"backbone": "resnet101.tv_in1k", "size": 240, "stride": 4, "rate": 0.5, "threshold": threshold}
    assert recipe.model == built


@pytest.mark.parametrize("dataset", ["spair-71k", "pf-pascal", "sc-imagenet"])
def test_transformatcher_is_trained_as_published(dataset):
    recipe = find_recipe("transformatcher", dataset)  # dhpf_transformatcher_scorrsan_ncnet_hpf 2.1 and 2.3, 40 points 6
    assert trained_by(recipe) == ("adam", 1e-3, 1e-5, 0.0, 16, 10)
    assert schedule_of(recipe) == ("step", (), 0.5, 0, 0.0)
    assert (recipe.augmentation, recipe.points, recipe.backbone_batchnorm) == ("transformatcher", 40, "train")
    assert recipe.model == {"backbone": "resnet101.tv_in1k", "layers": list(range(8, 34)), "size": 240}


def test_ncnet_is_trained_as_published():
    recipe = find_recipe("ncnet", "pf-pascal")  # dhpf_transformatcher_scorrsan_ncnet_hpf 4.1 and 4.3
    assert trained_by(recipe) == ("adam", 5e-4, 0.0, 0.0, 16, 5)
    assert schedule_of(recipe) == ("step", (), 0.5, 0, 0.0)
    assert (recipe.augmentation, recipe.backbone_batchnorm) == ("none", "eval")
    assert recipe.model == {"backbone": "resnet101.tv_in1k", "layers": [30], "size": 400}
    defaults = inspect.signature(registry.card("ncnet").model.__init__).parameters
    assert [defaults[name].default for name in ("kernel", "width", "sharpness")] == [5, 16, None]


@pytest.mark.parametrize(
    ("dataset", "layers"),
    [("spair-71k", [0, 8, 20, 21, 26, 28, 29, 30]), ("pf-pascal", [2, 17, 21, 22, 25, 26, 28])],
)
def test_hpf_has_the_published_hyperpixels_and_is_not_trained(dataset, layers):
    recipe = find_recipe("hpf", dataset)  # dhpf_transformatcher_scorrsan_ncnet_hpf 5.3
    assert recipe.model == {"backbone": "resnet101.tv_in1k", "size": 300, "layers": layers}
    assert (recipe.epochs, recipe.lr, recipe.backbone_lr) == (0, 0.0, 0.0)


@pytest.mark.parametrize("dataset", ["sc-imagenet", "pf-pascal"])
def test_the_cascade_is_trained_as_its_paper_says(dataset):
    recipe = find_recipe("cascade", dataset)  # generator 4: 8 GPUs x 4 pairs; epochs are not given
    assert trained_by(recipe)[:5] == ("sgd", 3e-5, 0.0, 0.0, 32)
    assert recipe.momentum == 0.9
    assert schedule_of(recipe) == ("step", (), 0.5, 0, 0.0)
    assert (recipe.augmentation, recipe.backbone_batchnorm) == ("none", "eval")


def test_another_backbone_is_read_at_its_own_layers():
    recipe = find_recipe("cats", "pf-pascal")
    assert "layers" not in with_backbone(recipe.model, "convnext_atto")
    assert with_backbone(recipe.model, None) == dict(recipe.model)
    assert with_backbone(recipe.model, "resnet101.tv_in1k")["layers"] == list(PF_PASCAL_LAYERS)


def test_settings_reach_recipe_and_model():
    recipe = override(find_recipe("cats", "toy", "tiny"), {"recipe.backbone_lr": "0", "recipe.model.size": "96"})
    assert recipe.backbone_lr == 0
    assert recipe.model["size"] == 96


def test_unknown_names_are_one_line():
    with pytest.raises(InputError, match="unknown preset 'big'"):
        find_recipe("cats", "toy", "big")
    with pytest.raises(InputError, match=r"unknown model 'catz'\. Did you mean 'cats'"):
        registry.create("catz")
    with pytest.raises(InputError, match="layer_count"):
        registry.create("nearest", layer_count=3)
