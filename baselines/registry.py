"""Models by name. A model registers itself with ``@register``; its file has its name and holds all that is known of it.

Files are imported when a model is asked for, so that naming one model does not import them all. Models of installed
packages and of included files are found in the same way (``sc_imagenet/core/plugins.py``).
"""

from __future__ import annotations

import importlib
import inspect
import pkgutil
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, TypeVar, get_args, get_origin, get_type_hints

from baselines.matcher import Matcher
from baselines.protocol import PublishedProtocol
from baselines.recipe import ANY, PRESETS, RECIPES, ListedRecipe, Recipe
from baselines.weights import CONFIG, FILES, read_config
from sc_imagenet.core.errors import InputError, unknown_name
from sc_imagenet.core.hub import fetch_repository
from sc_imagenet.core.plugins import MODELS, included_modules, installed_modules

M = TypeVar("M", bound=type[Matcher])

NAME = "[a-z0-9][a-z0-9-]*"
STEP_DEVICE = "one NVIDIA H100 80GB HBM3, fp32"  # that steps were timed on, with 'scbench speed'
LARGEST = 1 << 14  # of any number that a model is built from: sides of images, channels, layers
SMALLEST = 16  # pixels of a side: no backbone sees anything in less


@dataclass(frozen=True)
class ModelCard:
    """What ``scbench models`` prints of a model, and what the paper's tables know of it."""

    name: str  # hyphenated, as typed after ``scbench run``
    title: str  # as the paper's tables print it
    paper: str
    licence: str  # of the authors' code and weights
    supervision: str  # "none", "self", "weak", "pseudo", "keypoints", "semi"
    backbone: str  # default backbone, timm's name
    model: type[Matcher]
    protocol: PublishedProtocol | None = None  # how its authors scored it; None where no paper did
    step_seconds: Mapping[str, float] = field(default_factory=dict)  # of the paper's recipe, by data set or ANY
    trained_on: tuple[str, ...] = ()  # data sets that the authors' weights are of, one or several each

    @property
    def year(self) -> int | None:
        """Of the paper; None where there is none."""
        found = re.findall(r"\b(?:19|20)\d\d\b", self.paper)
        return int(found[-1]) if found else None


_CARDS: dict[str, ModelCard] = {}
_FOLDER = [str(Path(__file__).parent)]  # whose files are the models


def register(
    name: str,
    *,
    title: str,
    paper: str,
    licence: str,
    supervision: str,
    backbone: str,
    protocol: PublishedProtocol | None = None,
    step_seconds: Mapping[str, float] | None = None,
    trained_on: tuple[str, ...] = (),
) -> Callable[[M], M]:
    """Class decorator that enters a ``Matcher`` under ``name``; its file is ``baselines/<name>.py``, or a stranger's.

    Args:
        name: hyphenated.
        title: as the paper's tables print it.
        paper: authors, venue and year.
        licence: of the authors' code and weights.
        supervision: "none", "self", "weak", "pseudo", "keypoints" or "semi".
        backbone: the default, timm's name.
        protocol: how its authors scored it; None: in its own frame and direction.
        step_seconds: of a training step by the paper's recipe on ``STEP_DEVICE``, by data set or ``ANY``.
        trained_on: data sets that the authors' weights are of, one or several each.

    Raises:
        InputError: a model of another file has the name, or it is not a name.
    """

    def enter(model: M) -> M:
        if not re.fullmatch(NAME, name):
            raise InputError(f"a model is called {name!r}", where=model.__module__, fix="Write a-z, 0-9 and hyphens.")
        first = _CARDS[name].model.__module__ if name in _CARDS else _file_of(name)
        if first not in (None, model.__module__):
            fix = "Give it another name."
            raise InputError(f"registers a model as {name!r}, as {first} does", where=model.__module__, fix=fix)
        known = (title, paper, licence, supervision, backbone, model, protocol, step_seconds or {}, trained_on)
        model.card = _CARDS[name] = ModelCard(name, *known)
        return model

    return enter


def card(name: str) -> ModelCard:
    """The card of a model, its file imported if it was not.

    Raises:
        InputError: no model is called so (the message lists the names).
    """
    found = find(name)
    if found is None:
        raise unknown_name("model", name, [entry.name for entry in cards()])
    return found


def find(name: str) -> ModelCard | None:
    """The card of a model, None where none is called so; of our models only the one of the name is imported.

    Raises:
        InputError: an included file or an installed package cannot be used.
    """
    wanted = name.strip().lower().replace("_", "-")
    if wanted not in _CARDS and (file := _file_of(wanted)) is not None:
        importlib.import_module(file)
    if wanted not in _CARDS:
        import_others()
    return _CARDS.get(wanted)


def cards() -> list[ModelCard]:
    """All models, by name; imports every file of ``baselines``.

    Raises:
        InputError: an included file or an installed package cannot be used.
    """
    for found in pkgutil.iter_modules(_FOLDER):
        importlib.import_module(f"baselines.{found.name}")
    import_others()
    return [_CARDS[name] for name in sorted(_CARDS)]


def names_of(module: str) -> list[str]:
    """The models that a module registered."""
    return [name for name, entry in _CARDS.items() if entry.model.__module__ == module]


def import_others() -> None:
    """Import the included files and the installed packages that hold models, which register themselves.

    Raises:
        InputError: one of them cannot be imported.
    """
    included_modules()
    installed_modules(MODELS)


