"""The data of semantic correspondence under one schema, and the generator that makes more of it.

>>> import sc_imagenet
>>> pair = sc_imagenet.load_dataset("toy", split="test")[0]
>>> pair["source"].mode, len(pair["source_points"]) == len(pair["target_points"])  # in pixels of the images
('RGB', True)
>>> try:
...     sc_imagenet.load_dataset("spair-72k")
... except sc_imagenet.InputError as error:  # whatever a person can mend, in one line
...     print(error)
unknown data set 'spair-72k'. Did you mean 'spair-71k'? Valid: ...

``datasets`` itself knows the names, too:

>>> import datasets
>>> datasets.get_dataset_config_names("sc_imagenet")
['pairs', 'images', 'toy']

Importing this package imports neither ``datasets`` nor ``torch``.
"""

from __future__ import annotations

from importlib import import_module

from sc_imagenet.data import datasets_plugin

TYPE_CHECKING = False  # as typing's, whose import would take a third of this package's
if TYPE_CHECKING:
    from typing import Any

    from sc_imagenet.core.errors import InputError
    from sc_imagenet.data.load import load_dataset

__all__ = ["InputError", "load_dataset"]

_FILES = {"InputError": "sc_imagenet.core.errors", "load_dataset": "sc_imagenet.data.load"}

datasets_plugin.install()


def __getattr__(name: str) -> Any:
    if name in _FILES:
        return getattr(import_module(_FILES[name]), name)
    raise AttributeError(f"module 'sc_imagenet' has no attribute {name!r}")
