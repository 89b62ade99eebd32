"""Recipes: what the authors published, and that every preset can be built."""

from __future__ import annotations

import pytest
import torch

from baselines import registry
from baselines.cats import PF_PASCAL_LAYERS, SPAIR_LAYERS
from baselines.recipe import PRESETS, find_recipe, override, with_backbone
from sc_imagenet.augmentation import AUGMENTATIONS
from sc_imagenet.errors import InputError


@pytest.mark.parametrize("name", [entry.name for entry in registry.cards()])
@pytest.mark.parametrize("preset", PRESETS)
def test_every_model_is_built_by_every_preset(name, preset):
    recipe = find_recipe(name, "*", preset)
    with torch.device("meta"):
        model = registry.create(name, **{**recipe.model, "pretrained": False})
    assert recipe.augmentation in AUGMENTATIONS
    assert registry.name_of(model) == name
    assert model.backbone is not None


@pytest.mark.parametrize("dataset", ["spair-71k", "pf-pascal", "sc-imagenet"])
def test_cats_is_trained_as_published(dataset):
    recipe = find_recipe("cats", dataset)
    assert (recipe.lr, recipe.backbone_lr, recipe.weight_decay) == (3e-5, 3e-6, 0.05)
    assert (recipe.batch, recipe.epochs, recipe.milestones, recipe.gamma) == (32, 100, (70, 80, 90), 0.5)
    assert (recipe.augmentation, recipe.points, recipe.backbone_batchnorm) == ("cats", 40, "train")
    assert recipe.model["size"] == 256
    layers = PF_PASCAL_LAYERS if dataset == "pf-pascal" else SPAIR_LAYERS
    assert tuple(recipe.model["layers"]) == layers


@pytest.mark.parametrize(("dataset", "context", "start"), [("spair-71k", 7, 4), ("pf-pascal", 13, 60)])
def test_scorrsan_is_trained_as_published(dataset, context, start):
    recipe = find_recipe("scorrsan", dataset)
    assert (recipe.lr, recipe.backbone_lr, recipe.weight_decay) == (3e-5, 3e-6, 0.05)
    assert (recipe.batch, recipe.epochs, recipe.augmentation) == (16, 150, "photometric")
    assert (recipe.model["networks"], recipe.model["context"], recipe.model["pseudo_start"]) == (2, context, start)


@pytest.mark.parametrize(
    ("dataset", "lr", "batch", "confidence", "dynamic"),
    [("spair-71k", 1e-6, 8, 0.5, True), ("pf-pascal", 3e-5, 4, 0.9, False)],
)
def test_semimatch_is_trained_as_published(dataset, lr, batch, confidence, dynamic):
    recipe = find_recipe("semimatch", dataset)
    assert (recipe.lr, recipe.backbone_lr, recipe.weight_decay, recipe.batch) == (lr, 3e-6, 0.05, batch)
    assert (recipe.milestones, recipe.gamma, recipe.augmentation) == ((150, 220), 0.5, "semimatch")
    arguments = {name: recipe.model[name] for name in ("temperature", "confidence", "keyout", "dynamic")}
    assert arguments == {"temperature": 0.1, "confidence": confidence, "keyout": 0.2, "dynamic": dynamic}


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
