"""A recipe says how a model is built and trained on a data set; one frozen dataclass, many small tables."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields, replace
from typing import Any, Literal, get_args, get_origin, get_type_hints

from sc_imagenet.core.command import value_of
from sc_imagenet.core.errors import InputError, unknown_name

PRESETS = ("paper", "small", "tiny")
ANY = "*"
SYNTHETIC = "synthetic"  # photographs that are paired with warps of themselves, whosever they are
STAGES = ("pretrain", "finetune")
LEAST = {"batch": 1, "epochs": 1, "validate_every": 1, "points": 1, "share": 1e-6}  # of what is set; of all else 0


@dataclass(frozen=True)
class Recipe:
    """How a model is built and trained; every field can be set with ``--set recipe.<field>=<value>``.

    Of the arguments in ``model`` those that only training reads (``Matcher.training_arguments``) hold for the stage
    that the recipe is of; a run of two stages builds its one model by the last stage's others.
    """

    model: Mapping[str, Any] = field(default_factory=dict)  # arguments of the model's constructor
    optimiser: Literal["adamw", "adam", "sgd"] = "adamw"
    lr: float = 3e-5
    backbone_lr: float = 3e-6  # 0 freezes the backbone's weights
    frozen: tuple[str, ...] = ()  # beginnings of the names of further parameters that are not trained
    weight_decay: float = 0.0
    momentum: float = 0.0  # sgd only
    batch: int = 32  # pairs a step, over all processes
    epochs: int = 100
    share: float = 1.0  # of the training pairs; which ones is drawn by the run's seed
    schedule: Literal["step", "cosine", "one-cycle"] = "step"
    milestones: tuple[int, ...] = ()  # "step": epochs before which every rate is multiplied by gamma
    gamma: float = 0.5
    warmup: int = 0  # steps of linear warm-up
    validate_every: int = 1  # epochs
    validation: Literal["strict", "paper"] = "strict"  # its PCK@0.1 chooses the weights
    augmentation: str = "none"  # a name of sc_imagenet.data.augmentation
    points: int = 40  # most points of a pair; further ones are left out
    backbone_batchnorm: Literal["train", "eval"] = "train"  # statistics of the batch, or the stored ones
    clip_gradient: float = 0.0  # largest gradient norm; 0 does not clip


# By model, data set and preset; whoever reads it imports the model first (``baselines.registry.find_recipe``).
RECIPES: dict[tuple[str, str, str], Callable[[], Recipe]] = {}


def recipe(
    model: str, dataset: str = ANY, preset: str = "paper"
) -> Callable[[Callable[[], Recipe]], Callable[[], Recipe]]:
    """Decorator that enters a function returning a ``Recipe``; its docstring: command, cost, expected PCK."""

    def enter(function: Callable[[], Recipe]) -> Callable[[], Recipe]:
        RECIPES[model, dataset, preset] = function
        return function

    return enter


@dataclass(frozen=True)
class ListedRecipe:
    """A recipe with what its table says of it."""

    dataset: str  # of the catalogue, or ANY
    preset: str
    recipe: Recipe
    text: str  # the docstring: command, cost, expected PCK

    @property
    def about(self) -> str:
        """The data it is for, in words."""
        return "any data" if self.dataset == ANY else self.dataset


def with_backbone(arguments: Mapping[str, Any], backbone: str | None) -> dict[str, Any]:
    """A model's arguments with another backbone, if one is given.

    ``layers`` are numbers of the backbone they were written for: another one is read at its own default layers.

    >>> with_backbone({"backbone": "resnet101.tv_in1k", "layers": [0, 8], "size": 256}, "resnet18")
    {'backbone': 'resnet18', 'size': 256}
    """
    if backbone is None or backbone == arguments.get("backbone"):
        return dict(arguments)
    return {**{key: value for key, value in arguments.items() if key != "layers"}, "backbone": backbone}


def override(base: Recipe, settings: Mapping[str, str], stage: str | None = None) -> Recipe:
    """A recipe with fields replaced by text values, as given by ``--set recipe.lr=1e-4``.

    ``recipe.model.<argument>`` sets an argument of the model's constructor. ``pretrain.<field>`` and
    ``finetune.<field>`` count for that stage alone. Values are read as JSON, else kept as text.

    >>> override(Recipe(), {"recipe.lr": "0.1", "recipe.milestones": "[3, 5]"}).milestones
    (3, 5)
    >>> override(Recipe(), {"recipe.epochs": "9", "finetune.epochs": "3"}, "finetune").epochs
    3

    Raises:
        InputError: no such field, or a value of another type or out of its range.
    """
    for key, text in sorted(settings.items(), key=lambda item: item[0].split(".")[0] in STAGES):
        head, _, name = key.partition(".")
        if head not in ("recipe", *STAGES) or not name:
            raise unknown_name("setting", key, [f"recipe.{f.name}" for f in fields(Recipe)])
        if head not in ("recipe", stage):
            continue
        value = value_of(text)
        if name.startswith("model."):
            base = replace(base, model={**base.model, name.removeprefix("model."): value})
            continue
        known = {f.name: f for f in fields(Recipe)}
        if name not in known or name == "model":
            raise unknown_name("setting", key, [f"recipe.{f}" for f in known if f != "model"] + ["recipe.model.NAME"])
        old = getattr(base, name)
        if isinstance(old, tuple) and isinstance(value, list):
            value = tuple(value)
        if isinstance(old, float) and isinstance(value, int) and not isinstance(value, bool):
            value = float(value)
        if type(value) is not type(old):
            raise InputError(f"{key}={text} is not of the kind of its default, {old!r}")
        _check(key, name, value)
        base = replace(base, **{name: value})
    return base


def _check(key: str, name: str, value: Any) -> None:
    """Raise InputError for a value of the right kind that a recipe cannot have."""
    kind = get_type_hints(Recipe)[name]
    if get_origin(kind) is Literal and value not in get_args(kind):
        raise unknown_name(key, value, get_args(kind))
    least, most = LEAST.get(name, 0), 1 if name == "share" else math.inf
    if isinstance(value, (int, float)) and not (least <= value <= most and value < math.inf):
        bounds = f"at least {least:g}" + (f" and at most {most:g}" if most < math.inf else "")
        raise InputError(f"{key}={value} must be a number of {bounds}")


LAPTOP_BACKBONE = "tf_efficientnet_lite0"
EARLY_STAGES = ("conv_stem", "bn1", *(f"blocks.{k}." for k in range(4)))


def early_stages(backbone: str = "backbone") -> tuple[str, ...]:
    """Beginnings of the names of the parameters that stay as they are.

    >>> early_stages("backbone.source")[0]
    'backbone.source.net.conv_stem'
    """
    return tuple(f"{backbone}.net.{part}" for part in EARLY_STAGES)


LAPTOP = Recipe(
    model={"backbone": LAPTOP_BACKBONE},
    lr=1e-3,
    backbone_lr=5e-4,
    frozen=early_stages(),
    weight_decay=0.05,
    batch=8,
    epochs=20,
    schedule="cosine",
    warmup=10,
    augmentation="cats",
    backbone_batchnorm="eval",
    clip_gradient=1.0,
)
