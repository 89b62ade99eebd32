"""Models by name. A model registers itself with ``@register``; its file carries its name.

Files are imported when a model is asked for, so that naming one model does not import them all.
"""

from __future__ import annotations

import importlib
import inspect
import pkgutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeVar, get_args, get_origin, get_type_hints

from baselines.matcher import Matcher
from baselines.weights import CONFIG, FILES, read_config
from sc_imagenet.core.errors import InputError, unknown_name
from sc_imagenet.core.hub import fetch

M = TypeVar("M", bound=type[Matcher])

LARGEST = 1 << 14  # of any number that a model is built from: sides of images, channels, layers
SMALLEST = 16  # pixels of a side: no backbone sees anything in less


@dataclass(frozen=True)
class ModelCard:
    """What ``scbench models`` prints of a model, and what the paper's tables know of it."""

    name: str  # hyphenated, as typed after ``scbench run``
    title: str  # as the paper's tables print it
    paper: str
    licence: str  # of the authors' code and weights
    supervision: str  # "none", "weak", "keypoints", "semi"
    backbone: str  # default backbone, timm's name
    model: type[Matcher]


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
) -> Callable[[M], M]:
    """Class decorator that enters a ``Matcher`` under ``name``; its file is ``baselines/<name>.py``."""

    def enter(model: M) -> M:
        model.card = _CARDS[name] = ModelCard(name, title, paper, licence, supervision, backbone, model)
        return model

    return enter


def card(name: str) -> ModelCard:
    """The card of a model, its file imported if it was not.

    Raises:
        InputError: no model is called so (the message lists the names).
    """
    wanted = name.strip().lower().replace("_", "-")
    if wanted not in _CARDS:
        module = wanted.replace("-", "_")
        if module.isidentifier() and module in {found.name for found in pkgutil.iter_modules(_FOLDER)}:
            importlib.import_module(f"baselines.{module}")
    if wanted not in _CARDS and wanted not in (known := [entry.name for entry in cards()]):
        raise unknown_name("model", name, known)
    return _CARDS[wanted]


def cards() -> list[ModelCard]:
    """All models, by name; imports every file of ``baselines``."""
    for found in pkgutil.iter_modules(_FOLDER):
        importlib.import_module(f"baselines.{found.name}")
    return [_CARDS[name] for name in sorted(_CARDS)]


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
    folder = fetch(name_or_path, FILES, revision=options.pop("revision", None), token=options.pop("token", None))
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
    if "pretrained" not in inspect.signature(model.__init__).parameters:
        arguments.pop("pretrained", None)  # a model without a backbone
    try:
        return model(**arguments)
    except TypeError as error:
        if "unexpected keyword argument" not in str(error):
            raise
        raise InputError(str(error).split(".")[-1], where=f"model {name!r}") from error


def create_from_outside(name: str, arguments: Mapping[str, Any], where: object) -> Matcher:
    """Build a model of arguments that a person typed or a stranger wrote.

    Raises:
        InputError: as ``create``, and whatever else comes of them, in one line that begins with ``where``.
    """
    try:
        _check_numbers(arguments)
        matcher = create(name, **arguments)
    except InputError:
        raise
    except Exception as error:  # a constructor given values of another kind may raise anything at all
        reason = (str(error) or type(error).__name__).splitlines()[0][:200]
        raise InputError(f"says how to build a {name} that cannot be built ({reason})", where=where) from error
    if not isinstance(matcher.size, int) or matcher.size < SMALLEST:
        raise InputError(f"size = {matcher.size!r} is no side of an image, at least {SMALLEST} pixels", where=where)
    return matcher


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
        elif type(value) is not kind and (kind, type(value)) != (float, int):
            raise InputError(f"{name}'s {argument}={value!r} is not of the kind of its default, {default!r}")
    return found


def _check_numbers(value: Any) -> None:
    """Raise ValueError for a number with which no model could be built in any memory."""
    if isinstance(value, (int, float)) and not abs(value) <= LARGEST:
        raise ValueError(f"{value!r:.40} is too large")
    if isinstance(value, (list, tuple, Mapping)):
        for inside in value.values() if isinstance(value, Mapping) else value:
            _check_numbers(inside)