def _file_of(name: str) -> str | None:
    """The module of ``baselines`` that has the name of a model; None if there is none."""
    module = name.replace("-", "_")
    known = module.isidentifier() and module in {found.name for found in pkgutil.iter_modules(_FOLDER)}
    return f"baselines.{module}" if known else None


def name_of(matcher: Matcher) -> str:
    """The name a model is registered under.

    Raises:
        InputError: it is not registered.
    """
    for entry in _CARDS.values():
        if type(matcher) is entry.model:
            return entry.name
    raise InputError(f"{type(matcher).__name__} is not a registered model")


def from_pretrained(name_or_path: str | Path, **options: Any) -> Matcher:
    """Whichever model a folder of ``save_pretrained`` or a repository OWNER/NAME of the Hub holds.

    Args:
        name_or_path: the folder, or the repository.
        options: as for ``Matcher.from_pretrained``.

    Raises:
        InputError: it cannot be had, does not say which model it is, or does not fit it.
    """
    folder = fetch_repository(
        name_or_path, FILES, revision=options.pop("revision", None), token=options.pop("token", None)
    )
    name, _ = read_config(folder / CONFIG)
    if name is None:
        raise InputError(
            f"{CONFIG} does not say which model this is",
            where=name_or_path,
            fix="Load it with the model's own class, such as CATs.from_pretrained.",
        )
    return card(name).model.from_pretrained(folder, **options)


def create(name: str, **arguments: Any) -> Matcher:
    """Build a model.

    >>> create("nearest", backbone="resnet10t", pretrained=False).direction
    'forward'

    Raises:
        InputError: unknown model, or an argument that the model does not take.
    """
    model = card(name).model
    _, *taken = inspect.signature(model.__init__).parameters
    if "pretrained" not in taken:
        arguments.pop("pretrained", None)  # a model without a backbone
    if unknown := sorted(set(arguments) - set(taken)):
        raise unknown_name(f"argument of {name}", unknown[0], taken)
    return model(**arguments)


def create_from_outside(name: str, arguments: Mapping[str, Any], where: object) -> Matcher:
    """Build a model of arguments that a person typed or a stranger wrote.

    Raises:
        InputError: as ``create``, and whatever else comes of them, in one line that begins with ``where``.
    """
    try:
        _check_numbers(arguments)
        _check_size(arguments.get("size", SMALLEST), where)
        matcher = create(name, **arguments)
    except InputError:
        raise
    except Exception as error:  # a constructor given values of another kind may raise anything at all
        reason = (str(error) or type(error).__name__).splitlines()[0][:200]
        raise InputError(f"says how to build a {name} that cannot be built ({reason})", where=where) from error
    _check_size(matcher.size, where)
    return matcher


def find_recipe(model: str, dataset: str, preset: str = "paper") -> Recipe:
    """The recipe of a model for a data set: the one made for it, else the model's recipe for any.

    Of ``synthetic:NAME`` it is the one for "synthetic", whatever photographs are named.

    Raises:
        InputError: unknown preset, or the model has no recipe for it.
    """
    if preset not in PRESETS:
        raise unknown_name("preset", preset, PRESETS)
    find(model)
    for key in ((model, dataset.partition(":")[0], preset), (model, ANY, preset)):
        if key in RECIPES:
            return RECIPES[key]()
    raise InputError(
        f"{model} has no {preset!r} recipe for {dataset}",
        fix=f"It has: {', '.join(sorted(f'{p} on {d}' for m, d, p in RECIPES if m == model)) or 'none'}",
    )


def recipes_of(model: str) -> list[ListedRecipe]:
    """All recipes of a model: by preset, those for any data last."""
    find(model)
    entered = [(key, make) for key, make in RECIPES.items() if key[0] == model]
    entered.sort(key=lambda entry: (PRESETS.index(entry[0][2]), entry[0][1] == ANY, entry[0][1]))
    return [
        ListedRecipe(dataset, preset, make(), " ".join(inspect.cleandoc(make.__doc__ or "").split()).replace("``", "`"))
        for (_, dataset, preset), make in entered
    ]


def training_arguments(name: str, arguments: Mapping[str, Any]) -> dict[str, Any]:
    """What only training reads of a model, as ``arguments`` have it, else as it is by default.

    >>> training_arguments("scorrsan", {"size": 256, "pseudo_start": 60})
    {'pseudo_start': 60}

    Raises:
        InputError: unknown model, or a value of another kind.
    """
    model = card(name).model
    parameters, hints = inspect.signature(model.__init__).parameters, get_type_hints(model.__init__)
    found = {}
    for argument in model.training_arguments:
        default, kind = parameters[argument].default, hints[argument]
        value = found[argument] = arguments.get(argument, default)
        if get_origin(kind) is Literal:
            if value not in get_args(kind):
                raise unknown_name(f"{name}'s {argument}", str(value), get_args(kind))
        elif type(value) is not (plain := get_origin(kind) or kind) and (plain, type(value)) != (float, int):
            raise InputError(f"{name}'s {argument}={value!r} is not of the kind of its default, {default!r}")
    return found


def _check_size(size: object, where: object) -> None:
    if not isinstance(size, int) or size < SMALLEST:
        raise InputError(f"size = {size!r} is no side of an image, at least {SMALLEST} pixels", where=where)


def _check_numbers(value: Any) -> None:
    """Raise ValueError for a number with which no model could be built in any memory."""
    if isinstance(value, (int, float)) and not abs(value) <= LARGEST:
        raise ValueError(f"{value!r:.40} is too large")
    if isinstance(value, (list, tuple, Mapping)):
        for inside in value.values() if isinstance(value, Mapping) else value:
            _check_numbers(inside)
