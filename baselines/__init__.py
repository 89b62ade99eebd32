"""The models: one readable file each, one interface, one table of recipes.

>>> import baselines
>>> model = baselines.load_model("nearest", backbone="tf_efficientnet_lite0")
>>> isinstance(model, baselines.Matcher), model.size, model.direction
(True, 320, 'forward')

A trained one is ``load_model("cats", "a run, their authors' file, OWNER/NAME")`` or ``load_model("OWNER/NAME")``. A
model of your own is a child of ``Matcher`` under ``@register``, and how it is trained a function that returns a
``Recipe`` under ``@recipe``:

>>> @baselines.recipe("my-model", preset="tiny")
... def tiny() -> baselines.Recipe:
...     return baselines.Recipe(lr=1e-3, batch=16, epochs=2)

Importing this package imports no ``torch``.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from baselines.recipe import Recipe, recipe  # now, so that ``baselines.recipe`` is the decorator and never its file

if TYPE_CHECKING:
    from baselines.checkpoints import load_model
    from baselines.matcher import Matcher
    from baselines.registry import register

__all__ = ["Matcher", "Recipe", "load_model", "recipe", "register"]

_FILES = {
    "Matcher": "baselines.matcher",
    "load_model": "baselines.checkpoints",
    "register": "baselines.registry",
}


def __getattr__(name: str) -> Any:
    if name in _FILES:
        return getattr(import_module(_FILES[name]), name)
    raise AttributeError(f"module 'baselines' has no attribute {name!r}")
